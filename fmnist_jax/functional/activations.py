"""What the layers of a network make of images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import (
    IMAGE_SHAPE,
    NUM_CLASSES,
    BatchNorm,
    Dropout,
    ResidualBlock,
    Shape,
    make_network,
)
from fmnist_jax.functional.pixels import check_floats


class Activations(NamedTuple):
    """What the layers of a network make of a batch of images."""

    layers: list[Array]
    """[B, H, W, C] each, first layer first: a convolution with its norm and activation in plain, a block in resnet."""
    hidden: Array
    """[B, F]: the features that the dense head reads."""


def make_activations(
    config: ModelConfig, *, image_shape: Shape = IMAGE_SHAPE, num_classes: int = NUM_CLASSES
) -> Callable[[Params, BatchStats, Array], Activations]:
    """Makes `activations(params, batch_stats, images)`, which evaluates what `make_model` makes and keeps what passes.

    The images are floats [B, H, W, C] in [0, 1], as `normalize` makes them of bytes.

    Raises (the activations):
      ValueError: the images are not floats.
    """
    network = make_network(config, image_shape=image_shape, num_classes=num_classes)

    def captured(module: Any, method: str) -> bool:
        layer = isinstance(module, BatchNorm | ResidualBlock | Dropout)
        return method == "__call__" and layer and len(module.path) == 1

    def activations(params: Params, batch_stats: BatchStats, images: Array) -> Activations:
        check_floats(images)
        variables = {"params": params, "batch_stats": batch_stats}
        _, captures = network.apply(
            variables, images, train=False, capture_intermediates=captured, mutable=["intermediates"]
        )
        found = {name: outputs["__call__"][0] for name, outputs in captures["intermediates"].items()}
        hidden = found.pop("Dropout_0")
        # Sorted, because Flax promises no order: blocks, and after them the norm that ends a resnet.
        names = sorted(found, key=lambda name: (name.startswith("BatchNorm"), int(name.rpartition("_")[2])))
        return Activations(
            [jax.nn.relu(found[name]) if name.startswith("BatchNorm") else found[name] for name in names], hidden
        )

    return activations
