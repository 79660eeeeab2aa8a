"""A network as a pair of pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import Array

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.networks import IMAGE_SHAPE, NUM_CLASSES, Shape, make_network
from fmnist_jax.functional.pixels import check_floats

Params = Mapping[str, Any]
BatchStats = Mapping[str, Any]


class Apply(Protocol):
    """The forward pass of a `Model`."""

    def __call__(
        self, params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        """Returns logits f32[B, C] for floats [B, H, W, channels] in [0, 1], and the batch statistics to keep.

        With `train`, normalises by the batch, drops units by `key`, and returns updated statistics;
        without it, normalises by `batch_stats` and returns them as they came. There it needs no key; given one, it
        drops units by it all the same (Gal & Ghahramani 2016, arXiv:1506.02142: Monte Carlo dropout). The networks here
        refuse images that are not floats with a ValueError.
        """
        ...


class Init(Protocol):
    """The initialiser of a `Model`."""

    def __call__(self, key: Array) -> tuple[Params, BatchStats]:
        """Returns fresh `params` and `batch_stats`, all float32."""
        ...


class Model(NamedTuple):
    """A network as two pure functions, like an optax transformation: any such pair can be trained."""

    init: Init
    apply: Apply


def make_model(
    config: ModelConfig,
    *,
    image_shape: Shape = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    frozen: Callable[[str], bool] | None = None,
) -> Model:
    """Builds the network that `config` describes, for images and classes as a `Dataset` says them.

    Args:
      config: of the network; its `dropout` and `stochastic_depth` may be traced.
      image_shape: H, W and channels.
      num_classes: C.
      frozen: tells by its path, such as "BatchNorm_0" or "ResidualBlock_2/BatchNorm_0", whether a norm keeps its
        running statistics and normalises by them in training too; with `optax.set_to_zero`, that freezes a layer.

    Raises:
      ConfigError: the family has another name than `ModelConfig` lists, or the stages halve such images to nothing.
    """
    network = make_network(config, image_shape=image_shape, num_classes=num_classes, frozen=frozen)

    def init(key: Array) -> tuple[Params, BatchStats]:
        variables = network.init(key, jnp.zeros((1, *image_shape)), train=False)
        return variables["params"], variables["batch_stats"]

    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        check_floats(images)
        variables = {"params": params, "batch_stats": batch_stats}
        rngs = {} if key is None else {"dropout": key}
        if not train:
            logits: Array = network.apply(variables, images, train=False, rngs=rngs)  # type: ignore[assignment]
            return logits, batch_stats
        logits, updates = network.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    return Model(init, apply)
