"""The optimisers of the recipes in PyTorch, whose own Muon accepts only matrices."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fmnist_jax import FmnistError

# Jordan 2024 (https://kellerjordan.github.io/posts/muon/): a quintic that maps singular values into about [0.7, 1.2]
# and is chosen to be steep at 0.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Any, steps: int) -> Any:
    """Brings the singular values of a float32 matrix near 1 by Newton-Schulz iterations.

    As in `fmnist_jax.orthogonalize`, on the Gram matrix, which takes about half as many multiplications.

    Transposing or permuting the matrix transposes or permutes the result, so that a kernel may be flattened in any
    order of its inputs.
    """
    a, b, c = _QUINTIC
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix  # so that the products are smaller
    x = x / (x.norm() + 1e-7)
    identity = a * torch.eye(len(x), dtype=x.dtype, device=x.device)

    def polynomial(gram: Any) -> Any:
        return torch.addmm(identity + b * gram, gram, gram, alpha=c)

    gram = x @ x.T
    factor = composed = polynomial(gram)
    for _ in range(steps - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        composed = factor @ composed
    x = composed @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised, with each kernel as a matrix of its outputs by all its inputs."""

    def __init__(self, params: Any, lr: float, momentum: float, steps: int) -> None:
        """Takes kernels of convolutions [C_out, C_in, H, W] and the number of Newton-Schulz steps."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "steps": steps})

    def step(self) -> None:
        """Updates every kernel."""
        # The Gram matrix has the squares of the singular values, so it needs full precision, on a GPU too.
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.no_grad():
                for group in self.param_groups:
                    for kernel in group["params"]:
                        self._update(kernel, group)
        finally:
            torch.set_float32_matmul_precision(precision)

    def _update(self, kernel: Any, group: Mapping[str, Any]) -> None:
        state, momentum = self.state[kernel], group["momentum"]
        state["trace"] = kernel.grad + momentum * state["trace"] if state else kernel.grad.clone()
        nesterov = kernel.grad + momentum * state["trace"]
        matrix = nesterov.reshape(len(kernel), -1)
        scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        direction = orthogonalize(matrix, group["steps"]).reshape(kernel.shape)
        kernel.add_(direction, alpha=-group["lr"] * scale)


class CombinedOptimizer:
    """Several optimisers of different parameters, combined into one."""

    def __init__(self, *optimizers: Any) -> None:
        """Takes one or more optimisers."""
        self._optimizers = optimizers

    @property
    def param_groups(self) -> list[Any]:
        """The groups of all optimisers."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Updates all parameters."""
        for optimizer in self._optimizers:
            optimizer.step()


def make_optimizer(network: nn.Module, optim: Mapping[str, Any]) -> Any:
    """Makes the optimiser that the section `optim` of a configuration names.

    Args:
      network: whose parameters it updates.
      optim: the section as plain values; for muon, `peak_lr` is for convolution kernels, `rest_lr` for the rest.

    Returns:
      An optimiser whose groups have a `share`: their learning rate over that of the schedule.

    Raises:
      FmnistError: it names another optimiser than sgd or muon.
    """
    params, momentum = list(network.parameters()), optim["momentum"]
    match optim["name"]:
        case "sgd":
            optimizer = torch.optim.SGD(params, lr=optim["peak_lr"], momentum=momentum, nesterov=True)
        case "muon":
            kernels, rest = (
                [param for param in params if (param.ndim == 4) is is_kernel] for is_kernel in (True, False)
            )
            adam = torch.optim.Adam(rest, lr=optim["rest_lr"], betas=(momentum, 0.999))
            optimizer = CombinedOptimizer(Muon(kernels, optim["peak_lr"], momentum, optim["ortho_steps"]), adam)
        case other:
            raise FmnistError(f"PyTorch's side does not support the optimiser {other}: expected sgd or muon")
    for group in optimizer.param_groups:
        group["share"] = group["lr"] / optim["peak_lr"]
    return optimizer
