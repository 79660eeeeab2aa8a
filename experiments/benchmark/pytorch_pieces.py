"""The pieces of a step in PyTorch, eager and channels last, one thread for each core."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from experiments.benchmark.pieces import Piece, shapes

_ITERATIONS = 5
_REPEATS = 5


def operation(piece: Piece) -> Callable[..., Any]:
    """The piece itself, as a function of tensors: images [B, C, H, W], kernels [C_out, C_in, K, K]."""

    def conv(x: Any, kernel: Any) -> Any:
        return functional.conv2d(x, kernel, padding=1)

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        return functional.batch_norm(x, None, None, scale, bias, training=True)

    def scaled(x: Any, scale: Any, bias: Any) -> Any:
        return functional.batch_norm(x, torch.zeros_like(bias), torch.ones_like(scale), scale, bias)

    operations: dict[str, Callable[..., Any]] = {
        "conv": conv,
        "conv, max_pool": lambda x, kernel: functional.max_pool2d(conv(x, kernel), 2),
        "conv, mean_pool": lambda x, kernel: functional.avg_pool2d(conv(x, kernel), 2),
        "norm, relu": lambda x, scale, bias: functional.relu(norm(x, scale, bias)),
        "scale, relu": lambda x, scale, bias: functional.relu(scaled(x, scale, bias)),
        "max_pool": lambda x: functional.max_pool2d(x, 2),
        "mean_pool": lambda x: functional.avg_pool2d(x, 2),
        "dense": lambda x, kernel: x.flatten(1) @ kernel,
    }
    return operations[piece.kind]


def tensor(array: np.ndarray) -> Any:
    """An argument as PyTorch wants it: images and kernels with channels before pixels, channels last in memory."""
    if array.ndim < 4:
        return torch.from_numpy(array)
    axes = (3, 2, 0, 1) if array.shape[:2] == (3, 3) else (0, 3, 1, 2)
    return torch.from_numpy(array.transpose(axes).copy()).contiguous(memory_format=torch.channels_last)


def seconds(piece: Piece) -> float:
    """The median time of a piece."""
    compute = _computation(piece)
    compute()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        for _ in range(_ITERATIONS):
            compute()
        times.append((time.perf_counter() - start) / _ITERATIONS)
    return sorted(times)[_REPEATS // 2]


@functools.cache
def _computation(piece: Piece) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    arguments = [tensor(rng.normal(size=shape).astype(np.float32)) for shape in shapes(piece)]
    if not piece.gradient_of:

        def forward() -> Any:
            with torch.inference_mode():
                return operation(piece)(*arguments)

        return forward
    some = [arguments[index].requires_grad_() for index in piece.gradient_of]
    output = operation(piece)(*arguments)
    slope = output.detach().clone()
    return lambda: torch.autograd.grad(output, some, slope, retain_graph=True)


def matrix_rate(size: int = 2048) -> float:
    """Floating-point operations a second of a square matrix product."""
    a = torch.randn(size, size)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, a)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times)[5]
