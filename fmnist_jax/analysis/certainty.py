"""When a prediction for a user's own picture should not be relied on, and why."""

from collections.abc import Mapping, Sequence

import numpy as np

MIN_PROBABILITY = 0.65
"""A prediction less probable than this is doubtful.

Of the 79 phone photos on which it was chosen, `fast` (at commit b98d531) classified 63 % correctly, and 85 % of the 33
that raised no doubt.
"""

CATCH_ALL = "Bag"
"""The class that networks predict for most shapes that they have not seen: cups, balls and charts."""

MIN_CATCH_ALL_PROBABILITY = 0.9
"""The same threshold for `CATCH_ALL`."""

NOT_PLAIN = "background not plain"

PAIR = "a pair"

PAIR_PRIORS: Mapping[str, float] = {"Sandal": 0.2, "Sneaker": 0.6, "Ankle boot": 0.2}
"""The classes of Fashion-MNIST that come in pairs, and the prior probability of each for a picture of a pair.

Chosen, not counted: of 15 photos of shoes, 10 may be called sneakers, 6 sandals and 5 boots. Sneakers get more than
that, because networks mistake closed shoes seen from above for sandals.
"""


def given_a_pair(probabilities: np.ndarray, found: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """The probabilities given whether a picture shows a pair, which must be shoes if it is a garment at all.

    Networks have only seen single shoes from the side, and predict Bag or Trouser for most pairs from above. Classes
    are also equally frequent in Fashion-MNIST, but not among photos. So the probabilities are weighted by
    `PAIR_PRIORS`, by Bayes' rule for other class priors than in training (Saerens et al. 2002,
    10.1162/089976602753284446).

    Args:
      probabilities: f[C] of one picture.
      found: the difficulties that its preparation found.
      class_names: C names.

    Returns:
      f[C]: unchanged without a pair, or if no class of shoes is possible; otherwise 0 for all classes but shoes.
    """
    if PAIR not in found:
        return probabilities
    weighted = probabilities * np.array([PAIR_PRIORS.get(name, 0.0) for name in class_names])
    total = weighted.sum()
    return weighted / total if total > 0 else probabilities


def reasons_for_doubt(probabilities: np.ndarray, found: Sequence[str], class_names: Sequence[str]) -> tuple[str, ...]:
    """Says why a prediction is doubtful; returns () if it is not.

    A network's probabilities hold for garments like those that it was trained on. They are not calibrated for
    pictures of other kinds, and do not tell whether a picture shows a garment.

    Args:
      probabilities: f[C] of one picture.
      found: the difficulties that its preparation found. A background that is not plain is no reason by itself, because
        most such pictures are classified correctly, but is reported along with other reasons.
      class_names: C names.
    """
    best = int(np.argmax(probabilities))
    share = float(probabilities[best])
    reasons = [reason for reason in found if reason != NOT_PLAIN]
    if share < MIN_PROBABILITY:
        reasons.append("low probability")
    elif class_names[best] == CATCH_ALL and share < MIN_CATCH_ALL_PROBABILITY:
        reasons.append("any object may look like this")
    if reasons and NOT_PLAIN in found:
        reasons.append(NOT_PLAIN)
    return tuple(reasons)
