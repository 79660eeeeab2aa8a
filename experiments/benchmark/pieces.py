"""What a step of a network consists of: each piece's operations, bytes and time, and what the machine does at most.

A piece is a layer, or two that are one operation here, by itself on a batch; or the gradient of some of its arguments,
with what the layer keeps for it already there. All stand in a compiled loop, as in training, where nothing of one
iteration can be computed before it or in the one before.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from experiments.benchmark.networks import Layer
from fmnist_jax import avg_pool, batch_norm, compiler_options, conv, conv_avg_pool, conv_max_pool, max_pool

_TOGETHER = {("conv", "mean_pool"), ("norm", "relu")}  # one operation here
_FIRST_TOGETHER = ("conv", "max_pool")  # one operation where the images have one channel
_ITERATIONS = 5
_REPEATS = 5


class Piece(NamedTuple):
    """A layer, or two that are one operation, on a batch."""

    kind: str
    """Its layers, of which `scale` is a normalisation by running statistics, as in evaluation."""
    shape: tuple[int, ...]
    """Of its images: [B, H, W, C]."""
    size: int = 0
    """Channels of a convolution, features of a dense layer."""
    gradient_of: tuple[int, ...] = ()
    """The arguments that it is the gradient of, 0 for the images; none for the layer itself."""

    @property
    def name(self) -> str:
        """What a table calls it."""
        height, width, channels = self.shape[1:]
        parts = {(): "", (0,): ", gradient of images", (1,): ", gradient of kernel"}
        into = f" to {self.size}" if self.size else ""
        return f"{self.kind}, {height}x{width}x{channels}{into}{parts.get(self.gradient_of, ', gradient')}"


def pieces_of(layers: Sequence[Layer], batch: int, *, train: bool) -> list[Piece]:
    """The pieces of a network, without dropout: with their gradients in training."""
    found: list[Piece] = []
    side, channels, rest = 28, 1, [layer for layer in layers if layer.kind != "dropout"]
    while rest:
        layer, *rest = rest
        together = (layer.kind, rest[0].kind if rest else "")
        if together in _TOGETHER or (together == _FIRST_TOGETHER and channels == 1):
            rest = rest[1:]
        else:
            together = (layer.kind, "")
        kind = ", ".join(filter(None, together))
        shape = (batch, side, side, channels)
        if kind == "flatten":
            side, channels = 1, side * side * channels
            continue
        piece = Piece(kind if train else kind.replace("norm", "scale"), shape, layer.size)
        found += [piece, *(_gradients(piece, first=len(found) == 0) if train else [])]
        side, channels = side // (2 if "pool" in kind else 1), layer.size or channels
    return found


def _gradients(piece: Piece, *, first: bool) -> list[Piece]:
    """Those that training needs, of the images as well unless they are the network's own."""
    if piece.kind.startswith("conv"):
        return [piece._replace(gradient_of=of) for of in ([(1,)] if first else [(0,), (1,)])]
    return [piece._replace(gradient_of=tuple(range(len(shapes(piece)))))]


def shapes(piece: Piece) -> list[tuple[int, ...]]:
    """The shapes of a piece's arguments, images first, as JAX has them."""
    channels = piece.shape[3]
    match piece.kind.split(",")[0]:
        case "conv":
            return [piece.shape, (3, 3, channels, piece.size)]
        case "dense":
            return [piece.shape, (channels, piece.size)]
        case "norm" | "scale":
            return [piece.shape, (channels,), (channels,)]
    return [piece.shape]


def operation(piece: Piece) -> Callable[..., Array]:
    """The piece itself, as a function of its arguments."""
    operations: dict[str, Callable[..., Array]] = {
        "conv": conv,
        "conv, max_pool": conv_max_pool,
        "conv, mean_pool": conv_avg_pool,
        "norm, relu": lambda x, scale, bias: jax.nn.relu(batch_norm(x, scale, bias)[0]),
        "scale, relu": lambda x, scale, bias: jax.nn.relu(x * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)),
        "max_pool": max_pool,
        "mean_pool": avg_pool,
        "dense": lambda x, kernel: x.reshape(len(x), -1) @ kernel,
    }
    return operations[piece.kind]


def floating_point_operations(piece: Piece) -> int:
    """Of its matrix products, a convolution being counted as direct, before what pools it; none of other layers."""
    taps = {"conv": 9, "dense": 1}.get(piece.kind.split(",")[0], 0)
    return 2 * taps * math.prod(piece.shape) * piece.size


def bytes_moved(piece: Piece) -> int:
    """The least: every array that comes in or goes out, once, in float32."""
    arguments = shapes(piece)
    output = jax.eval_shape(operation(piece), *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in arguments))
    # A gradient of a bilinear operation has one argument less, in whose place it is.
    own = math.prod(piece.shape) if piece.gradient_of and len(piece.gradient_of) == len(arguments) else 0
    return 4 * (sum(map(math.prod, arguments)) + output.size + own)


def seconds(piece: Piece) -> float:
    """The median time of a piece."""
    loop, start = _loop(piece)
    return _median(lambda: loop(start)) / _ITERATIONS


@functools.cache
def _loop(piece: Piece) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    arguments: list[Any] = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes(piece)]
    compute: Callable[..., Any] = operation(piece)
    if piece.gradient_of:

        def of_some(*some: Array) -> Array:
            every = list(arguments)
            for index, argument in zip(piece.gradient_of, some, strict=True):
                every[index] = argument
            return operation(piece)(*every)

        output, pull = jax.vjp(of_some, *(arguments[index] for index in piece.gradient_of))
        arguments, compute = [pull, output], lambda pull, output: pull(output)

    def body(_: int, carry: Any) -> Any:
        arguments, _, square = lax.optimization_barrier(carry)
        # A loop without any product, which no training is, would be compiled for one thread since jax 0.12.
        return arguments, compute(*arguments), square @ square

    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(compute, *arguments))
    start = tuple(arguments), nothing, jnp.eye(32)
    loop = jax.jit(lambda start: lax.fori_loop(0, _ITERATIONS, body, start)[1:], compiler_options=compiler_options())
    return loop.lower(start).compile(), start


def memory_rate(size: int) -> float:
    """Bytes a second that are read and written by adding a number to so many bytes."""
    x = jnp.zeros(size // 4)
    add = jax.jit(lambda x: x + 1, compiler_options=compiler_options())
    return 2 * size / _median(lambda: add(x))


def _median(compute: Callable[[], Any]) -> float:
    """Seconds, after a first call that counts for nothing."""
    jax.block_until_ready(compute())
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(compute())
        times.append(time.perf_counter() - start)
    return sorted(times)[_REPEATS // 2]
