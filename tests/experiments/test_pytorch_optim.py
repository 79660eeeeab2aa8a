"""Muon in PyTorch, held against NumPy."""

from typing import Any

import numpy as np
import pytest

from fmnist_jax import FmnistError

torch = pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")

_MUON = {"name": "muon", "peak_lr": 0.1, "rest_lr": 0.01, "momentum": 0.8, "ortho_steps": 3}


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
    first = second = moved_by = 0.0
    for step in (1, 2, 3):
        gradient = rng.normal(size=kernel.shape)
        kernel.grad = torch.tensor(gradient, dtype=torch.float32)
        for each in rest:
            each.grad = torch.full_like(each, float(step * step))
        optimizer.step()
        # Adam (Kingma & Ba, arXiv:1412.6980), whose first decay is Muon's momentum, as in `fmnist_jax.make_optimizer`.
        first, second = 0.8 * first + 0.2 * step**2, 0.999 * second + 0.001 * step**4
        moved_by += 0.01 * (first / (1 - 0.8**step)) / np.sqrt(second / (1 - 0.999**step))
        trace = 0.8 * trace + gradient
        # As fmnist_jax lays kernels out: [H, W, C_in, C_out], and all but the last axis are rows.
        direction = (gradient + 0.8 * trace).transpose(2, 3, 1, 0).reshape(-1, 32)
        orthogonal = newton_schulz(direction).reshape(3, 3, 1, 32).transpose(3, 2, 0, 1)
        expected = expected - 0.1 * (32 / 9) ** 0.5 * orthogonal
    np.testing.assert_allclose(kernel.detach().numpy(), expected, atol=1e-4)
    for each, start in zip(rest, before[1:], strict=True):
        np.testing.assert_allclose(each.detach().numpy(), start - moved_by, atol=1e-5)


def test_another_optimiser_is_refused() -> None:
    from experiments.benchmark.pytorch_optim import make_optimizer

    with pytest.raises(FmnistError, match="does not support the optimiser adamw: expected sgd or muon"):
        make_optimizer(network(), {**_MUON, "name": "adamw"})
