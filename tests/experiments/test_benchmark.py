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

from experiments.benchmark import costs, population, real_runs, run as benchmark, versions
from fmnist_jax import (
    PRESETS,
    Config,
    DataConfig,
    FmnistError,
    Model,
    ModelConfig,
    cross_entropy,
    load,
    make_mirrored_predict,
    make_model,
    make_optimizer,
    make_predict,
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


def rename_layers(params: Any, layers: list[Any]) -> Any:
    """The weights (or the statistics) of `make_model` by the names that `networks.make_network` uses."""
    queues = {kind: [params[name] for name in sorted(params) if name.startswith(prefix)] for kind, prefix in _PREFIXES}
    return {
        f"{layer.kind}_{index}": queues[layer.kind].pop(0)
        for index, layer in enumerate(layers)
        if queues.get(layer.kind)
    }


_PREFIXES = (("conv", "Conv"), ("norm", "BatchNorm"), ("dense", "Dense"))


def loss_and_gradients(model: Model, params: Any, batch_stats: Any, images: np.ndarray) -> Any:
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(params, batch_stats, jnp.asarray(images), train=True, key=jax.random.key(0))
        return cross_entropy(logits, jnp.arange(len(images)) % 10).mean()

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_layer_list_computes_the_network_of_make_model(pooling: Literal["max", "mean"]) -> None:
    from experiments.benchmark import networks

    config = replace(_MODEL, pooling=pooling)
    layers = networks.layers_of(config)
    model = make_model(config)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    images = np.random.default_rng(0).uniform(size=(6, 28, 28, 1)).astype(np.float32)
    expected = loss_and_gradients(model, params, batch_stats, images)
    layer_params, layer_stats = rename_layers(params, layers), rename_layers(batch_stats, layers)
    for operations in (networks.OURS, networks.PLAIN):
        loss, gradients = loss_and_gradients(
            networks.make_network(layers, operations), layer_params, layer_stats, images
        )
        np.testing.assert_allclose(loss, expected[0], rtol=1e-5)
        jax.tree.map(
            lambda actual, desired: np.testing.assert_allclose(actual, desired, rtol=1e-3, atol=1e-5),
            gradients,
            rename_layers(expected[1], layers),
        )


def test_notebook_network_has_its_size_and_drops_units_only_in_training() -> None:
    from experiments.benchmark import networks

    model = networks.make_network(networks.NOTEBOOK, networks.OURS)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    # 3x3 kernels 1-32-32-64-64, scale and bias for each of their outputs, and a head on 7x7x64.
    assert param_count(params) == 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * (32 + 32 + 64 + 64) + 3136 * 10 + 10
    images = jnp.ones((2, 28, 28, 1))
    eval_logits = model.apply(params, batch_stats, images, train=False)[0]
    np.testing.assert_array_equal(eval_logits[0], eval_logits[1])
    train_logits = model.apply(params, batch_stats, images, train=True, key=jax.random.key(0))[0]
    assert not np.allclose(train_logits[0], train_logits[1])


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_pytorch_network_computes_the_same_logits(pooling: Literal["max", "mean"]) -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import networks, pytorch_side, pytorch_weights

    config = replace(_MODEL, pooling=pooling)
    model, network = make_model(config), pytorch_side.build(networks.layers_of(config))
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    pytorch_weights.load(network, snapshot(Weights(params, batch_stats)).leaves)
    images = np.random.default_rng(0).uniform(size=(6, 28, 28, 1)).astype(np.float32)
    logits = model.apply(params, batch_stats, jnp.asarray(images), train=True, key=jax.random.key(0))[0]
    torch_logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(torch_logits.detach().numpy(), logits, rtol=1e-3, atol=1e-4)
    assert sum(parameter.numel() for parameter in network.parameters()) == param_count(params)


def test_pytorch_sees_every_image_once_per_epoch_in_full_batches() -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_side

    trainer = pytorch_side.Trainer(_TINY, "preset", compiled=False, seed=0)
    image_count, batch_size = len(trainer.train_data[1]), trainer.batch_size
    batches = []
    for _ in range(2 * image_count // batch_size + 1):
        batches.append(trainer._next_indices().numpy())
        trainer.steps_done += 1
    assert {len(batch) for batch in batches} == {batch_size}
    indices = np.concatenate(batches)
    first_epoch, second_epoch = indices[:image_count], indices[image_count : 2 * image_count]
    assert sorted(first_epoch) == sorted(second_epoch) == list(range(image_count))
    assert list(first_epoch) != list(second_epoch)


def test_pytorch_optimizer_takes_the_same_steps() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_side

    trainer = pytorch_side.Trainer(_TINY, "preset", compiled=False, seed=0)
    kernel = next(parameter for parameter in trainer.network.parameters() if parameter.ndim > 1)
    initial, gradient = kernel.detach().numpy().copy(), np.full(kernel.shape, 0.5, np.float32)
    optimizer = make_optimizer(_TINY.optim, make_schedule(_TINY.optim, _TINY.total_steps))
    expected, opt_state = {"kernel": jnp.asarray(initial)}, optimizer.init({"kernel": jnp.asarray(initial)})
    for step in range(3):
        for parameter in trainer.network.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        trainer._decay_and_set_rate(trainer.rates[step])
        trainer.optimizer.step()
        updates, opt_state = optimizer.update({"kernel": jnp.asarray(gradient)}, opt_state, expected)
        expected = {"kernel": expected["kernel"] + updates["kernel"]}
    np.testing.assert_allclose(kernel.detach().numpy(), expected["kernel"], rtol=1e-5, atol=1e-7)
    assert not np.allclose(kernel.detach().numpy(), initial)


@pytest.mark.slow
def test_jax_rates_of_a_small_network_are_positive() -> None:
    from experiments.benchmark import jax_side

    for plain in (False, True):
        assert jax_side.train_rate(_TINY, "preset", plain, 2) > 0
        assert jax_side.eval_rate(_TINY, "preset", plain) > 0
    assert jax_side.step_seconds(_TINY, 2) > 0


def test_tables_format_median_range_and_ratio() -> None:
    from experiments.benchmark import tables

    assert tables.median_and_range([3, 1, 2]) == "2 (1 to 3)"
    assert tables._format_ratio([2.0, 6.0], [1.0, 2.0]) == "2.50 (2.00 to 3.00)"


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("benchmark/[cg]pu.json")), ids=lambda path: path.stem)
def test_committed_benchmark_rows_are_on_the_performance_page(path: Path) -> None:
    from experiments.benchmark import tables

    output = io.StringIO()
    tables.report(Console(file=output, width=150), json.loads(path.read_text()))
    stated_page = _PAGE.read_text()
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in output.getvalue().splitlines()]
    stated_rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in stated_page.splitlines()]
    expected_rows = [row for row in rows if len(row) > 1 and not row[0].startswith("-")]
    assert len(expected_rows) >= 10
    assert [row for row in expected_rows if row not in stated_rows] == []
    versions = json.loads(path.read_text())["versions"]
    torch, _, _ = versions["torch"].partition("+")
    assert f"jax {versions['jax']} and torch {torch}" in " ".join(stated_page.split())


@pytest.mark.parametrize(("device", "network"), [("cpu", "fast"), ("cpu", "notebook"), ("gpu", "fast")])
def test_readme_ratios_match_the_committed_benchmark(device: str, network: str) -> None:
    rates = json.loads((_FOLDER / "benchmark" / f"{device}.json").read_text())["rates"]
    ratios = [
        statistics.median(map(truediv, sides["fmnist_jax"], sides[other]))
        for sides in (rates[f"{phase}, {network} network"] for phase in ("training", "evaluation"))
        for other in ("PyTorch", "PyTorch, torch.compile")
    ]
    cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    assert f" | {cells} |" in (_FOLDER.parent / "README.md").read_text()


def test_growth_figure_has_log_log_axes_for_each_quantity() -> None:
    from experiments.benchmark import scaling

    config = PRESETS["fast"]
    variants = scaling.variants(config)
    assert [value for value, _, _ in variants["width"]] == [0.25, 0.5, 1, 2]
    assert variants["width"][0][1].model.widths == tuple(width // 4 for width in config.model.widths)
    measured = {
        name: [
            (value, steps * variant.train.batch_size / 1000, steps * variant.train.batch_size)
            for value, variant, steps in rows
        ]
        for name, rows in variants.items()
    }
    figure = scaling.figure(measured)
    assert [axes.get_xscale() + axes.get_yscale() for axes in figure.axes] == ["loglog"] * 3
    assert figure.axes[0].get_ylabel() == "seconds"
    assert figure.axes[1].get_ylabel() == figure.axes[2].get_ylabel() == "milliseconds an image"
    np.testing.assert_allclose(np.asarray(figure.axes[1].lines[0].get_ydata(), float), 1.0)


def test_version_rows_have_median_range_and_ratio_to_the_first() -> None:
    from experiments.benchmark import versions

    rates = {"training": {"old": [100.0, 200.0, 300.0], "new": [150.0, 200.0, 600.0]}}
    assert versions.rows(rates) == [
        ("training", "200 (100 to 300)", "200 (150 to 600)", "1.50 (1.00 to 2.00)"),
    ]


def test_committed_version_rates_are_on_the_performance_page() -> None:
    from experiments.benchmark import versions

    rates = json.loads((_FOLDER / "benchmark" / "versions.json").read_text())["rates"]
    stated_page = _PAGE.read_text()
    assert all(f"| {' | '.join(row)} |" in stated_page for row in versions.rows(rates))
    assert all(f"| {name} |" in stated_page for sides in rates.values() for name in sides)


def test_version_worker_reports_the_origin_of_its_interpreter() -> None:
    from experiments.benchmark import versions

    with versions.Worker(sys.executable) as worker:
        origin = worker("origin")
    assert set(origin) == {"hardware", "versions", "commit"}
    name = f"jax {jax.__version__}, Python {'.'.join(map(str, sys.version_info[:2]))}"
    assert versions.environment_name(origin["versions"]) == name


@pytest.mark.parametrize("python", ["/nowhere/python", "false", "echo"])
def test_interpreter_without_this_project_is_refused(python: str) -> None:
    from experiments.benchmark import versions

    def ask() -> None:
        with versions.Worker(python) as worker:
            worker("origin")

    with pytest.raises(FmnistError, match=rf"^{python} .*: give an interpreter with this project"):
        ask()


def test_real_run_arguments_reproduce_data_and_network(tmp_path: Path) -> None:
    data = DataConfig(name="idx", raw_dir=tmp_path, validation_size=7, seed=3)
    config = replace(PRESETS["fast"], data=data, model=replace(PRESETS["fast"].model, widths=(4, 6), depths=(1, 2)))
    parsed = parse(real_runs.train_arguments(config, tmp_path / "run", epochs=3), "prog").config
    assert (parsed.data, parsed.model) == (config.data, config.model)
    assert (parsed.train.epochs, parsed.run.dir) == (3, tmp_path / "run")


def test_real_run_measures_step_time_and_fails_if_it_ends_before_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two steps in two seconds; an evaluation, a save and two steps in six; two steps in three.
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


def test_results_of_all_parts_are_not_replaced_by_those_of_some(tmp_path: Path) -> None:
    path = tmp_path / "cpu.json"
    benchmark.refuse_lost_parts(path, ("rates",))
    path.write_text('{"rates": {}, "growth": {}, "loop": {}}')
    benchmark.refuse_lost_parts(path, ("loop", "growth", "rates"))
    with pytest.raises(FmnistError, match="has growth and loop, which --parts leaves out: give another --out"):
        benchmark.refuse_lost_parts(path, ("rates",))


def test_rates_are_not_replaced_by_those_of_fewer_networks_or_rounds(tmp_path: Path) -> None:
    path, sides = tmp_path / "cpu.json", {"fmnist_jax": [1.0, 2.0, 3.0]}
    measured = {"training, fast network": sides, "training, notebook network": sides}
    benchmark.refuse_lost_rates(path, measured, ("notebook", "fast"), 3, has_torch=False)
    benchmark.refuse_lost_rates(path, {}, ("fast",), 1, has_torch=False)
    compared = {"training, fast network": {**sides, "PyTorch": [1.0, 2.0, 3.0]}}
    benchmark.refuse_lost_rates(path, compared, ("fast",), 3, has_torch=True)
    with pytest.raises(FmnistError, match=r"has PyTorch's rates, and PyTorch is not installed: pip install"):
        benchmark.refuse_lost_rates(path, compared, ("fast",), 3, has_torch=False)
    with pytest.raises(FmnistError, match="has training, notebook network, which --networks leaves out: give another"):
        benchmark.refuse_lost_rates(path, measured, ("fast",), 3, has_torch=True)
    with pytest.raises(FmnistError, match="has 3 rounds, and --rounds is 2: choose 3, or give another --out"):
        benchmark.refuse_lost_rates(path, measured, ("fast", "notebook"), 2, has_torch=True)


def test_committed_measurements_are_kept_from_shorter_ones_and_from_none() -> None:
    pytest.importorskip("torch", reason="without it, the rates of PyTorch would be lost, which is refused first")
    for arguments in (
        benchmark.Arguments(networks=("fast",)),
        benchmark.Arguments(rounds=1),
        benchmark.Arguments(steps=1),
    ):
        with pytest.raises(FmnistError, match=r"cpu\.json has .*give another --out"):
            benchmark.main(arguments)
    with pytest.raises(FmnistError, match=r"cpu\.json is of fashion_mnist images, and --data.name is synthetic"):
        benchmark.main(benchmark.Arguments(data=DataConfig(name="synthetic")))
    for other in (costs.Arguments(networks=("fast",)), costs.Arguments(rounds=1)):
        with pytest.raises(FmnistError, match=r"costs\.json has .*give another --out"):
            costs.main(other)


def test_measurements_of_nothing_are_refused() -> None:
    with pytest.raises(FmnistError, match="--rounds is 0: choose 1 or more"):
        benchmark.main(benchmark.Arguments(rounds=0))
    with pytest.raises(FmnistError, match="--parts is empty"):
        benchmark.main(benchmark.Arguments(parts=()))
    with pytest.raises(FmnistError, match="--steps is 0: choose 1 or more"):
        population.main(population.Arguments(steps=0))
    with pytest.raises(FmnistError, match="--rounds is 0: choose 1 or more"):
        versions.main(versions.Arguments(("python",), rounds=0))


def test_pytorch_scores_as_we_do_also_with_mirror_images() -> None:
    pytest.importorskip("torch", reason="the other side of the benchmark is PyTorch")
    from experiments.benchmark import pytorch_side, pytorch_weights

    trainer = pytorch_side.Trainer(_TINY, "preset", compiled=False, seed=0)
    model = make_model(_TINY.model)
    params, batch_stats = jax.jit(model.init)(jax.random.key(1))
    statistics = jax.tree.map(
        lambda leaf: leaf + jnp.linspace(0.1, 0.5, leaf.size), batch_stats
    )  # not the initial ones
    pytorch_weights.load(trainer.network, snapshot(Weights(params, statistics)).leaves)
    test, predict = load(_TINY.data).test, make_predict(model)
    for score, predicted in (
        (trainer.accuracy, predict),
        (trainer.mirrored_accuracy, make_mirrored_predict(predict)),
    ):
        logits = np.asarray(predicted(params, statistics, jnp.asarray(test.images)))
        assert score() == pytest.approx(np.mean(logits.argmax(1) == test.labels), abs=2 / len(test))
    assert trainer.accuracy() != trainer.mirrored_accuracy()
