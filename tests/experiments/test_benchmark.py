"""The benchmark's parts: the same networks and recipe on every side, and tables that say what was measured."""

import io
import json
import statistics
import sys
from dataclasses import replace
from operator import truediv
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.benchmark import real_runs
from fmnist_jax import (
    PRESETS,
    Config,
    DataConfig,
    Model,
    ModelConfig,
    cross_entropy,
    make_model,
    make_optimizer,
    make_schedule,
    param_count,
)
from fmnist_jax.functional.state import Weights
from fmnist_jax.runs.leaves import snapshot
from fmnist_jax.train import parse

_FOLDER = Path(__file__).parents[2] / "experiments"
_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
_MODEL = ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.0)
_TINY = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=300, synthetic_test_size=50, validation_size=0),
    model=_MODEL,
)


def renamed(params: Any, layers: list[Any]) -> Any:
    """The weights (or the statistics) of `make_model` under the names of `networks.make_network`."""
    queues = {kind: [params[name] for name in sorted(params) if name.startswith(prefix)] for kind, prefix in _PREFIXES}
    return {
        f"{layer.kind}_{index}": queues[layer.kind].pop(0)
        for index, layer in enumerate(layers)
        if queues.get(layer.kind)
    }


_PREFIXES = (("conv", "Conv"), ("norm", "BatchNorm"), ("dense", "Dense"))


def gradients(model: Model, params: Any, batch_stats: Any, images: np.ndarray) -> Any:
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(params, batch_stats, jnp.asarray(images), train=True, key=jax.random.key(0))
        return cross_entropy(logits, jnp.arange(len(images)) % 10).mean()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_the_layer_list_is_the_network_that_the_package_makes(pooling: Literal["max", "mean"]) -> None:
    from experiments.benchmark import networks

    config = replace(_MODEL, pooling=pooling)
    layers = networks.layers_of(config)
    model = make_model(config)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    images = np.random.default_rng(0).uniform(size=(6, 28, 28, 1)).astype(np.float32)
    expected = gradients(model, params, batch_stats, images)
    own, own_stats = renamed(params, layers), renamed(batch_stats, layers)
    for operations in (networks.HERE, networks.PLAIN):
        loss, slopes = gradients(networks.make_network(layers, operations), own, own_stats, images)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
        jax.tree.map(
            lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5),
            slopes,
            renamed(expected[1], layers),
        )


def test_the_notebooks_network_has_the_size_it_should_and_drops_units_only_in_training() -> None:
    from experiments.benchmark import networks

    model = networks.make_network(networks.NOTEBOOK, networks.HERE)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    # 3x3 kernels 1-32-32-64-64, scale and bias for each of their outputs, and a head on 7x7x64.
    assert param_count(params) == 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * (32 + 32 + 64 + 64) + 3136 * 10 + 10
    images = jnp.ones((2, 28, 28, 1))
    still = model.apply(params, batch_stats, images, train=False)[0]
    np.testing.assert_array_equal(still[0], still[1])
    dropped = model.apply(params, batch_stats, images, train=True, key=jax.random.key(0))[0]
    assert not np.allclose(dropped[0], dropped[1])


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_the_pytorch_side_builds_the_same_network(pooling: Literal["max", "mean"]) -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import networks, pytorch_side, pytorch_weights

    config = replace(_MODEL, pooling=pooling)
    model, network = make_model(config), pytorch_side.build(networks.layers_of(config))
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    pytorch_weights.load(network, snapshot(Weights(params, batch_stats)).leaves)
    images = np.random.default_rng(0).uniform(size=(6, 28, 28, 1)).astype(np.float32)
    logits = model.apply(params, batch_stats, jnp.asarray(images), train=True, key=jax.random.key(0))[0]
    theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(theirs.detach().numpy(), logits, rtol=1e-3, atol=1e-4)
    assert sum(each.numel() for each in network.parameters()) == param_count(params)


def test_the_pytorch_side_sees_every_image_once_an_epoch_in_full_batches() -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_side

    trainer = pytorch_side.Trainer(_TINY, "preset", compiled=False, seed=0)
    images, size = len(trainer.train_data[1]), trainer.batch_size
    batches = []
    for _ in range(2 * images // size + 1):
        batches.append(trainer._next_indices().numpy())
        trainer.steps_done += 1
    assert {len(batch) for batch in batches} == {size}
    seen = np.concatenate(batches)
    first, second = seen[:images], seen[images : 2 * images]
    assert sorted(first) == sorted(second) == list(range(images))
    assert list(first) != list(second)


def test_the_pytorch_side_takes_the_same_steps() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_side

    trainer = pytorch_side.Trainer(_TINY, "preset", compiled=False, seed=0)
    kernel = next(each for each in trainer.network.parameters() if each.ndim > 1)
    start, gradient = kernel.detach().numpy().copy(), np.full(kernel.shape, 0.5, np.float32)
    optimizer = make_optimizer(_TINY.optim, make_schedule(_TINY.optim, _TINY.total_steps))
    expected, opt_state = {"kernel": jnp.asarray(start)}, optimizer.init({"kernel": jnp.asarray(start)})
    for step in range(3):
        for each in trainer.network.parameters():
            each.grad = torch.full_like(each, 0.5)
        trainer._decay_and_set_rate(trainer.rates[step])
        trainer.optimizer.step()
        updates, opt_state = optimizer.update({"kernel": jnp.asarray(gradient)}, opt_state, expected)
        expected = {"kernel": expected["kernel"] + updates["kernel"]}
    np.testing.assert_allclose(kernel.detach().numpy(), expected["kernel"], rtol=1e-5, atol=1e-7)
    assert not np.allclose(kernel.detach().numpy(), start)


@pytest.mark.slow
def test_the_jax_side_trains_and_scores_a_small_network() -> None:
    from experiments.benchmark import jax_side

    for plain in (False, True):
        assert jax_side.train_rate(_TINY, "preset", plain, 2) > 0
        assert jax_side.eval_rate(_TINY, "preset", plain) > 0
    assert jax_side.step_seconds(_TINY, 2) > 0


def test_the_tables_say_median_range_and_ratio() -> None:
    from experiments.benchmark import tables

    assert tables.spread([3, 1, 2]) == "2 (1 to 3)"
    assert tables._ratio([2.0, 6.0], [1.0, 2.0]) == "2.50 (2.00 to 3.00)"


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("benchmark/[cg]pu.json")), ids=lambda path: path.stem)
def test_every_figure_of_a_committed_benchmark_stands_on_its_page(path: Path) -> None:
    from experiments.benchmark import tables

    page = io.StringIO()
    tables.report(Console(file=page, width=150), json.loads(path.read_text()))
    stated_page = _PAGE.read_text()
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in page.getvalue().splitlines()]
    stated = [[cell.strip() for cell in line.strip("|").split("|")] for line in stated_page.splitlines()]
    wanted = [row for row in rows if len(row) > 1 and not row[0].startswith("-")]
    assert len(wanted) >= 10
    assert [row for row in wanted if row not in stated] == []
    versions = json.loads(path.read_text())["versions"]
    torch, _, _ = versions["torch"].partition("+")
    assert f"jax {versions['jax']} and torch {torch}" in " ".join(stated_page.split())


@pytest.mark.parametrize(("device", "network"), [("cpu", "fast"), ("cpu", "notebook"), ("gpu", "fast")])
def test_the_ratios_of_the_readme_are_those_of_a_committed_benchmark(device: str, network: str) -> None:
    rates = json.loads((_FOLDER / "benchmark" / f"{device}.json").read_text())["rates"]
    ratios = [
        statistics.median(map(truediv, sides["fmnist_jax"], sides[other]))
        for sides in (rates[f"{phase}, {network} network"] for phase in ("training", "evaluation"))
        for other in ("PyTorch", "PyTorch, torch.compile")
    ]
    cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    assert f" | {cells} |" in (_FOLDER.parent / "README.md").read_text()


def test_growth_is_drawn_for_each_quantity_on_log_log_axes() -> None:
    from experiments.benchmark import scaling

    config = PRESETS["fast"]
    variants = scaling.variants(config)
    assert [value for value, _, _ in variants["width"]] == [0.25, 0.5, 1, 2]
    assert variants["width"][0][1].model.widths == tuple(width // 4 for width in config.model.widths)
    measured = {
        name: [
            (value, steps * each.train.batch_size / 1000, steps * each.train.batch_size) for value, each, steps in rows
        ]
        for name, rows in variants.items()
    }
    figure = scaling.figure(measured)
    assert [axes.get_xscale() + axes.get_yscale() for axes in figure.axes] == ["loglog"] * 3
    assert figure.axes[0].get_ylabel() == "seconds"
    assert figure.axes[1].get_ylabel() == figure.axes[2].get_ylabel() == "milliseconds an image"
    np.testing.assert_allclose(np.asarray(figure.axes[1].lines[0].get_ydata(), float), 1.0)


def test_a_table_of_versions_has_the_median_the_range_and_the_ratio_to_the_first() -> None:
    from experiments.benchmark import versions

    rates = {"training": {"old": [100.0, 200.0, 300.0], "new": [150.0, 200.0, 600.0]}}
    assert versions.rows(rates) == [
        ("training", "200 (100 to 300)", "200 (150 to 600)", "1.50 (1.00 to 2.00)"),
    ]


def test_every_rate_of_the_committed_versions_stands_on_its_page() -> None:
    from experiments.benchmark import versions

    rates = json.loads((_FOLDER / "benchmark" / "versions.json").read_text())["rates"]
    stated_page = _PAGE.read_text()
    assert all(f"| {' | '.join(row)} |" in stated_page for row in versions.rows(rates))
    assert all(f"| {name} |" in stated_page for sides in rates.values() for name in sides)


def test_a_worker_measures_in_an_interpreter_of_its_own() -> None:
    from experiments.benchmark import versions

    with versions.Worker(sys.executable) as worker:
        found = worker("origin")
    assert set(found) == {"hardware", "versions", "commit"}
    name = f"jax {jax.__version__}, Python {'.'.join(map(str, sys.version_info[:2]))}"
    assert versions.name_of(found["versions"]) == name


def test_a_real_run_is_of_the_data_and_the_network_of_the_configuration(tmp_path: Path) -> None:
    data = DataConfig(name="idx", raw_dir=tmp_path, validation_size=7, seed=3)
    config = replace(PRESETS["fast"], data=data, model=replace(PRESETS["fast"].model, widths=(4, 6), depths=(1, 2)))
    parsed = parse(real_runs.arguments(config, tmp_path / "run", epochs=3), "prog").config
    assert (parsed.data, parsed.model) == (config.data, config.model)
    assert (parsed.train.epochs, parsed.run.dir) == (3, tmp_path / "run")


def test_a_real_run_that_ends_before_it_is_stopped_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two steps in two seconds; an evaluation, saving, and two steps in six; two steps in three.
    lines = [(2, 9.0, "train"), (4, 11.0, "train"), (4, 11.5, "val"), (6, 17.5, "train"), (8, 20.5, "train")]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "elapsed_seconds": elapsed, f"{kind}_loss": 1.0}) + "\n"
            for step, elapsed, kind in lines
        )
    )
    monkeypatch.setattr(sys, "executable", "true")
    argv = ["--run.dir", str(tmp_path)]
    assert real_runs.run(argv, tmp_path).seconds_per_step == 1.5
    with pytest.raises(RuntimeError, match="the run exited with 0 after 0 log lines"):
        real_runs.run(argv, tmp_path, stop_after=4)
