"""The convolutional networks, each as a pair of pure functions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional import layers

Params = Mapping[str, Any]
BatchStats = Mapping[str, Any]

Shape = tuple[int, int, int]
"""Height, width and channels."""

IMAGE_SHAPE, NUM_CLASSES = (28, 28, 1), 10  # of Fashion-MNIST


class Apply(Protocol):
    """The forward pass of a `Model`."""

    def __call__(
        self, params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        """Returns logits f32[B, C] for float images [B, H, W, channels], and the batch statistics to keep.

        With `train`, normalises by the batch, drops units by `key`, and returns updated statistics;
        without it, normalises by `batch_stats`, needs no key, and returns `batch_stats` as they came.
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


class Activations(NamedTuple):
    """What the layers of a network make of a batch of images."""

    layers: list[Array]
    """[B, H, W, C] each, first layer first: a convolution with its norm and activation in plain, a block in resnet."""
    hidden: Array
    """[B, F]: the features that the dense head reads."""


class Conv(nn.Module):
    """A convolution without bias, computing in `dtype` with float32 parameters."""

    features: int
    dtype: jnp.dtype
    operation: Callable[[Array, Array], Array] = layers.conv
    size: int = 3
    initializer: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, C] to what `operation` makes of it and a kernel [size, size, C, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.initializer, shape, jnp.float32)
        return self.operation(x.astype(self.dtype), kernel.astype(self.dtype))


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics in float32, for [B, H, W, C]."""

    momentum: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises by the batch with `train`, else by the running statistics."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if not train:
            factor = scale * jax.lax.rsqrt(running_var.value + layers.EPSILON)
            shift = bias - running_mean.value * factor
            y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
            return y.astype(x.dtype)
        y, mean, variance = layers.batch_norm(x, scale, bias)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * variance
        return y


class ConvNet(nn.Module):
    """Stages of convolutions, each halving the image after its first one, then a dense head.

    Pooling before the normalisation gives every later operation of the stage a quarter of the pixels; the
    order convolution, pooling, normalisation, activation is that of Jordan 2024 (arXiv:2404.00498).
    """

    config: ModelConfig
    num_classes: int

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps float images [B, H, W, channels] to logits f32[B, num_classes]."""
        dtype = jnp.dtype(self.config.dtype)
        x = images.astype(dtype)
        for width, depth in zip(self.config.widths, self.config.depths, strict=True):
            for layer in range(depth):
                x = Conv(width, dtype, layers.conv if layer else layers.conv_max_pool)(x)
                x = nn.relu(BatchNorm(self.config.batch_norm_momentum)(x, train))
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.config.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, dtype=dtype)(x).astype(jnp.float32)


class ResidualBlock(nn.Module):
    """Normalisation, activation and convolution, twice, added to the input (He et al. 2016, arXiv:1603.05027).

    The last kernel starts at 0, so that the block starts as its shortcut, as in Zhang et al. 2019 (arXiv:1901.09321).
    The scale of the last norm cannot do that here: the activation after it would pass no gradient back.
    """

    features: int
    halve: bool
    skipped: float
    momentum: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H, W, features], or to half the height and width with `halve`.

        In training, `skipped` of the images take the shortcut alone (Huang et al. 2016, arXiv:1603.09382), and the
        others a residual that makes up for it, so that evaluation needs no factor.
        """
        pool = partial(nn.avg_pool, window_shape=(2, 2), strides=(2, 2)) if self.halve else lambda x: x
        first_conv = layers.conv_avg_pool if self.halve else layers.conv
        normal = nn.relu(BatchNorm(self.momentum)(x, train))
        # Pooling before the projection loses no pixel (He et al. 2018, arXiv:1812.01187, ResNet-D).
        same = x.shape[-1] == self.features
        shortcut = pool(x) if same else Conv(self.features, self.dtype, size=1)(pool(normal))
        y = Conv(self.features, self.dtype, first_conv)(normal)
        y = nn.relu(BatchNorm(self.momentum)(y, train))
        y = Conv(self.features, self.dtype, initializer=nn.initializers.zeros)(y)
        y = nn.Dropout(self.skipped, broadcast_dims=(1, 2, 3), deterministic=not train)(y)
        return shortcut + y


class ResNet(nn.Module):
    """A convolution, stages of residual blocks, the mean of all pixels, and a dense head.

    A pooled stem halves the image by maxima, each stage but the first by means.
    """

    config: ModelConfig
    num_classes: int

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps float images [B, H, W, channels] to logits f32[B, num_classes]."""
        config, dtype, blocks = self.config, jnp.dtype(self.config.dtype), sum(self.config.depths)
        stem = layers.conv_max_pool if config.stem == "pooled" else layers.conv
        x = Conv(config.widths[0], dtype, stem)(images)
        number = 0
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            for layer in range(depth):
                number += 1
                skipped = config.stochastic_depth * number / blocks
                halve = stage > 0 and layer == 0
                x = ResidualBlock(width, halve, skipped, config.batch_norm_momentum, dtype)(x, train)
        x = nn.relu(BatchNorm(config.batch_norm_momentum)(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


_FAMILIES = {"plain": ConvNet, "resnet": ResNet}


def _network(config: ModelConfig, image_shape: Shape, num_classes: int) -> nn.Module:
    stages, (height, width, _) = len(config.widths), image_shape
    if not min(height, width) >> stages - (config.family == "resnet" and config.stem == "full"):
        raise ConfigError(f"--model.widths has {stages} stages, which halve {height}x{width} to nothing: choose fewer")
    return _FAMILIES[config.family](config, num_classes)


def make_model(config: ModelConfig, *, image_shape: Shape = IMAGE_SHAPE, num_classes: int = NUM_CLASSES) -> Model:
    """Builds the network that `config` describes, for images and classes as a `Dataset` says them.

    Raises:
      ConfigError: the stages halve images of that shape to nothing.
    """
    network = _network(config, image_shape, num_classes)

    def init(key: Array) -> tuple[Params, BatchStats]:
        variables = network.init(key, jnp.zeros((1, *image_shape)), train=False)
        return variables["params"], variables["batch_stats"]

    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        variables = {"params": params, "batch_stats": batch_stats}
        if not train:
            logits: Array = network.apply(variables, images, train=False)  # type: ignore[assignment]
            return logits, batch_stats
        rngs = {} if key is None else {"dropout": key}
        logits, updates = network.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    return Model(init, apply)


def make_activations(
    config: ModelConfig, *, image_shape: Shape = IMAGE_SHAPE, num_classes: int = NUM_CLASSES
) -> Callable[[Params, BatchStats, Array], Activations]:
    """Makes `activations(params, batch_stats, images)`, which evaluates what `make_model` makes and keeps what passes.

    The images are floats in [0, 1], as `apply` takes them.
    """
    network = _network(config, image_shape, num_classes)

    def captured(module: nn.Module, method: str) -> bool:
        layer = isinstance(module, BatchNorm | ResidualBlock | nn.Dropout)
        return method == "__call__" and layer and len(module.path) == 1

    def activations(params: Params, batch_stats: BatchStats, images: Array) -> Activations:
        variables = {"params": params, "batch_stats": batch_stats}
        _, captures = network.apply(
            variables, images, train=False, capture_intermediates=captured, mutable=["intermediates"]
        )
        found = {name: outputs["__call__"][0] for name, outputs in captures["intermediates"].items()}
        hidden = found.pop("Dropout_0")
        # Sorted, because Flax promises no order: blocks, and after them the norm that ends a resnet.
        names = sorted(found, key=lambda name: (name.startswith("BatchNorm"), int(name.rpartition("_")[2])))
        return Activations(
            [nn.relu(found[name]) if name.startswith("BatchNorm") else found[name] for name in names], hidden
        )

    return activations
