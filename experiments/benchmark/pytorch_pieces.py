"""The pieces of a step in PyTorch, eager and channels last, with a thread for each core."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from experiments.benchmark.pieces import ITERATIONS, Piece, median_seconds, random_arguments


def operation(piece: Piece) -> Callable[..., Any]:
    """The layer itself, as a function of tensors: images [B, C, H, W], kernels [C_out, C_in, K, K]."""

    def conv(x: Any, kernel: Any) -> Any:
        return functional.conv2d(x, kernel, padding=1)

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        return functional.batch_norm(x, None, None, scale, bias, training=True)

    def scaled(x: Any, scale: Any, bias: Any) -> Any:
        return functional.batch_norm(x, torch.zeros_like(bias), torch.ones_like(scale), scale, bias)

    operations: dict[str, Callable[..., Any]] = {
        "conv": conv,
        "conv, max_pool": lambda x, kernel: functional.max_pool2d(conv(x, kernel), 2),
        "norm, relu": lambda x, scale, bias: functional.relu(norm(x, scale, bias)),
        "scale, relu": lambda x, scale, bias: functional.relu(scaled(x, scale, bias)),
        "max_pool": lambda x: functional.max_pool2d(x, 2),
        "dense": lambda x, kernel: x.flatten(1) @ kernel,
    }
    return operations[piece.kind]


def tensors(piece: Piece) -> list[Any]:
    """The arguments in PyTorch's layout: channels before pixels in the shape, channels last in memory."""
    axes = {0: (0, 3, 1, 2)} | ({1: (3, 2, 0, 1)} if piece.kind.startswith("conv") else {})
    # Like a module's `to` and unlike `contiguous`, this `to` lays out kernels of one channel so that PyTorch sees them
    # as channels last: otherwise the first convolution would return its outputs channels first.
    return [
        torch.from_numpy(array.transpose(axes[index]).copy()).to(memory_format=torch.channels_last)
        if index in axes
        else torch.from_numpy(array)
        for index, array in enumerate(random_arguments(piece))
    ]


def computation(piece: Piece) -> Callable[[], Any]:
    """The layer, its gradient, or both, with the layer's own output as the incoming gradient."""
    compute, arguments = operation(piece), tensors(piece)
    if not piece.gradient_of:

        def forward() -> Any:
            with torch.inference_mode():
                return compute(*arguments)

        return forward
    inputs = [arguments[index].requires_grad_() for index in piece.gradient_of]
    output = compute(*arguments)
    cotangent = output.detach().clone()

    def forward_and_backward() -> Any:
        output = compute(*arguments)
        return output.detach(), *torch.autograd.grad(output, inputs, cotangent)

    return (
        forward_and_backward
        if piece.with_gradient
        else lambda: torch.autograd.grad(output, inputs, cotangent, retain_graph=True)
    )


_computation = functools.lru_cache(1)(computation)


def seconds(piece: Piece) -> float:
    """The median time of a piece."""
    compute = _computation(piece)

    def repeat() -> None:
        for _ in range(ITERATIONS):
            compute()  # whose results are freed at once, as in a network

    return median_seconds(repeat) / ITERATIONS
