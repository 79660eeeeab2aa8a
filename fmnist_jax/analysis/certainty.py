"""When a prediction of somebody's own picture is not to be relied on, and why."""

from collections.abc import Mapping, Sequence

import numpy as np

PROBABLE = 0.65
"""A class that is less probable is doubtful.

Of 79 phone photos, on which it was chosen, `fast` (at commit b98d531) got 63 % right, and of the 33 without a doubt
85 %.
"""

CATCH_ALL = "Bag"
"""The class that networks give to most shapes that they have not seen: to cups, balls and charts."""

PROBABLE_CATCH_ALL = 0.9
"""The same threshold for `CATCH_ALL`."""

NOT_PLAIN = "background not plain"

PAIR = "a pair"

SHARES_OF_PAIRS: Mapping[str, float] = {"Sandal": 0.2, "Sneaker": 0.6, "Ankle boot": 0.2}
"""The classes of Fashion-MNIST that come in pairs, and how probable each is of a pair before a network has seen it.

Chosen, not counted: of 15 photos of shoes 10 may be called sneakers, 6 sandals and 5 boots. Sneakers get more than
that, because networks take closed shoes from above for sandals.
"""


def given_a_pair(probabilities: np.ndarray, found: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """Probabilities once it is known whether a picture shows a pair, which is of shoes if of any garment.

    Networks have seen single shoes from the side alone, and say Bag or Trouser to most pairs from above. Fashion-MNIST
    also has as many images of each class, and photos have not: the probabilities are weighted by `SHARES_OF_PAIRS`, by
    Bayes' rule for classes of other shares than in training (Saerens et al. 2002, 10.1162/089976602753284446).

    Args:
      probabilities: f[C] of one picture.
      found: what its preparation found to be difficult.
      class_names: C names.

    Returns:
      f[C]: what it was, or of a pair nothing for all classes but shoes, if there are such.
    """
    if PAIR not in found:
        return probabilities
    weighted = probabilities * np.array([SHARES_OF_PAIRS.get(name, 0.0) for name in class_names])
    total = weighted.sum()
    return weighted / total if total > 0 else probabilities


def reasons_for_doubt(probabilities: np.ndarray, found: Sequence[str], class_names: Sequence[str]) -> tuple[str, ...]:
    """Says why a prediction is unsure; nothing if it is not.

    A network's probabilities are those of garments like the ones that it was trained on. They are not calibrated for
    pictures of other kinds, and do not tell whether a picture shows a garment.

    Args:
      probabilities: f[C] of one picture.
      found: what its preparation found to be difficult. A background that is not plain is no reason in itself, because
        most such pictures are predicted well, but is told with others.
      class_names: C names.
    """
    best = int(np.argmax(probabilities))
    share = float(probabilities[best])
    reasons = [reason for reason in found if reason != NOT_PLAIN]
    if share < PROBABLE:
        reasons.append("low probability")
    elif class_names[best] == CATCH_ALL and share < PROBABLE_CATCH_ALL:
        reasons.append("any object may look like this")
    if reasons and NOT_PLAIN in found:
        reasons.append(NOT_PLAIN)
    return tuple(reasons)
