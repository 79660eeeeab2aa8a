"""The pieces of the benchmark's networks: what they are, what they count, and that both sides compute the same."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.benchmark import costs, networks, pieces
from experiments.benchmark.pieces import Piece
from fmnist_jax import FmnistError, ModelConfig, compiler_options

_ROOT = Path(__file__).parents[2]
_LAYERS = networks.layers_of(ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.5))
_EVERY_KIND = [
    Piece("conv", (2, 6, 6, 3), 4),
    Piece("conv, max_pool", (2, 6, 6, 1), 4),
    Piece("conv, mean_pool", (2, 6, 6, 3), 4),
    Piece("norm, relu", (2, 6, 6, 3)),
    Piece("scale, relu", (2, 6, 6, 3)),
    Piece("max_pool", (2, 6, 6, 3)),
    Piece("mean_pool", (2, 6, 6, 3)),
    Piece("dense", (2, 1, 1, 12), 4),
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
    assert trained[:4] == [
        "conv, max_pool, 28x28x1 to 4",
        "conv, max_pool, 28x28x1 to 4, gradient of kernel",
        "norm, relu, 14x14x4",
        "norm, relu, 14x14x4, gradient",
    ]
    assert [name for name in trained if "14x14x4 to" in name][1:] == [
        "conv, 14x14x4 to 6, gradient of images",
        "conv, 14x14x4 to 6, gradient of kernel",
    ]


def test_the_operations_of_all_pieces_are_those_that_xla_counts_in_the_network() -> None:
    model = networks.make_network([layer for layer in _LAYERS if layer.kind != "dropout"], networks.PLAIN)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    images = jnp.zeros((2, 28, 28, 1))

    def logits(params: Any, batch_stats: Any) -> jax.Array:
        return model.apply(params, batch_stats, images, train=False)[0]

    products = sum(map(pieces.floating_point_operations, pieces.pieces_of(_LAYERS, 2, train=False)))
    compiled: Any = jax.jit(logits, compiler_options=compiler_options()).lower(params, batch_stats).compile()
    counted = compiled.cost_analysis()["flops"]
    # XLA leaves out what lies beyond the border of an image, and counts all the rest that is no product.
    assert 0.8 < counted / products < 1.3


def test_bytes_are_those_of_every_array_once() -> None:
    images, kernel, output = 2 * 6 * 6 * 3, 9 * 3 * 4, 2 * 6 * 6 * 4
    piece = Piece("conv", (2, 6, 6, 3), 4)
    for of in ((), (0,), (1,)):
        assert pieces.bytes_moved(piece._replace(gradient_of=of)) == 4 * (images + kernel + output)
    pool = Piece("max_pool", (2, 6, 6, 3))
    assert pieces.bytes_moved(pool) == 4 * (images + images // 4)
    # Which was the largest stands in the images, which the gradient therefore reads.
    assert pieces.bytes_moved(pool._replace(gradient_of=(0,))) == 4 * (2 * images + images // 4)


@pytest.mark.parametrize("piece", _EVERY_KIND, ids=lambda piece: piece.kind)
def test_pytorch_computes_the_same_piece(piece: Piece) -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_pieces

    rng = np.random.default_rng(0)
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in pieces.shapes(piece)]
    # Scaled by running statistics, PyTorch adds its epsilon to a variance of one.
    tolerance = 1e-4 if piece.kind == "scale, relu" else 2e-5
    ours = np.asarray(pieces.operation(piece)(*arguments))
    theirs = pytorch_pieces.operation(piece)(*map(pytorch_pieces.tensor, arguments)).numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("of", [(), (0,), (1,)], ids=["itself", "images", "kernel"])
def test_a_piece_takes_time_on_both_sides(of: tuple[int, ...]) -> None:
    piece = Piece("conv", (2, 6, 6, 3), 4, of)
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


def test_the_table_adds_the_pieces_up_and_says_how_short_a_step_could_be() -> None:
    rows = {row[0]: row[1:] for row in _printed(_FOUND) if len(row) > 1}
    assert rows["a"] == ["1.00", "0.0", "600.00", "500.00", "2", "2"]
    assert rows["b"] == ["", "100.0", "200.00", "100.00", "", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.00", "600.00", "1", "2"]
    assert rows["the whole"] == ["1.00", "", "800.00", "500.00", "1", "2"]
    assert rows["at the machine's peaks"] == ["1.00", "", "600.00", "", "2", ""]  # 1 GFLOP at 2 a second, 0.1 GB at 1


def test_columns_of_a_side_that_is_not_installed_stay_empty() -> None:
    def without(each: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in each.items() if key != "PyTorch"}

    only_ours = json.loads(json.dumps(_FOUND), object_hook=without)
    rows = {row[0]: row[1:] for row in _printed(only_ours) if len(row) > 1}
    assert rows["a"] == ["1.00", "0.0", "600.00", "", "2", ""]
    assert rows["all pieces"] == ["1.00", "100.0", "800.00", "", "1", ""]
    assert rows["the whole"] == ["1.00", "", "800.00", "", "1", ""]


def test_every_cost_of_the_committed_file_stands_on_its_page() -> None:
    stated_page = (_ROOT / "docs" / "costs.md").read_text()
    stated = [[cell.strip() for cell in line.strip("|").split("|")] for line in stated_page.splitlines()]
    found = json.loads((_ROOT / "experiments" / "benchmark" / "costs.json").read_text())
    wanted = [row for row in _printed(found) if len(row) > 1 and not row[0].startswith("-")]
    assert len(wanted) > 80
    assert [row for row in wanted if row not in stated] == []
    assert costs.sentence(found["peaks"]) in " ".join(stated_page.split())


def test_a_rehearsal_goes_through_and_never_lands_among_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FmnistError, match="a rehearsal is no result"):
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
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    out = tmp_path / "costs.json"
    costs.main(costs.Arguments(networks=("fast",), rounds=1, steps=2, rehearse=True, out=out))
    found = json.loads(out.read_text())
    assert list(found["costs"]) == ["training, fast network", "evaluation, fast network"]
    assert all(piece["seconds"]["fmnist_jax"][0] > 0 for piece in found["costs"]["training, fast network"]["pieces"])
