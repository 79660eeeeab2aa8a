"""The convolutional networks: Flax modules inside, pairs of pure functions to callers."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import Array

from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.config.validation import check_choices, check_network
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.functional import layers, normalization
from fmnist_jax.functional.interface import BatchStats, Model, Params
from fmnist_jax.functional.pixels import check_floats
from fmnist_jax.functional.sharding import for_rows, match_varying_axes, with_auto_axes

Shape = tuple[int, int, int]
"""Height, width and channels."""

IMAGE_SHAPE, NUM_CLASSES = (28, 28, 1), 10  # of Fashion-MNIST


def _promote_dtype(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """The arrays in one dtype, first spread over the shards of a batch, so that gradients are summed in float32.

    A kernel cast before it meets the batch of a `shard_map` would have its gradient summed over the shards in `dtype`
    and only then cast to float32.
    """
    return promote_dtype(*match_varying_axes(*arrays), dtype=dtype, inexact=inexact)


class Conv(nn.Module):
    """A convolution without bias that computes in `dtype`, with float32 parameters."""

    features: int
    dtype: jnp.dtype
    operation: Callable[[Array, Array], Array] = layers.conv
    size: int = 3
    initializer: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies `operation` to [B, H, W, C] and a kernel [size, size, C, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        x, kernel = _promote_dtype(x, self.param("kernel", self.initializer, shape, jnp.float32), dtype=self.dtype)
        return self.operation(x, kernel)


class Dropout(nn.Module):
    """Drops random values, all those along the `broadcast_dims` together, and scales up the rest.

    As `flax.linen.Dropout`, with the same bits; but `rate` may be traced, and the draws are the same under x64.
    """

    rate: float | Array
    broadcast_dims: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Drops with `train`, and without it if `Model.apply` is given a key."""
        if is_static_zero(self.rate) or not (train or self.has_rng("dropout")):
            return x
        keep_prob = jnp.asarray(1.0 - self.rate, jnp.float32)
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)][1:]

        def drop(x: Array, key: Array, kept: Array) -> Array:
            mask = for_rows(lambda key, rows: jax.random.bernoulli(key, kept, (rows, *shape)), key, x)
            divisor = jnp.where(kept > 0, kept, 1)  # at a rate of 1, the derivative of a quotient by 0 would be NaN
            return jnp.where(mask, x / divisor.astype(x.dtype), jnp.zeros_like(x))

        return with_auto_axes(drop, rows=True)(x, self.make_rng("dropout"), keep_prob)


class BatchNorm(nn.Module):
    """Batch normalisation with running statistics in float32, for [B, H, W, C]."""

    momentum: float
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalises by the batch with `train`; without it, or if frozen, by the running statistics."""
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        if not train or (self.frozen is not None and self.frozen("/".join(self.path))):
            factor = scale * jax.lax.rsqrt(running_var.value + normalization.EPSILON)
            shift = bias - running_mean.value * factor
            y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
            return y.astype(x.dtype)
        y, mean, variance = normalization.batch_norm(x, scale, bias, shift=running_mean.value)
        if not self.is_initializing():
            kept, taken = (jnp.asarray(share, jnp.float32) for share in (self.momentum, 1 - self.momentum))
            running_mean.value = kept * running_mean.value + taken * mean
            running_var.value = kept * running_var.value + taken * variance
        return y


class ConvNet(nn.Module):
    """Stages of convolutions, each of which halves the image after its first convolution, then a dense head.

    Pooling before the normalisation leaves every later operation of the stage a quarter of the pixels; the order
    convolution, pooling, normalisation, activation is that of Jordan 2024 (arXiv:2404.00498).
    """

    config: ModelConfig
    num_classes: int
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        """Maps float images [B, H, W, channels] to logits f32[B, num_classes]."""
        dtype = jnp.dtype(self.config.dtype)
        x = images.astype(dtype)
        for stage, (width, depth) in enumerate(zip(self.config.widths, self.config.depths, strict=True)):
            use_avg_pool = stage > 0 and self.config.pooling == "mean"
            pooling_conv = layers.conv_avg_pool if use_avg_pool else layers.conv_max_pool
            for layer in range(depth):
                x = Conv(width, dtype, layers.conv if layer else pooling_conv)(x)
                x = nn.relu(BatchNorm(self.config.batch_norm_momentum, self.frozen)(x, train))
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # also for an empty batch
        x = Dropout(self.config.dropout)(x, train)
        return nn.Dense(self.num_classes, dtype=dtype, promote_dtype=_promote_dtype)(x).astype(jnp.float32)


class ResidualBlock(nn.Module):
    """Normalisation, activation and convolution, twice, added to the input (He et al. 2016, arXiv:1603.05027).

    The last kernel starts at 0, so that the block starts as its shortcut, as in Zhang et al. 2019 (arXiv:1901.09321).
    Zeroing the scale of the last norm would not work here: the activation after it would pass no gradient back.
    """

    features: int
    halve: bool
    drop_path_rate: float | Array
    momentum: float
    dtype: jnp.dtype
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps [B, H, W, C] to [B, H, W, features], or to half the height and width with `halve`.

        In training, a share `drop_path_rate` of the images takes the shortcut alone (Huang et al. 2016,
        arXiv:1603.09382), and the residual of the others is scaled up, so that evaluation needs no factor.
        """
        pool = layers.avg_pool if self.halve else lambda x: x
        first_conv = layers.conv_avg_pool if self.halve else layers.conv
        preact = nn.relu(BatchNorm(self.momentum, self.frozen)(x, train))
        # Pooling before the projection discards no pixel (He et al. 2018, arXiv:1812.01187, ResNet-D).
        same_channels = x.shape[-1] == self.features
        shortcut = pool(x) if same_channels else Conv(self.features, self.dtype, size=1)(pool(preact))
        y = Conv(self.features, self.dtype, first_conv)(preact)
        y = nn.relu(BatchNorm(self.momentum, self.frozen)(y, train))
        y = Conv(self.features, self.dtype, initializer=nn.initializers.zeros)(y)
        y = Dropout(self.drop_path_rate, broadcast_dims=(1, 2, 3))(y, train)
        return shortcut + y


class ResNet(nn.Module):
    """A convolution, stages of residual blocks, global average pooling and a dense head.

    A pooled stem halves the image by max pooling, each stage but the first by average pooling.
    """

    config: ModelConfig
    num_classes: int
    frozen: Callable[[str], bool] | None = None

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
                x = ResidualBlock(width, halve, skipped, config.batch_norm_momentum, dtype, self.frozen)(x, train)
        x = nn.relu(BatchNorm(config.batch_norm_momentum, self.frozen)(x, train))
        x = x.astype(jnp.float32).mean((1, 2))
        x = Dropout(config.dropout)(x, train)
        return nn.Dense(self.num_classes)(x)


_FAMILIES = {"plain": ConvNet, "resnet": ResNet}


def make_network(
    config: ModelConfig, *, image_shape: Shape, num_classes: int, frozen: Callable[[str], bool] | None = None
) -> nn.Module:
    """Makes the Linen module behind `make_model`, with the same arguments and errors."""
    check_choices("model", config, "family", "stem", "pooling")
    check_network(config, image_shape)
    return _FAMILIES[config.family](config, num_classes, frozen)


def make_model(
    config: ModelConfig,
    *,
    image_shape: Shape = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    frozen: Callable[[str], bool] | None = None,
) -> Model:
    """Builds the network that `config` describes, for the images and classes of a `Dataset`.

    Args:
      config: of the network; its `dropout` and `stochastic_depth` may be traced.
      image_shape: H, W and channels.
      num_classes: C.
      frozen: whether the norm at a path, such as "BatchNorm_0" or "ResidualBlock_2/BatchNorm_0", keeps its running
        statistics and normalises by them in training, too; with `optax.set_to_zero`, that freezes a layer.

    Raises:
      ConfigError: the family, stem or pooling is not one that `ModelConfig` lists, the family lacks what the other
        fields select, widths and depths differ in number, there is no stage, or stages halve such images to nothing.
    """
    network = make_network(config, image_shape=image_shape, num_classes=num_classes, frozen=frozen)

    def init(key: Array) -> tuple[Params, BatchStats]:
        # By shapes alone: no layer is computed to draw its weights.
        variables = network.lazy_init(key, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32), train=False)
        return variables["params"], variables["batch_stats"]

    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        check_floats(images)
        if images.ndim != 4 or images.shape[3] != image_shape[2]:
            raise ValueError(f"images have shape {list(images.shape)}: expected [B, H, W, {image_shape[2]}]")
        variables = {"params": params, "batch_stats": batch_stats}
        rngs = {} if key is None else {"dropout": key}
        if not train:
            logits: Array = network.apply(variables, images, train=False, rngs=rngs)  # type: ignore[assignment]
            return logits, batch_stats
        logits, updates = network.apply(variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    return Model(init, apply)
