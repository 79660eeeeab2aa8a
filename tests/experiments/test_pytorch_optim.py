"""Muon in PyTorch, compared with NumPy."""

from typing import Any

import numpy as np
import pytest

from fmnist_jax import FmnistError
from tests.functional.oracles import orthogonalize_by_svd

torch = pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")

_MUON = {"name": "muon", "peak_lr": 0.1, "rest_lr": 0.01, "momentum": 0.8, "ortho_steps": 3}


@pytest.mark.parametrize(("shape", "steps"), [((6, 27), 3), ((32, 9), 5), ((5, 5), 1)])
def test_orthogonalize_applies_the_quintic_to_the_singular_values(shape: tuple[int, int], steps: int) -> None:
    from experiments.benchmark.pytorch_optim import orthogonalize

    matrix = np.random.default_rng(0).normal(size=shape)
    actual = orthogonalize(torch.tensor(matrix, dtype=torch.float32), steps).numpy()
    np.testing.assert_allclose(actual, orthogonalize_by_svd(matrix, steps), atol=1e-4)


def make_network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(8, 3))


def test_muon_updates_convolution_kernels_and_adam_the_rest() -> None:
    from experiments.benchmark.pytorch_optim import make_optimizer

    network = make_network()
    kernel, *rest = list(network.parameters())
    before = [parameter.detach().numpy().astype(np.float64) for parameter in (kernel, *rest)]
    optimizer = make_optimizer(network, _MUON)
    assert [group["share"] for group in optimizer.param_groups] == pytest.approx([1.0, 0.1])
    rng, trace, expected = np.random.default_rng(1), np.zeros(kernel.shape), before[0]
    first_moment = second_moment = adam_shift = 0.0
    for step in (1, 2, 3):
        gradient = rng.normal(size=kernel.shape)
        kernel.grad = torch.tensor(gradient, dtype=torch.float32)
        for parameter in rest:
            parameter.grad = torch.full_like(parameter, float(step * step))
        optimizer.step()
        # Adam (Kingma & Ba, arXiv:1412.6980), whose first decay is Muon's momentum, as in `fmnist_jax.make_optimizer`.
        first_moment, second_moment = 0.8 * first_moment + 0.2 * step**2, 0.999 * second_moment + 0.001 * step**4
        adam_shift += 0.01 * (first_moment / (1 - 0.8**step)) / np.sqrt(second_moment / (1 - 0.999**step))
        trace = 0.8 * trace + gradient
        # In the layout of fmnist_jax: [H, W, C_in, C_out], and all but the last axis are rows.
        direction = (gradient + 0.8 * trace).transpose(2, 3, 1, 0).reshape(-1, 32)
        orthogonal = orthogonalize_by_svd(direction, 3).reshape(3, 3, 1, 32).transpose(3, 2, 0, 1)
        expected = expected - 0.1 * (32 / 9) ** 0.5 * orthogonal
    np.testing.assert_allclose(kernel.detach().numpy(), expected, atol=1e-4)
    for parameter, initial in zip(rest, before[1:], strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), initial - adam_shift, atol=1e-5)


def test_unsupported_optimizer_is_refused() -> None:
    from experiments.benchmark.pytorch_optim import make_optimizer

    with pytest.raises(FmnistError, match="does not support the optimiser adamw: expected sgd or muon"):
        make_optimizer(make_network(), {**_MUON, "name": "adamw"})
