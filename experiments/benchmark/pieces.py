"""The pieces of a network's step: the operations, bytes and time of each, and the machine's memory bandwidth.

A piece is a layer, or two that are one operation here, run by itself on a batch. In training, convolutions and dense
layers have a separate piece for each gradient, as these need only the arguments; other layers are one piece with their
gradient, because it also needs intermediate values of the forward pass.
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
from fmnist_jax import batch_norm, compiler_options, conv, conv_max_pool, max_pool

ITERATIONS = 10  # of a piece per measurement
_REPEATS = 5
_BILINEAR = ("conv", "dense")


class Piece(NamedTuple):
    """A layer, or two that are one operation, on a batch."""

    kind: str
    """Its layers; `scale` is normalisation by running statistics, as in evaluation."""
    shape: tuple[int, ...]
    """Shape of its images, [B, H, W, C]."""
    size: int = 0
    """Channels of a convolution, features of a dense layer."""
    gradient_of: tuple[int, ...] = ()
    """The arguments whose gradient it computes, 0 for the images; none for the layer itself."""

    @property
    def name(self) -> str:
        """Its name in tables."""
        height, width, channels = self.shape[1:]
        output = f" to {self.size}" if self.size else ""
        if not self.gradient_of:
            suffix = ""
        elif self.with_gradient:
            suffix = ", with gradient"
        else:
            suffix = f", gradient of {'kernel' if self.gradient_of[0] else 'images'}"
        return f"{self.kind}, {height}x{width}x{channels}{output}{suffix}"

    @property
    def with_gradient(self) -> bool:
        """Whether it is the layer together with its gradient."""
        return bool(self.gradient_of) and self.kind not in _BILINEAR


def list_pieces(layers: Sequence[Layer], batch: int, *, train: bool) -> list[Piece]:
    """The pieces of a network of convolutions, norms, max pooling and dense layers, without its dropout."""
    pieces: list[Piece] = []
    edge, channels, remaining = 28, 1, [layer for layer in layers if layer.kind != "dropout"]
    while remaining:
        layer, *remaining = remaining
        kind, next_kind = str(layer.kind), remaining[0].kind if remaining else ""
        if kind == "norm" or (kind == "conv" and next_kind == "max_pool" and channels == 1):
            kind, remaining = f"{kind}, {next_kind}", remaining[1:]
        if kind == "flatten":
            edge, channels = 1, edge * edge * channels
            continue
        piece = Piece(kind if train else kind.replace("norm", "scale"), (batch, edge, edge, channels), layer.size)
        pieces += _training_pieces(piece, first=not pieces) if train else [piece]
        edge, channels = edge // (2 if "pool" in kind else 1), layer.size or channels
    return pieces


def _training_pieces(piece: Piece, *, first: bool) -> list[Piece]:
    """The pieces of a layer in training; the gradient of the network's input images is not needed."""
    needed = tuple(range(len(argument_shapes(piece))))[first:]
    if piece.kind in _BILINEAR:
        return [piece, *(piece._replace(gradient_of=(index,)) for index in needed)]
    return [piece._replace(gradient_of=needed)]


def argument_shapes(piece: Piece) -> list[tuple[int, ...]]:
    """The shapes of a piece's arguments, images first, in JAX's layout."""
    channels = piece.shape[3]
    match piece.kind.split(",")[0]:
        case "conv":
            return [piece.shape, (3, 3, channels, piece.size)]
        case "dense":
            return [piece.shape, (channels, piece.size)]
        case "norm" | "scale":
            return [piece.shape, (channels,), (channels,)]
    return [piece.shape]


def random_arguments(piece: Piece) -> list[np.ndarray]:
    """Random arguments of a piece, the same for every side."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in argument_shapes(piece)]


def operation(piece: Piece) -> Callable[..., Array]:
    """The layer itself, as a function of its arguments."""
    operations: dict[str, Callable[..., Array]] = {
        "conv": conv,
        "conv, max_pool": conv_max_pool,
        "norm, relu": lambda x, scale, bias: jax.nn.relu(batch_norm(x, scale, bias)[0]),
        "scale, relu": lambda x, scale, bias: jax.nn.relu(x * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)),
        "max_pool": max_pool,
        "dense": lambda x, kernel: x.reshape(len(x), -1) @ kernel,
    }
    return operations[piece.kind]


def floating_point_operations(piece: Piece) -> int:
    """Operations of its products; a convolution is counted as direct, without those with padding, before pooling."""
    batch, height, width, channels = piece.shape
    positions = {"conv": (3 * height - 2) * (3 * width - 2), "dense": 1}.get(piece.kind.split(",")[0], 0)
    passes = len(piece.gradient_of) + (not piece.gradient_of or piece.with_gradient)
    return 2 * batch * positions * channels * piece.size * passes


def bytes_moved(piece: Piece) -> int:
    """The least possible: every input and output array once, in float32."""
    sizes = list(map(math.prod, argument_shapes(piece)))
    arguments = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in argument_shapes(piece))
    output = math.prod(jax.eval_shape(operation(piece), *arguments).shape)
    if piece.with_gradient:
        return 4 * (sum(sizes) + 2 * output + sum(sizes[index] for index in piece.gradient_of))
    return 4 * (sum(sizes) + output)  # also for a gradient: it is as large as the argument that it does not need


def computation(piece: Piece) -> tuple[Callable[..., Any], list[Array]]:
    """A function and its arguments: the layer, its gradient, or both, with the layer's own output as cotangent."""
    arguments, compute = list(map(jnp.asarray, random_arguments(piece))), operation(piece)
    if not piece.gradient_of:
        return compute, arguments
    cotangent = compute(*arguments)

    def gradient(cotangent: Array, *arguments: Array) -> Any:
        def restricted(*selected: Array) -> Array:
            all_arguments = list(arguments)
            for index, argument in zip(piece.gradient_of, selected, strict=True):
                all_arguments[index] = argument
            return compute(*all_arguments)

        output, vjp_fn = jax.vjp(restricted, *(arguments[index] for index in piece.gradient_of))
        return (output, *vjp_fn(cotangent)) if piece.with_gradient else vjp_fn(cotangent)

    return gradient, [cotangent, *arguments]


def seconds(piece: Piece) -> float:
    """The median time of a piece, in a compiled loop as in training."""
    return median_seconds(_make_piece_loop(piece)) / ITERATIONS


@functools.lru_cache(1)
def _make_piece_loop(piece: Piece) -> Callable[[], Any]:
    return make_loop(*computation(piece), ITERATIONS)


def make_loop(compute: Callable[..., Any], arguments: Sequence[Array], iterations: int) -> Callable[[], Any]:
    """Compiles a loop of `iterations`, as in training; calling the result waits for the end of the loop."""

    def body(_: int, carry: Any) -> Any:
        # No part of an iteration can be hoisted out of the loop or into the previous iteration.
        arguments, _, matrix = lax.optimization_barrier(carry)
        # Since jax 0.12, a loop without any matrix product, unlike training, would be compiled for one thread.
        return arguments, compute(*arguments), matrix @ matrix

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(compute, *arguments))
    initial = arguments, zeros, jnp.eye(32)
    loop = jax.jit(lambda initial: lax.fori_loop(0, iterations, body, initial)[1:], compiler_options=compiler_options())
    compiled = loop.lower(initial).compile()
    return lambda: jax.block_until_ready(compiled(initial))


def memory_rate(size: int) -> float:
    """Bytes a second that are read and written by adding a number to an array of `size` bytes."""
    x = jnp.zeros(size // 4)
    add = jax.jit(lambda x: x + 1, compiler_options=compiler_options())
    return 2 * size / median_seconds(lambda: jax.block_until_ready(add(x)))


def median_seconds(compute: Callable[[], Any], repeats: int = _REPEATS) -> float:
    """The median time of a computation, after a warm-up call."""
    compute()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]
