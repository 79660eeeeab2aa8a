"""The ten classes, and transforms of labels as pure functions."""

import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

CLASS_NAMES: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Names of the labels 0 to 9, as given by the authors of Fashion-MNIST (arXiv:1708.07747)."""

PADDING_LABEL = -1
"""Label of the rows that pad a last batch: they are ignored in every sum."""


def one_hot(labels: Array, num_classes: int = len(CLASS_NAMES)) -> Array:
    """Encodes labels i32[...] as one-hot f32[..., num_classes]; a label out of range becomes a row of zeros.

    Examples:
      >>> fj.one_hot(jnp.array([1, -1]), 3).tolist()
      [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)


def soft_labels(labels: Array, num_classes: int = len(CLASS_NAMES)) -> Array:
    """Turns labels i32[...] into soft labels f32[..., num_classes] by `one_hot`; soft labels are returned unchanged.

    Those of `PADDING_LABEL` are zeros, those of any other label out of range NaN, so that their loss is NaN, too.

    Examples:
      >>> fj.soft_labels(jnp.array([1, fj.PADDING_LABEL, 2]), 2).tolist()
      [[0.0, 1.0], [0.0, 0.0], [nan, nan]]
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return labels
    integer_labels = jnp.asarray(labels, jnp.int32)
    outside = (integer_labels < PADDING_LABEL) | (integer_labels >= num_classes)
    return jnp.where(outside[..., None], jnp.nan, one_hot(integer_labels, num_classes))


def smoothed(labels: Array, amount: float, num_classes: int = len(CLASS_NAMES)) -> Array:
    """The classes' weights with a share `amount` of them spread evenly over all classes (arXiv:1512.00567, section 7).

    Args:
      labels: i32[...], or weights f32[..., C] that sum to one.
      amount: in [0, 1].
      num_classes: C.

    Returns:
      f32[..., C]; a weight w becomes `(1 - amount) * w + amount / C`.

    Examples:
      >>> fj.smoothed(jnp.array(1), 0.5, num_classes=2).tolist()
      [0.25, 0.75]
    """
    return optax.smooth_labels(soft_labels(labels, num_classes), amount)


def class_names(labels: Sequence[int] | Array, names: Sequence[str] = CLASS_NAMES) -> list[str]:
    """Returns the name of each label i32[B].

    Raises:
      IndexError: a label outside 0..len(names)-1.
      TypeError: a label that is not a whole number.

    Examples:
      >>> fj.class_names([9, 1])
      ['Ankle boot', 'Trouser']
    """
    numbers = [operator.index(label) for label in np.asarray(labels)]
    if outside := [number for number in numbers if not 0 <= number < len(names)]:
        raise IndexError(f"a label is {outside[0]}: expected 0..{len(names) - 1}")
    return [names[number] for number in numbers]
