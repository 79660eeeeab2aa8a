"""Muon in PyTorch, held against NumPy."""

from typing import Any

import numpy as np
import pytest

from fmnist_jax import FmnistError

torch = pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")

_MUON = {"name": "muon", "peak_lr": 0.1, "rest_lr": 0.01, "momentum": 0.9, "ortho_steps": 3}


def newton_schulz(matrix: np.ndarray, steps: int = 3) -> np.ndarray:
    """By the singular values, in float64: so many times the quintic on each of them."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


@pytest.mark.parametrize(("shape", "steps"), [((6, 27), 3), ((32, 9), 5), ((5, 5), 1)])
def test_singular_values_go_where_the_quintic_takes_them(shape: tuple[int, int], steps: int) -> None:
    from experiments.benchmark.pytorch_optim import orthogonalized

    matrix = np.random.default_rng(0).normal(size=shape)
    found = orthogonalized(torch.tensor(matrix, dtype=torch.float32), steps).numpy()
    np.testing.assert_allclose(found, newton_schulz(matrix, steps), atol=1e-4)


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(8, 3))


def test_muon_takes_the_kernels_of_convolutions_and_adam_the_rest() -> None:
    from experiments.benchmark.pytorch_optim import make_optimizer

    moved = network()
    kernel, *rest = list(moved.parameters())
    before = [each.detach().numpy().astype(np.float64) for each in (kernel, *rest)]
    optimizer = make_optimizer(moved, _MUON)
    assert [group["share"] for group in optimizer.param_groups] == pytest.approx([1.0, 0.1])
    rng, trace, expected = np.random.default_rng(1), np.zeros(kernel.shape), before[0]
    for _ in range(3):
        gradient = rng.normal(size=kernel.shape)
        kernel.grad = torch.tensor(gradient, dtype=torch.float32)
        for each in rest:
            each.grad = torch.ones_like(each)
        optimizer.step()
        trace = 0.9 * trace + gradient
        # As fmnist_jax lays kernels out: [H, W, C_in, C_out], and all but the last axis are rows.
        direction = (gradient + 0.9 * trace).transpose(2, 3, 1, 0).reshape(-1, 32)
        step = newton_schulz(direction).reshape(3, 3, 1, 32).transpose(3, 2, 0, 1)
        expected = expected - 0.1 * (32 / 9) ** 0.5 * step
    np.testing.assert_allclose(kernel.detach().numpy(), expected, atol=1e-4)
    # Of a gradient that stays the same, Adam's steps are as long as its learning rate.
    for each, start in zip(rest, before[1:], strict=True):
        np.testing.assert_allclose(each.detach().numpy(), start - 3 * 0.01, atol=1e-5)


def test_another_optimiser_is_refused() -> None:
    from experiments.benchmark.pytorch_optim import make_optimizer

    with pytest.raises(FmnistError, match="no optimiser adamw: expected sgd or muon"):
        make_optimizer(network(), {**_MUON, "name": "adamw"})
