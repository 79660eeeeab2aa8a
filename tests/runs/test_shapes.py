"""Whole runs on eight devices, populations, and checkpoints that move between numbers of devices."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import pytest

from fmnist_jax.commands import evaluation, reporting
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import Config, DataConfig, ParallelConfig, PopulationConfig, RunConfig
from fmnist_jax.data.dataset import load
from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import checkpoint, loop, results, resumption
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.runs.trained import load_trained
from tests.undrawn import RESULTS_STUBS

pytestmark = pytest.mark.slow

DATA = DataConfig(name="synthetic", synthetic_train_size=120, synthetic_test_size=50, validation_size=24)


def tiny(preset: str, **changes: Any) -> Config:
    """A preset's family and techniques, with a network, data and length small enough for a test."""
    config = PRESETS[preset]
    return replace(
        config,
        data=DATA,
        model=replace(config.model, widths=(4, 6), depths=(1, 1)),
        train=replace(config.train, epochs=2, batch_size=16, eval_batch_size=20),
        run=RunConfig(log_every=3, checkpoint_every=4, progress="plain"),
        **changes,
    )


def with_run_dir(config: Config, path: Path) -> Config:
    return replace(config, run=replace(config.run, dir=path))


@pytest.fixture(scope="module")
def eight_device_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run on all eight devices, which is the default."""
    path = tmp_path_factory.mktemp("runs") / "record"
    config = with_run_dir(tiny("record"), path)
    with patch.multiple(results, **RESULTS_STUBS):
        loop.run(config)
    return config, path


def test_eight_device_run_scores_exactly_the_test_images(eight_device_run: tuple[Config, Path]) -> None:
    _, path = eight_device_run
    summary = json.loads((path / "summary.json").read_text())
    assert summary["test_examples"] == 50
    assert (summary["devices"], summary["processes"]) == (["cpu"] * 8, 1)
    with np.load(path / "predictions.npz") as saved:
        assert saved["logits"].shape == (50, 10)
        assert summary["test_accuracy"] == np.mean(saved["logits"].argmax(-1) == saved["labels"])
    environment = json.loads((path / "environment.json").read_text())
    assert (environment["devices"], environment["devices_seen"]) == (["cpu"] * 8, 8)


def test_eight_device_checkpoint_predicts_the_same_on_one_device(eight_device_run: tuple[Config, Path]) -> None:
    config, path = eight_device_run
    with np.load(path / "predictions.npz") as saved:
        np.testing.assert_allclose(
            load_trained(path).predict(load(config.data).test.images), saved["logits"], rtol=0.02, atol=0.02
        )


@pytest.mark.parametrize("devices", [1, 2, "all"])
def test_eight_device_checkpoint_is_restored_bitwise_on_any_number_of_devices(
    eight_device_run: tuple[Config, Path], devices: Any
) -> None:
    config, path = eight_device_run
    fresh = jax.jit(make_recipe(config).init)(jax.random.key(9))
    layout = choose_layout(replace(config, parallel=ParallelConfig(devices=devices)))
    state = resumption.restore_newest(path / "checkpoints", fresh, layout, config.total_steps)
    assert state_digest(state) == json.loads((path / "summary.json").read_text())["state_digest"]
    assert all(leaf.sharding.device_set == set(layout.mesh.devices.flat) for leaf in jax.tree.leaves(state))


def test_eight_device_run_resumes_on_one_device_and_back_on_eight(tmp_path: Path) -> None:
    config = with_run_dir(tiny("small"), tmp_path / "run")
    uninterrupted = loop.run(config)
    for devices in (1, 8):
        _undo_last_checkpoint(tmp_path / "run")
        resumed = loop.run(replace(config, parallel=ParallelConfig(devices=devices)))
        assert resumed["devices"] == ["cpu"] * devices
        assert resumed["steps"] == uninterrupted["steps"]
        assert resumed["test_loss"] == pytest.approx(uninterrupted["test_loss"], rel=0.05)
    assert resumed["state_digest"] == uninterrupted["state_digest"]  # back on eight devices it is bitwise equal again
    sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [len(session["devices"]) for session in sessions] == [8, 1, 8]
    assert [session["parallel"]["devices"] for session in sessions] == ["all", 1, 8]


def _undo_last_checkpoint(path: Path) -> None:
    """Puts a run back into the state of one killed before its last checkpoint."""
    (path / "summary.json").unlink()
    last_checkpoint = path / "checkpoints" / str(checkpoint.steps(path / "checkpoints")[-1])
    shutil.rmtree(last_checkpoint)


POPULATION = tiny("demo", population=PopulationConfig(seeds=2), parallel=ParallelConfig(devices=1))


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "population"
    return path, loop.run(with_run_dir(POPULATION, path))


def test_population_summary_and_report_show_the_ensemble_and_every_member(
    population: tuple[Path, dict[str, Any]],
) -> None:
    path, summary = population
    assert summary["population"]["seeds"] == [0, 1]
    with np.load(path / "predictions.npz") as saved:
        labels, members = saved["labels"], saved["member_logits"]
        assert summary["population"]["test_accuracy"] == list(np.mean(members.argmax(-1) == labels, axis=-1))
        probabilities = np.exp(members - members.max(-1, keepdims=True))
        mean = (probabilities / probabilities.sum(-1, keepdims=True)).mean(0)
        np.testing.assert_allclose(np.exp(saved["logits"]), mean, rtol=1e-4)
        assert summary["test_accuracy"] == np.mean(saved["logits"].argmax(-1) == labels)
    page = (path / "report.html").read_text()
    assert "ensemble of 2 members" in page
    assert f"<strong>{summary['test_accuracy']:.2%}</strong>" in page


def test_population_member_matches_the_single_run_of_its_seed(
    population: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Up to rounding in these tests, which turn LLVM's optimisations off; bitwise equal as users compile."""
    path, summary = population
    single_config = replace(POPULATION, train=replace(POPULATION.train, seed=1), population=PopulationConfig())
    single_summary = loop.run(with_run_dir(single_config, tmp_path / "run"))
    member, trained = load_trained(path).member(1), load_trained(tmp_path / "run")
    for model, number in ((load_trained(path), 2), (load_trained(path), -1), (trained, 1)):
        with pytest.raises(IndexError, match=rf"member {number} of {model.members}: expected 0 to {model.members - 1}"):
            model.member(number)
    assert member.config.train.seed == 1
    assert member.config.population.seeds == 1
    for actual, expected in zip(jax.tree.leaves(member.weights), jax.tree.leaves(trained.weights), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0.02, atol=0.02)
    assert summary["population"]["test_loss"][1] == pytest.approx(single_summary["test_loss"], rel=0.02)
    assert summary["parameters"] == single_summary["parameters"]


def test_population_resumes_but_not_as_a_single_run_and_may_be_sharded(
    population: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, summary = population
    _undo_last_checkpoint(path)
    resumed = loop.run(with_run_dir(POPULATION, path))
    assert resumed["state_digest"] == summary["state_digest"]
    with pytest.raises(CheckpointError, match=r"population\.seeds: 2 -> 1"):
        loop.run(with_run_dir(replace(POPULATION, population=PopulationConfig()), path))
    sharded_config = with_run_dir(
        replace(POPULATION, parallel=ParallelConfig(devices=2, axis="member")), tmp_path / "run"
    )
    sharded = loop.run(sharded_config)
    assert sharded["axis"] == "member"
    assert sharded["population"]["test_loss"] == pytest.approx(summary["population"]["test_loss"], rel=0.02)


def test_evaluation_and_report_use_the_ensemble(
    population: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    path, summary = population
    evaluated = evaluation.run(path)
    assert evaluated.assessment.accuracy == summary["test_accuracy"]
    assert "ensemble of 2 members" in capsys.readouterr().out
    (path / "summary.json").rename(path / "aside.json")  # as if the run had not finished
    assert "ensemble of 2 members" in reporting.run(path).read_text()
    (path / "aside.json").rename(path / "summary.json")
