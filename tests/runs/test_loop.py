"""A whole run in this process, as a notebook would call it, and what it leaves behind."""

import gzip
import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    InitConfig,
    ModelConfig,
    ParallelConfig,
    RunConfig,
    TrainConfig,
)
from fmnist_jax.data.dataset import Splits, load
from fmnist_jax.errors import CheckpointError, ConfigError, DataError, DeviceMemoryError
from fmnist_jax.functional.eval_step import make_predict
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import checkpoint, loop
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.summary import print_summary
from fmnist_jax.runs.training import Session
from fmnist_jax.system import lock
from fmnist_jax.system.compilation import XLA_ERRORS
from fmnist_jax.system.environment import python_command

_TINY = Config(
    preset="demo",
    data=DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40),
    model=ModelConfig(family="plain", widths=(4, 4), depths=(1, 1), dropout=0.3),
    train=TrainConfig(epochs=2, batch_size=32, eval_batch_size=32),
    parallel=ParallelConfig(devices=1),
    run=RunConfig(log_every=3, checkpoint_every=4, progress="plain"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = replace(_TINY, run=replace(_TINY.run, dir=path))
    return config, path, loop.run(config)


def test_the_run_directory_holds_what_the_page_of_the_commands_promises(
    finished: tuple[Config, Path, dict[str, Any]],
) -> None:
    config, path, summary = finished
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    table = page.partition("| file | what is in it |")[2].partition("\n\n")[0]
    promised = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    made = [f"{item.name}/" if item.is_dir() else item.name for item in path.iterdir() if item.name != ".lock"]
    assert sorted(made) == sorted({*promised} - {"transfer.json", "recipe.json"})  # of runs that begin otherwise
    assert {item.name for item in (path / "figures").iterdir()} == {"curves.png", "confusion_matrix.png"}
    assert json.loads((path / "summary.json").read_text()) == summary
    assert summary["steps"] == config.total_steps == 10
    assert summary["test_examples"] == 70
    assert summary.keys() >= {
        *("test_accuracy", "test_loss", "val_accuracy", "parameters", "epochs", "train_seconds", "compile_seconds"),
        *("images_per_second", "state_digest", "dataset", "dataset_digest"),
    }


def test_the_report_tells_the_test_accuracy_of_the_summary(finished: tuple[Config, Path, dict[str, Any]]) -> None:
    _, path, summary = finished
    page = (path / "report.html").read_text()
    assert f"<strong>{summary['test_accuracy']:.2%}</strong>" in page
    assert "Not finished" not in page
    assert summary["state_digest"] in page


def test_the_metrics_lines_cover_every_interval_and_evaluation(finished: tuple[Config, Path, dict[str, Any]]) -> None:
    _, path, _ = finished
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train_loss" in line] == [3, 5, 6, 9, 10]
    assert [line["step"] for line in lines if "val_loss" in line] == [5, 10]
    assert all(
        line.keys() >= {"epoch", "train_loss", "train_accuracy", "learning_rate", "images_per_second"}
        for line in lines
        if "train_loss" in line
    )


def test_the_test_accuracy_is_numpys_on_the_saved_predictions(finished: tuple[Config, Path, dict[str, Any]]) -> None:
    config, path, summary = finished
    with np.load(path / "predictions.npz", allow_pickle=False) as saved:
        logits, labels = saved["logits"], saved["labels"]
    assert np.array_equal(labels, load(config.data).test.labels)
    assert summary["test_accuracy"] == np.mean(logits.argmax(1) == labels)
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert summary["test_loss"] == pytest.approx(-log_probabilities[np.arange(70), labels].mean(), abs=1e-5)


def test_the_saved_checkpoint_is_the_state_that_was_scored(finished: tuple[Config, Path, dict[str, Any]]) -> None:
    config, path, summary = finished
    like = jax.eval_shape(make_recipe(config).init, jax.random.key(0))
    state = checkpoint.restore(path / "checkpoints", 10, like=like)
    assert state_digest(state) == summary["state_digest"]


@pytest.mark.usefixtures("drawn")
def test_a_run_that_is_profiled_and_followed_by_tensorboard_ends_as_one_that_is_not(
    finished: tuple[Config, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path, summary = finished
    run = tmp_path / "run"
    watched = loop.run(replace(config, run=replace(config.run, dir=run, profile=4, tensorboard=True)))
    assert watched["state_digest"] == summary["state_digest"]
    assert f"xprof --logdir {tmp_path}" in capsys.readouterr().out
    assert list((run / "profile").rglob("*.xplane.pb"))
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for tag, name in (("loss/training_objective", "train_loss"), ("accuracy/validation", "val_accuracy")):
        expected = [(line["step"], np.float32(line[name]).item()) for line in lines if name in line]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected
    assert set(events.Tags()["images"]) == {"curves", "confusion_matrix"}


def test_what_is_scored_is_the_average_of_the_weights_where_one_is_kept(tmp_path: Path) -> None:
    config = replace(
        _TINY,
        train=replace(_TINY.train, average_decay=0.5),
        run=replace(_TINY.run, dir=tmp_path / "run"),
    )
    summary = loop.run(config)
    recipe, splits = make_recipe(config), load(config.data)
    like = jax.eval_shape(recipe.init, jax.random.key(0))
    state = checkpoint.restore(tmp_path / "run" / "checkpoints", 10, like=like)
    assert state.averages is not None
    predict = jax.jit(make_predict(recipe.model))
    averaged, latest = (
        np.asarray(predict(*weights, splits.test.images))
        for weights in (state.averages, (state.params, state.batch_stats))
    )
    with np.load(tmp_path / "run" / "predictions.npz") as saved:
        np.testing.assert_allclose(saved["logits"], averaged, rtol=1e-4, atol=1e-4)
        assert np.abs(saved["logits"] - latest).max() > 1e-2
        assert summary["test_accuracy_mirrored"] == np.mean(saved["mirrored_logits"].argmax(-1) == saved["labels"])
    validation = np.asarray(predict(*state.averages, splits.validation.images))
    assert summary["val_accuracy"] == np.mean(validation.argmax(-1) == splits.validation.labels)


@pytest.mark.parametrize(("preset", "told"), [("small", True), ("wide", True), ("record", True), ("standard", False)])
def test_a_network_that_takes_a_cpu_days_is_told_of_before_anything_is_loaded(
    preset: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(config: DataConfig) -> Splits:
        raise DataError("loaded")

    monkeypatch.setattr(loop, "load", stop)
    for config in (PRESETS[preset], replace(PRESETS[preset], model=_TINY.model)):
        with pytest.raises(DataError, match="loaded"):
            loop.run(replace(config, run=replace(_TINY.run, dir=tmp_path / "run")))
    note = f"note: the network of the preset {preset} is meant for a GPU or TPU"
    assert capsys.readouterr().err.count(note) == told


def test_a_run_that_another_process_ends_meanwhile_is_not_trained_again(
    finished: tuple[Config, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def late(directory: Path) -> Iterator[None]:
        for name in ("config.json", "summary.json"):
            shutil.copy(finished[1] / name, directory)
        yield

    def never(session: Session) -> dict[str, Any]:
        raise AssertionError("it is trained again")

    monkeypatch.setattr(lock, "exclusive", late)
    monkeypatch.setattr(loop, "_train_and_score", never)
    assert loop.run(replace(_TINY, run=replace(_TINY.run, dir=tmp_path / "run"))) == finished[2]
    other = replace(_TINY, train=replace(_TINY.train, seed=7), run=replace(_TINY.run, dir=tmp_path / "other"))
    with pytest.raises(CheckpointError, match=r"a different configuration \(train\.seed: 0 -> 7\)"):
        loop.run(other)


def test_another_configuration_is_refused_with_each_difference(finished: tuple[Config, Path, dict[str, Any]]) -> None:
    config, _, _ = finished
    other = replace(
        config, model=replace(config.model, dropout=0.25), train=replace(config.train, seed=9, batch_size=16)
    )
    with pytest.raises(CheckpointError) as refusal:
        loop.run(other)
    for difference in ("model.dropout: 0.3 -> 0.25", "train.seed: 0 -> 9", "train.batch_size: 32 -> 16"):
        assert difference in str(refusal.value)


def test_other_images_under_the_same_name_are_refused(
    finished: tuple[Config, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    config = replace(finished[0], run=replace(finished[0].run, dir=tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr(loop, "digest", lambda _: "0" * 64)
    with pytest.raises(CheckpointError, match=f"those found have {'0' * 64}"):
        loop.run(config)


def test_a_run_does_not_go_on_with_another_kind_of_recipe(
    finished: tuple[Config, Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Neither before nor after its end."""
    shutil.copytree(finished[1], tmp_path / "run")
    config = replace(finished[0], run=replace(finished[0].run, dir=tmp_path / "run"))
    refused = r"was started with the package's own recipe and is now opened with make_recipe="
    with pytest.raises(CheckpointError, match=refused):
        loop.run(config, make_recipe=partial(make_recipe))
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=refused):
        loop.run(config, make_recipe=partial(make_recipe))


@pytest.mark.slow
def test_on_real_images_the_accuracy_is_that_on_the_official_files(
    tmp_path: Path, raw_dir: Path, real_data_dir: Path
) -> None:
    splits = load(DataConfig(dir=real_data_dir, validation_size=0))
    config = replace(
        _TINY,
        model=replace(_TINY.model, stem="pooled"),
        augment=AugmentConfig(flip="none", erase_probability=0.0),
        train=replace(_TINY.train, epochs=6, batch_size=100, eval_batch_size=300),
        run=replace(_TINY.run, dir=tmp_path / "run", log_every=20, checkpoint_every=60),
    )
    summary = loop.run(config, splits._replace(train=splits.train.take(np.arange(1000))))
    assert summary["test_examples"] == 10_000

    images = np.frombuffer(gzip.decompress((raw_dir / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((raw_dir / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    recipe = make_recipe(config)
    like = jax.eval_shape(recipe.init, jax.random.key(0))
    state = checkpoint.restore(tmp_path / "run" / "checkpoints", 60, like=like)
    predict = jax.jit(make_predict(recipe.model))
    logits = np.asarray(predict(state.params, state.batch_stats, images.reshape(-1, 28, 28, 1)))
    # Rounding differs between batch sizes, so an image on the edge between two classes may fall on either side.
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(summary["test_accuracy"], abs=3e-4)
    assert summary["test_accuracy"] > 0.5


def test_a_finished_run_started_again_changes_nothing_and_prints_its_summary_with_where_to_look_and_what_to_try(
    finished: tuple[Config, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    config, path, summary = finished
    before = {each: (each.stat().st_mtime_ns, each.stat().st_size) for each in path.rglob("*")}
    assert loop.run(config) == summary
    assert {each: (each.stat().st_mtime_ns, each.stat().st_size) for each in path.rglob("*")} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path} holds a finished run: nothing was trained; for a new run choose another directory"
    assert lines[1].startswith(f"test accuracy {summary['test_accuracy']:.2%} on 70 images")
    assert lines[2].count("%") == 3
    assert str(path) in lines[3]
    assert lines[-1] == f"next: {python_command()} -m fmnist_jax.train --preset fast"
    print_summary(path, {**summary, "preset": "custom"})  # which no command line can start from
    assert "next:" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", XLA_ERRORS)
def test_a_device_without_room_for_the_images_is_one_line_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise kind("RESOURCE_EXHAUSTED: Out of memory allocating 47040000 bytes.")

    monkeypatch.setattr(jax, "device_put", fill)
    with pytest.raises(DeviceMemoryError, match=r"out of memory: free it of other processes") as caught:
        loop.run(replace(_TINY, run=replace(_TINY.run, dir=tmp_path / "run")))
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_directory_and_validation_images_takes_the_next_name_that_is_free_and_leaves_no_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "datetime", SimpleNamespace(now=lambda: datetime(2020, 1, 2, 3, 4, 5)))
    (tmp_path / "runs" / "demo-20200102-030405").mkdir(parents=True)
    config = replace(_TINY, data=replace(_TINY.data, validation_size=0), run=replace(_TINY.run, dir=None))
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    summary = loop.run(config)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert summary["val_accuracy"] is None
    made = tmp_path / "runs" / "demo-20200102-030405-2"
    assert json.loads((made / "config.json").read_text())["run"]["dir"] == "runs/demo-20200102-030405-2"
    assert json.loads((made / "summary.json").read_text()) == summary
    assert checkpoint.steps(made / "checkpoints")[-1] == config.total_steps


def test_without_a_directory_a_run_is_none_that_has_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that start in one second the other one may have checkpoints; this one still needs where it starts from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "datetime", SimpleNamespace(now=lambda: datetime(2020, 1, 2, 3, 4, 5)))
    (tmp_path / "runs" / "demo-20200102-030405" / "checkpoints" / "40").mkdir(parents=True)
    config = replace(_TINY, init=InitConfig(source=tmp_path), run=replace(_TINY.run, dir=None))
    with pytest.raises(ConfigError, match=r"which has no config\.json: give a run directory"):
        loop.run(config)
