"""The outputs of a network's layers."""

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
    """The outputs of a network's layers for a batch of images."""

    layers: list[Array]
    """[B, H, W, C] each, first layer first. plain: each convolution with norm and activation. resnet: each block, and
    the final norm with its activation."""
    hidden: Array
    """[B, F]: the input features of the dense head."""


def make_activations(
    config: ModelConfig, *, image_shape: Shape = IMAGE_SHAPE, num_classes: int = NUM_CLASSES
) -> Callable[[Params, BatchStats, Array], Activations]:
    """Makes `activations(params, batch_stats, images)`, which evaluates a `make_model` network and keeps layer outputs.

    The images are floats [B, H, W, C] in [0, 1], as `normalize` returns them.

    Raises:
      ConfigError: the network cannot be built for such images.

    Raises (the activations):
      ValueError: the images are not floats.
    """
    network = make_network(config, image_shape=image_shape, num_classes=num_classes)

    def should_capture(module: Any, method: str) -> bool:
        layer = isinstance(module, BatchNorm | ResidualBlock | Dropout)
        return method == "__call__" and layer and len(module.path) == 1

    def activations(params: Params, batch_stats: BatchStats, images: Array) -> Activations:
        check_floats(images)
        variables = {"params": params, "batch_stats": batch_stats}
        _, captures = network.apply(
            variables, images, train=False, capture_intermediates=should_capture, mutable=["intermediates"]
        )
        outputs_by_name = {name: outputs["__call__"][0] for name, outputs in captures["intermediates"].items()}
        hidden = outputs_by_name.pop("Dropout_0")
        # Sorted, because Flax guarantees no order: blocks first, then the norm that ends a resnet.
        names = sorted(outputs_by_name, key=lambda name: (name.startswith("BatchNorm"), int(name.rpartition("_")[2])))
        return Activations(
            [
                jax.nn.relu(outputs_by_name[name]) if name.startswith("BatchNorm") else outputs_by_name[name]
                for name in names
            ],
            hidden,
        )

    return activations
