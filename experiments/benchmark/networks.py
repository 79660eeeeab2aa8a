"""Networks written once, as lists of layers, for each side of the benchmark to build in its own way."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fmnist_jax import Model, ModelConfig, avg_pool, batch_norm, conv, max_pool


class Layer(NamedTuple):
    """One layer; convolutions are 3x3 without bias and keep the size, pooling takes the maximum or mean of 2x2.

    A `mean_pool` follows a convolution, with which a side may combine it.
    """

    kind: Literal["conv", "norm", "relu", "max_pool", "mean_pool", "dropout", "flatten", "dense"]
    size: int = 0
    """Channels of a convolution, features of a dense layer."""
    rate: float = 0.0
    """Share of the features that dropout drops."""


class Operations(NamedTuple):
    """A side's own implementation of the operations that differ between sides."""

    conv: Callable[[Array, Array], Array]
    batch_norm: Callable[[Array, Array, Array], tuple[Array, Array, Array]]
    max_pool: Callable[[Array], Array]
    mean_pool: Callable[[Array], Array]


def layers_of(config: ModelConfig) -> list[Layer]:
    """The layers of `fmnist_jax.make_model(config)`, which must be a plain network.

    Raises:
      ValueError: it is of another family.
    """
    if config.family != "plain":
        raise ValueError(f"a network of the family {config.family} is not a list of layers")
    layers: list[Layer] = []
    for width, depth in zip(config.widths, config.depths, strict=True):
        for index in range(depth):
            pool = [] if index else [Layer("mean_pool" if config.pooling == "mean" and layers else "max_pool")]
            layers += [Layer("conv", width), *pool, Layer("norm"), Layer("relu")]
    return [*layers, Layer("flatten"), Layer("dropout", rate=config.dropout), Layer("dense", 10)]


def _block(width: int) -> list[Layer]:
    return [*[Layer("conv", width), Layer("norm"), Layer("relu")] * 2, Layer("max_pool"), Layer("dropout", rate=0.25)]


# Two blocks of two convolutions: apart from the head, the network that PyTorch notebooks on this data set share.
NOTEBOOK = [*_block(32), *_block(64), Layer("flatten"), Layer("dense", 10)]


def _plain_conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _plain_batch_norm(x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    x32 = x.astype(jnp.float32)
    mean, variance = x32.mean((0, 1, 2)), x32.var((0, 1, 2))
    factor = scale * lax.rsqrt(variance + 1e-5)
    y = (x32 - mean.reshape(1, 1, 1, -1)) * factor.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)
    return y.astype(x.dtype), lax.stop_gradient(mean), lax.stop_gradient(variance)


def _plain_max_pool(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _plain_mean_pool(x: Array) -> Array:
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


OURS = Operations(conv, batch_norm, max_pool, avg_pool)
PLAIN = Operations(_plain_conv, _plain_batch_norm, _plain_max_pool, _plain_mean_pool)


def make_network(layers: Sequence[Layer], operations: Operations, dtype: str = "float32") -> Model:
    """Builds a network as the pair of pure functions that `fmnist_jax` trains."""

    def init(key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        params: dict[str, Any] = {}
        batch_stats: dict[str, Any] = {}
        edge, channels = 28, 1
        for index, layer in enumerate(layers):
            name, layer_key = f"{layer.kind}_{index}", jax.random.fold_in(key, index)
            if layer.kind in ("max_pool", "mean_pool"):
                edge //= 2
            elif layer.kind == "flatten":
                edge, channels = 1, edge * edge * channels
            elif layer.kind == "norm":
                params[name] = {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)}
                batch_stats[name] = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}
            elif layer.kind in ("conv", "dense"):
                kernel_size = (3, 3) if layer.kind == "conv" else ()
                initializer = jax.nn.initializers.he_normal() if kernel_size else jax.nn.initializers.lecun_normal()
                params[name] = {"kernel": initializer(layer_key, (*kernel_size, channels, layer.size))}
                channels = layer.size
                if not kernel_size:
                    params[name]["bias"] = jnp.zeros(channels)
        return params, batch_stats

    def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        x, new_stats = images.astype(dtype), dict(batch_stats)
        for index, layer in enumerate(layers):
            name = f"{layer.kind}_{index}"
            weights = {leaf: value.astype(dtype) for leaf, value in params.get(name, {}).items()}
            match layer.kind:
                case "conv":
                    x = operations.conv(x, weights["kernel"])
                case "max_pool":
                    x = operations.max_pool(x)
                case "mean_pool":
                    x = operations.mean_pool(x)
                case "relu":
                    x = jax.nn.relu(x)
                case "flatten":
                    x = x.reshape(len(x), -1)
                case "dense":
                    x = x @ weights["kernel"] + weights["bias"].reshape(1, -1)
                case "dropout" if train and layer.rate and key is not None:
                    keep_mask = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - layer.rate, x.shape)
                    x = jnp.where(keep_mask, x / (1 - layer.rate), 0).astype(dtype)
                case "norm":
                    x, new_stats[name] = _normalize(operations, x, params[name], batch_stats[name], train)
        return x.astype(jnp.float32), new_stats

    return Model(init, apply)


def _normalize(operations: Operations, x: Array, params: Any, stats: Any, train: bool) -> tuple[Array, Any]:
    if train:
        y, mean, var = operations.batch_norm(x, params["scale"], params["bias"])
        return y, {"mean": 0.9 * stats["mean"] + 0.1 * mean, "var": 0.9 * stats["var"] + 0.1 * var}
    factor = params["scale"] * lax.rsqrt(stats["var"] + 1e-5)
    shift = params["bias"] - stats["mean"] * factor
    y = x.astype(jnp.float32) * factor.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
    return y.astype(x.dtype), stats
