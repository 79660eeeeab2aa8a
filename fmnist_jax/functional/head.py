"""A new dense head on trained features, for other classes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.functional.interface import Params

_HEAD = "Dense_0"


def replace_head(params: Params, key: Array, num_classes: int) -> dict[str, Any]:
    """Replaces the dense head of a `make_model` network with a new one, initialised as in Flax.

    Args:
      params: of a trained network; not modified.
      key: initialises the new kernel.
      num_classes: C of the new head, for `make_model(config, num_classes=C)`.

    Returns:
      The same parameters, except those of the head: kernel f32[features, C] and bias f32[C].

    Raises:
      ValueError: the parameters have no dense head as made by this package, or are those of a population.

    Examples:
      >>> params = {"Dense_0": {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}}
      >>> fj.replace_head(params, jax.random.key(0), num_classes=5)["Dense_0"]["kernel"].shape
      (64, 5)
    """
    head = params.get(_HEAD)
    if not isinstance(head, Mapping) or "kernel" not in head:
        raise ValueError(
            f"params have {', '.join(params)} but no module {_HEAD}: expected those of a make_model network"
        )
    shape = head["kernel"].shape
    if len(shape) != 2:
        raise ValueError(
            f"the kernel of {_HEAD} has shape {list(shape)}: expected [features, classes], that of a single network"
        )
    features, _ = shape
    kernel = jax.nn.initializers.lecun_normal()(key, (features, num_classes), jnp.float32)
    return {**params, _HEAD: {"kernel": kernel, "bias": jnp.zeros(num_classes, jnp.float32)}}
