"""The pieces of the benchmark's networks: what they are, what they count, and that both sides compute the same."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.benchmark import costs, jax_side, networks, pieces
from experiments.benchmark.pieces import Piece
from fmnist_jax import FmnistError, ModelConfig

_ROOT = Path(__file__).parents[2]
_LAYERS = networks.layers_of(ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.5))
_CONV = Piece("conv", (2, 6, 7, 3), 4)
_STEM = Piece("conv, max_pool", (2, 6, 6, 1), 4)
_NORM = Piece("norm, relu", (2, 6, 6, 3))
_POOL = Piece("max_pool", (2, 6, 6, 3))
_DENSE = Piece("dense", (2, 1, 1, 12), 4)
_EVERY_PIECE = [
    *(_CONV._replace(gradient_of=of) for of in ((), (0,), (1,))),
    *(_STEM._replace(gradient_of=of) for of in ((), (1,))),
    *(_NORM._replace(gradient_of=of) for of in ((), (0, 1, 2))),
    Piece("scale, relu", (2, 6, 6, 3)),
    *(_POOL._replace(gradient_of=of) for of in ((), (0,))),
    *(_DENSE._replace(gradient_of=of) for of in ((), (0,), (1,))),
]


def test_the_pieces_of_a_network_are_its_layers_with_the_gradients_that_training_needs() -> None:
    evaluated = [piece.name for piece in pieces.pieces_of(_LAYERS, 2, train=False)]
    assert evaluated == [
        "conv, max_pool, 28x28x1 to 4",
        "scale, relu, 14x14x4",
        "conv, 14x14x4 to 6",
        "max_pool, 14x14x6",
        "scale, relu, 7x7x6",
        "conv, 7x7x6 to 6",
        "scale, relu, 7x7x6",
        "dense, 1x1x294 to 10",
    ]
    trained = [piece.name for piece in pieces.pieces_of(_LAYERS, 2, train=True)]
    assert trained[:6] == [
        "conv, max_pool, 28x28x1 to 4, with gradient",
        "norm, relu, 14x14x4, with gradient",
        "conv, 14x14x4 to 6",
        "conv, 14x14x4 to 6, gradient of images",
        "conv, 14x14x4 to 6, gradient of kernel",
        "max_pool, 14x14x6, with gradient",
    ]
    assert trained[-3:] == [f"dense, 1x1x294 to 10{of}" for of in ("", ", gradient of images", ", gradient of kernel")]
    notebook = [piece.name for piece in pieces.pieces_of(networks.NOTEBOOK, 2, train=True)]
    assert notebook[:2] == ["conv, 28x28x1 to 32", "conv, 28x28x1 to 32, gradient of kernel"]


@pytest.mark.parametrize(
    ("piece", "products"),
    [
        (_CONV, 2 * 16 * 19 * 3 * 4),  # 2 images, and of 6 pixels and 3 taps 16 pairs that meet
        (_CONV._replace(gradient_of=(0,)), 2 * 16 * 19 * 3 * 4),
        (_STEM._replace(gradient_of=(1,)), 2 * (2 * 16 * 16 * 4)),
        (_NORM, 0),
        (_DENSE, 2 * 12 * 4),
        (_DENSE._replace(gradient_of=(1,)), 2 * 12 * 4),
    ],
)
def test_operations_are_two_for_each_product(piece: Piece, products: int) -> None:
    assert pieces.floating_point_operations(piece) == 2 * products


def test_operations_are_those_that_a_product_of_ones_adds_up() -> None:
    images, kernel = (np.ones(shape, np.float32) for shape in pieces.shapes(_CONV))
    assert 2 * np.asarray(pieces.operation(_CONV)(images, kernel)).sum() == pieces.floating_point_operations(_CONV)


@pytest.mark.parametrize(
    ("piece", "numbers"),
    [
        (_CONV, 2 * 6 * 7 * 3 + 9 * 3 * 4 + 2 * 6 * 7 * 4),
        (_CONV._replace(gradient_of=(0,)), 2 * 6 * 7 * 3 + 9 * 3 * 4 + 2 * 6 * 7 * 4),
        (_POOL, 216 + 54),
        (_POOL._replace(gradient_of=(0,)), 2 * 216 + 2 * 54),
        (_NORM._replace(gradient_of=(0, 1, 2)), 2 * (216 + 3 + 3) + 2 * 216),
    ],
)
def test_bytes_are_those_of_every_array_once(piece: Piece, numbers: int) -> None:
    assert pieces.bytes_moved(piece) == 4 * numbers


@pytest.mark.parametrize("piece", _EVERY_PIECE, ids=lambda piece: piece.name)
def test_pytorch_computes_the_same_piece(piece: Piece) -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces

    compute, arguments = pieces.computation(piece)
    ours = jax.tree.leaves(compute(*arguments))
    found = pytorch_pieces.computation(piece)()
    theirs = [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        axes = (2, 3, 1, 0) if mine.shape[:2] == (3, 3) else (0, 2, 3, 1)
        # Scaled by running statistics, PyTorch adds its epsilon to a variance of one.
        np.testing.assert_allclose(mine, other.transpose(axes) if other.ndim == 4 else other, rtol=1e-4, atol=1e-4)


def test_pytorch_keeps_channels_last_behind_images_of_one_channel() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces, pytorch_side

    piece = Piece("conv", (2, 6, 6, 1), 4)
    _, kernel = pytorch_pieces.tensors(piece)
    network = pytorch_side.build([networks.Layer("conv", 4)]).to(memory_format=torch.channels_last)
    assert kernel.stride() == next(network.parameters()).stride()
    assert pytorch_pieces.computation(piece)().stride() == (6 * 6 * 4, 1, 6 * 4, 4)


@pytest.mark.parametrize("of", [(), (0,), (1,)], ids=["itself", "images", "kernel"])
def test_a_piece_takes_time_on_both_sides(of: tuple[int, ...]) -> None:
    piece = _CONV._replace(gradient_of=of)
    assert pieces.seconds(piece) > 0
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces

    assert pytorch_pieces.seconds(piece) > 0


_FOUND: dict[str, Any] = {
    "peaks": {"matrix_products": {"fmnist_jax": 2e9, "PyTorch": 1e9}, "memory": {"activation": 1e9, "large": 5e8}},
    "costs": {
        "training, small network": {
            "batch": 8,
            "whole": {"fmnist_jax": [0.7, 0.9], "PyTorch": [0.5, 0.5]},
            "pieces": [
                {"name": "a", "operations": int(1e9), "bytes": 10, "seconds": {"fmnist_jax": [0.6], "PyTorch": [0.5]}},
                {"name": "b", "operations": 0, "bytes": int(1e8), "seconds": {"fmnist_jax": [0.2], "PyTorch": [0.1]}},
            ],
        }
    },
}


def _printed(found: Any) -> list[list[str]]:
    page = io.StringIO()
    costs.report(Console(file=page, width=200), found)
    lines = page.getvalue().splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.strip()]


def test_the_table_adds_the_pieces_up_and_says_how_long_they_would_take_at_the_peaks() -> None:
    rows = {row[0]: row[1:] for row in _printed(_FOUND) if len(row) > 1}
    assert rows["a"] == ["1.00", "0.0", "600.0", "500.0", "2", "2"]
    assert rows["b"] == ["", "100.0", "200.0", "100.0", "", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.0", "600.0", "1", "2"]
    assert rows["the whole"] == ["1.00", "", "800.0 (700.0 to 900.0)", "500.0 (500.0 to 500.0)", "1", "2"]
    # 1 GFLOP at 2 a second, and 0.1 GB at 1.
    assert rows["at the machine's peaks"] == ["1.00", "100.0", "600.0", "", "2", ""]


def test_columns_of_a_side_that_is_not_installed_stay_empty() -> None:
    def without(each: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in each.items() if key != "PyTorch"}

    rows = {row[0]: row[1:] for row in _printed(json.loads(json.dumps(_FOUND), object_hook=without)) if len(row) > 1}
    assert rows["a"] == ["1.00", "0.0", "600.0", "", "2", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.0", "", "1", ""]
    assert rows["the whole"] == ["1.00", "", "800.0 (700.0 to 900.0)", "", "1", ""]


def test_every_cost_of_the_committed_file_stands_on_its_page() -> None:
    stated_page = (_ROOT / "docs" / "costs.md").read_text()
    stated = [[cell.strip() for cell in line.strip("|").split("|")] for line in stated_page.splitlines()]
    found = json.loads((_ROOT / "experiments" / "benchmark" / "costs.json").read_text())
    wanted = [row for row in _printed(found) if len(row) > 1 and not row[0].startswith("-")]
    assert len(wanted) > 60
    assert [row for row in wanted if row not in stated] == []
    assert costs.sentence(found["peaks"]) in " ".join(stated_page.split())


@pytest.mark.slow
def test_a_rehearsal_goes_through_and_never_lands_among_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FmnistError, match="a rehearsal is not a result"):
        costs.main(costs.Arguments(rehearse=True))

    class Here:
        """A worker that works in this process."""

        def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        def close(self) -> None:
            pass

    monkeypatch.setattr(costs, "Worker", Here)
    monkeypatch.setattr(costs, "start_jax", lambda _: None)
    monkeypatch.setattr(costs, "_MEMORY", {"activation": 2**10, "large": 2**12})
    monkeypatch.setattr(jax_side, "matrix_rate", partial(jax_side.matrix_rate, 64))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    out = tmp_path / "costs.json"
    costs.main(costs.Arguments(networks=("fast",), rounds=1, steps=2, rehearse=True, out=out))
    found = json.loads(out.read_text())
    assert list(found["costs"]) == ["training, fast network", "evaluation, fast network"]
    assert all(piece["seconds"]["fmnist_jax"][0] > 0 for piece in found["costs"]["training, fast network"]["pieces"])
