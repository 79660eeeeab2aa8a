"""Whole runs over eight devices, their populations, and checkpoints that move from one number of devices to another."""

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
from tests.undrawn import IN_RESULTS

pytestmark = pytest.mark.slow

DATA = DataConfig(name="synthetic", synthetic_train_size=120, synthetic_test_size=50, validation_size=24)


def tiny(preset: str, **changes: Any) -> Config:
    """A preset's family and techniques with a network, data and a length that a test can bear."""
    config = PRESETS[preset]
    return replace(
        config,
        data=DATA,
        model=replace(config.model, widths=(4, 6), depths=(1, 1)),
        train=replace(config.train, epochs=2, batch_size=16, eval_batch_size=20),
        run=RunConfig(log_every=3, checkpoint_every=4, progress="plain"),
        **changes,
    )


def within(config: Config, path: Path) -> Config:
    return replace(config, run=replace(config.run, dir=path))


@pytest.fixture(scope="module")
def over_eight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run over all of eight devices, as by default."""
    path = tmp_path_factory.mktemp("runs") / "record"
    config = within(tiny("record"), path)
    with patch.multiple(results, **IN_RESULTS):
        loop.run(config)
    return config, path


def test_a_run_over_eight_devices_scores_exactly_all_test_images(over_eight: tuple[Config, Path]) -> None:
    _, path = over_eight
    summary = json.loads((path / "summary.json").read_text())
    assert summary["test_examples"] == 50
    assert (summary["devices"], summary["processes"]) == (["cpu"] * 8, 1)
    with np.load(path / "predictions.npz") as saved:
        assert saved["logits"].shape == (50, 10)
        assert summary["test_accuracy"] == np.mean(saved["logits"].argmax(-1) == saved["labels"])
    environment = json.loads((path / "environment.json").read_text())
    assert (environment["devices"], environment["devices_seen"]) == (["cpu"] * 8, 8)


def test_what_eight_devices_have_saved_predicts_alike_on_one(over_eight: tuple[Config, Path]) -> None:
    config, path = over_eight
    with np.load(path / "predictions.npz") as saved:
        np.testing.assert_allclose(
            load_trained(path).predict(load(config.data).test.images), saved["logits"], rtol=0.02, atol=0.02
        )


@pytest.mark.parametrize("devices", [1, 2, "all"])
def test_a_checkpoint_of_eight_devices_is_the_same_bits_on_any_number(
    over_eight: tuple[Config, Path], devices: Any
) -> None:
    config, path = over_eight
    fresh = jax.jit(make_recipe(config).init)(jax.random.key(9))
    layout = choose_layout(replace(config, parallel=ParallelConfig(devices=devices)))
    state = resumption.restore_newest(path / "checkpoints", fresh, layout, config.total_steps)
    assert state_digest(state) == json.loads((path / "summary.json").read_text())["state_digest"]
    assert all(leaf.sharding.device_set == set(layout.mesh.devices.flat) for leaf in jax.tree.leaves(state))


def test_a_run_begun_over_eight_devices_goes_on_with_one_and_back(tmp_path: Path) -> None:
    config = within(tiny("small"), tmp_path / "run")
    whole = loop.run(config)
    for devices in (1, 8):
        _forget_the_end(tmp_path / "run")
        other = loop.run(replace(config, parallel=ParallelConfig(devices=devices)))
        assert other["devices"] == ["cpu"] * devices
        assert other["steps"] == whole["steps"]
        assert other["test_loss"] == pytest.approx(whole["test_loss"], rel=0.05)
    assert other["state_digest"] == whole["state_digest"]  # with eight devices it is the same run again
    sessions = [json.loads(line) for line in (tmp_path / "run" / "sessions.jsonl").read_text().splitlines()]
    assert [len(session["devices"]) for session in sessions] == [8, 1, 8]
    assert [session["parallel"]["devices"] for session in sessions] == ["all", 1, 8]


def _forget_the_end(path: Path) -> None:
    """Leaves a run as a kill before its last checkpoint would."""
    (path / "summary.json").unlink()
    last = path / "checkpoints" / str(checkpoint.steps(path / "checkpoints")[-1])
    shutil.rmtree(last)


POPULATION = tiny("demo", population=PopulationConfig(seeds=2), parallel=ParallelConfig(devices=1))


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "population"
    return path, loop.run(within(POPULATION, path))


def test_a_population_is_reported_as_one_run_with_every_member(population: tuple[Path, dict[str, Any]]) -> None:
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


def test_a_member_is_the_run_of_its_seed_alone(population: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """To rounding in these tests, which have LLVM optimise nothing; bit for bit as users compile."""
    path, summary = population
    single = replace(POPULATION, train=replace(POPULATION.train, seed=1), population=PopulationConfig())
    alone = loop.run(within(single, tmp_path / "run"))
    member, trained = load_trained(path).member(1), load_trained(tmp_path / "run")
    for of, number in ((load_trained(path), 2), (load_trained(path), -1), (trained, 1)):
        with pytest.raises(IndexError, match=rf"member {number} of {of.members}: expected 0 to {of.members - 1}"):
            of.member(number)
    assert member.config.train.seed == 1
    assert member.config.population.seeds == 1
    for got, expected in zip(jax.tree.leaves(member.weights), jax.tree.leaves(trained.weights), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.02)
    assert summary["population"]["test_loss"][1] == pytest.approx(alone["test_loss"], rel=0.02)
    assert summary["parameters"] == alone["parameters"]


def test_a_population_goes_on_and_its_directory_is_of_no_single_run(
    population: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, summary = population
    _forget_the_end(path)
    again = loop.run(within(POPULATION, path))
    assert again["state_digest"] == summary["state_digest"]
    with pytest.raises(CheckpointError, match=r"population\.seeds: 2 -> 1"):
        loop.run(within(replace(POPULATION, population=PopulationConfig()), path))
    members = within(replace(POPULATION, parallel=ParallelConfig(devices=2, axis="member")), tmp_path / "run")
    spread = loop.run(members)
    assert spread["axis"] == "member"
    assert spread["population"]["test_loss"] == pytest.approx(summary["population"]["test_loss"], rel=0.02)


def test_the_ensemble_is_what_evaluation_and_the_report_look_at(
    population: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "_figures", lambda _: iter(()))
    path, summary = population
    found = evaluation.run(path)
    assert found.assessment.accuracy == summary["test_accuracy"]
    assert "ensemble of 2 members" in capsys.readouterr().out
    (path / "summary.json").rename(path / "aside.json")  # as of a run that has not ended
    assert "ensemble of 2 members" in reporting.run(path).read_text()
    (path / "aside.json").rename(path / "summary.json")
