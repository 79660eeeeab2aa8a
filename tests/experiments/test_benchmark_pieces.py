"""The pieces of the benchmark's networks: their list, operations and bytes, and that both sides compute the same."""

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
    *(_CONV._replace(gradient_of=gradient_of) for gradient_of in ((), (0,), (1,))),
    *(_STEM._replace(gradient_of=gradient_of) for gradient_of in ((), (1,))),
    *(_NORM._replace(gradient_of=gradient_of) for gradient_of in ((), (0, 1, 2))),
    Piece("scale, relu", (2, 6, 6, 3)),
    *(_POOL._replace(gradient_of=gradient_of) for gradient_of in ((), (0,))),
    *(_DENSE._replace(gradient_of=gradient_of) for gradient_of in ((), (0,), (1,))),
]


def test_list_pieces_has_each_layer_and_the_gradients_training_needs() -> None:
    eval_names = [piece.name for piece in pieces.list_pieces(_LAYERS, 2, train=False)]
    assert eval_names == [
        "conv, max_pool, 28x28x1 to 4",
        "scale, relu, 14x14x4",
        "conv, 14x14x4 to 6",
        "max_pool, 14x14x6",
        "scale, relu, 7x7x6",
        "conv, 7x7x6 to 6",
        "scale, relu, 7x7x6",
        "dense, 1x1x294 to 10",
    ]
    train_names = [piece.name for piece in pieces.list_pieces(_LAYERS, 2, train=True)]
    assert train_names[:6] == [
        "conv, max_pool, 28x28x1 to 4, with gradient",
        "norm, relu, 14x14x4, with gradient",
        "conv, 14x14x4 to 6",
        "conv, 14x14x4 to 6, gradient of images",
        "conv, 14x14x4 to 6, gradient of kernel",
        "max_pool, 14x14x6, with gradient",
    ]
    assert train_names[-3:] == [
        f"dense, 1x1x294 to 10{suffix}" for suffix in ("", ", gradient of images", ", gradient of kernel")
    ]
    notebook_names = [piece.name for piece in pieces.list_pieces(networks.NOTEBOOK, 2, train=True)]
    assert notebook_names[:2] == ["conv, 28x28x1 to 32", "conv, 28x28x1 to 32, gradient of kernel"]


@pytest.mark.parametrize(
    ("piece", "products"),
    [
        (_CONV, 2 * 16 * 19 * 3 * 4),  # 2 images; 16 pairs of 6 pixels and 3 taps overlap
        (_CONV._replace(gradient_of=(0,)), 2 * 16 * 19 * 3 * 4),
        (_STEM._replace(gradient_of=(1,)), 2 * (2 * 16 * 16 * 4)),
        (_NORM, 0),
        (_DENSE, 2 * 12 * 4),
        (_DENSE._replace(gradient_of=(1,)), 2 * 12 * 4),
    ],
)
def test_floating_point_operations_are_two_per_product(piece: Piece, products: int) -> None:
    assert pieces.floating_point_operations(piece) == 2 * products


def test_floating_point_operations_match_a_convolution_of_ones() -> None:
    images, kernel = (np.ones(shape, np.float32) for shape in pieces.argument_shapes(_CONV))
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
def test_bytes_moved_counts_every_array_once(piece: Piece, numbers: int) -> None:
    assert pieces.bytes_moved(piece) == 4 * numbers


@pytest.mark.parametrize("piece", _EVERY_PIECE, ids=lambda piece: piece.name)
def test_pytorch_computes_the_same_piece(piece: Piece) -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces

    compute, arguments = pieces.computation(piece)
    ours = jax.tree.leaves(compute(*arguments))
    outputs = pytorch_pieces.computation(piece)()
    theirs = [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
    assert len(ours) == len(theirs)
    for our_array, their_array in zip(ours, theirs, strict=True):
        axes = (2, 3, 1, 0) if our_array.shape[:2] == (3, 3) else (0, 2, 3, 1)
        # With running statistics, PyTorch adds its epsilon to a variance of one.
        np.testing.assert_allclose(
            our_array, their_array.transpose(axes) if their_array.ndim == 4 else their_array, rtol=1e-4, atol=1e-4
        )


def test_pytorch_keeps_channels_last_after_single_channel_images() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces, pytorch_side

    piece = Piece("conv", (2, 6, 6, 1), 4)
    _, kernel = pytorch_pieces.tensors(piece)
    network = pytorch_side.build([networks.Layer("conv", 4)]).to(memory_format=torch.channels_last)
    assert kernel.stride() == next(network.parameters()).stride()
    assert pytorch_pieces.computation(piece)().stride() == (6 * 6 * 4, 1, 6 * 4, 4)


@pytest.mark.parametrize("gradient_of", [(), (0,), (1,)], ids=["layer", "images", "kernel"])
def test_piece_times_are_positive_on_both_sides(gradient_of: tuple[int, ...]) -> None:
    piece = _CONV._replace(gradient_of=gradient_of)
    assert pieces.seconds(piece) > 0
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces

    assert pytorch_pieces.seconds(piece) > 0


_RESULTS: dict[str, Any] = {
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


def _printed_rows(results: Any) -> list[list[str]]:
    output = io.StringIO()
    costs.report(Console(file=output, width=200), results)
    lines = output.getvalue().splitlines()
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.strip()]


def test_table_sums_the_pieces_and_states_their_time_at_the_peaks() -> None:
    rows = {row[0]: row[1:] for row in _printed_rows(_RESULTS) if len(row) > 1}
    assert rows["a"] == ["1.00", "0.0", "600.0", "500.0", "2", "2"]
    assert rows["b"] == ["", "100.0", "200.0", "100.0", "", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.0", "600.0", "1", "2"]
    assert rows["the whole"] == ["1.00", "", "800.0 (700.0 to 900.0)", "500.0 (500.0 to 500.0)", "1", "2"]
    # 1 GFLOP at 2 GFLOP/s, and 0.1 GB at 1 GB/s.
    assert rows["at the machine's peaks"] == ["1.00", "100.0", "600.0", "", "2", ""]


def test_columns_of_a_side_that_is_not_installed_are_empty() -> None:
    def drop_pytorch(node: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in node.items() if key != "PyTorch"}

    rows = {
        row[0]: row[1:]
        for row in _printed_rows(json.loads(json.dumps(_RESULTS), object_hook=drop_pytorch))
        if len(row) > 1
    }
    assert rows["a"] == ["1.00", "0.0", "600.0", "", "2", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.0", "", "1", ""]
    assert rows["the whole"] == ["1.00", "", "800.0 (700.0 to 900.0)", "", "1", ""]


def test_committed_costs_are_on_the_costs_page() -> None:
    stated_page = (_ROOT / "docs" / "costs.md").read_text()
    stated_rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in stated_page.splitlines()]
    results = json.loads((_ROOT / "experiments" / "benchmark" / "costs.json").read_text())
    expected_rows = [row for row in _printed_rows(results) if len(row) > 1 and not row[0].startswith("-")]
    assert len(expected_rows) > 60
    assert [row for row in expected_rows if row not in stated_rows] == []
    assert costs.peaks_note(results["peaks"]) in " ".join(stated_page.split())


@pytest.mark.slow
def test_rehearsal_completes_and_is_refused_in_the_results_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FmnistError, match="holds results, and a rehearsal is not one: give it"):
        costs.main(costs.Arguments(rehearse=True))

    class InProcessWorker:
        """A worker that works in this process."""

        def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
            return function(*arguments)

        def close(self) -> None:
            pass

    monkeypatch.setattr(costs, "Worker", InProcessWorker)
    monkeypatch.setattr(costs, "start_jax", lambda _: None)
    monkeypatch.setattr(costs, "_MEMORY_SIZES", {"activation": 2**10, "large": 2**12})
    monkeypatch.setattr(jax_side, "matrix_rate", partial(jax_side.matrix_rate, 64))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    out = tmp_path / "costs.json"
    costs.main(costs.Arguments(networks=("fast",), rounds=1, steps=2, rehearse=True, out=out))
    results = json.loads(out.read_text())
    assert list(results["costs"]) == ["training, fast network", "evaluation, fast network"]
    assert all(piece["seconds"]["fmnist_jax"][0] > 0 for piece in results["costs"]["training, fast network"]["pieces"])
