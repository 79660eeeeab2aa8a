"""A whole run in this process, as a notebook would start it, and what it writes."""

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
from fmnist_jax.runs import checkpoint, inputs, interruption, loop, numbering, results
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
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    config = replace(_TINY, run=replace(_TINY.run, dir=path))
    return config, path, loop.run(config)


def test_run_directory_contents_match_the_docs_commands_page(
    finished_run: tuple[Config, Path, dict[str, Any]],
) -> None:
    config, path, summary = finished_run
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    table = page.partition("| file | what is in it |")[2].partition("\n\n")[0]
    listed = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    created = [f"{item.name}/" if item.is_dir() else item.name for item in path.iterdir() if item.name != ".lock"]
    assert sorted(created) == sorted({*listed} - {"transfer.json", "recipe.json"})  # of other kinds of run
    assert {item.name for item in (path / "figures").iterdir()} == {"curves.png", "confusion_matrix.png"}
    assert json.loads((path / "summary.json").read_text()) == summary
    assert summary["steps"] == config.total_steps == 10
    assert summary["test_examples"] == 70
    assert summary.keys() >= {
        *("test_accuracy", "test_loss", "val_accuracy", "parameters", "epochs", "train_seconds", "compile_seconds"),
        *("images_per_second", "state_digest", "dataset", "dataset_digest"),
    }


def test_report_shows_test_accuracy_and_digest_of_the_summary(
    finished_run: tuple[Config, Path, dict[str, Any]],
) -> None:
    _, path, summary = finished_run
    page = (path / "report.html").read_text()
    assert f"<strong>{summary['test_accuracy']:.2%}</strong>" in page
    assert "Not finished" not in page
    assert summary["state_digest"] in page


def test_metrics_lines_cover_every_interval_and_evaluation(finished_run: tuple[Config, Path, dict[str, Any]]) -> None:
    _, path, _ = finished_run
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train_loss" in line] == [3, 5, 6, 9, 10]
    assert [line["step"] for line in lines if "val_loss" in line] == [5, 10]
    assert all(
        line.keys() >= {"epoch", "train_loss", "train_accuracy", "learning_rate", "images_per_second"}
        for line in lines
        if "train_loss" in line
    )
    assert [line["epoch"] for line in lines] == pytest.approx([line["step"] / 5 for line in lines])


def test_checkpoints_are_scored_with_the_validation_accuracy_of_their_step(
    finished_run: tuple[Config, Path, dict[str, Any]],
) -> None:
    _, path, _ = finished_run
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    accuracies = {line["step"]: line["val_accuracy"] for line in lines if "val_accuracy" in line}
    steps = checkpoint.steps(path / "checkpoints")
    scores = {step: checkpoint.read_manifest(path / "checkpoints", step)["val_accuracy"] for step in steps}
    assert scores == {step: accuracies.get(step, numbering.UNSCORED) for step in steps}
    assert accuracies[10] == scores[10]
    assert numbering.UNSCORED in scores.values()


def test_summary_accuracy_and_loss_match_numpy_on_saved_predictions(
    finished_run: tuple[Config, Path, dict[str, Any]],
) -> None:
    config, path, summary = finished_run
    with np.load(path / "predictions.npz", allow_pickle=False) as saved:
        logits, labels = saved["logits"], saved["labels"]
    assert np.array_equal(labels, load(config.data).test.labels)
    assert summary["test_accuracy"] == np.mean(logits.argmax(1) == labels)
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert summary["test_loss"] == pytest.approx(-log_probabilities[np.arange(70), labels].mean(), abs=1e-5)


def test_last_checkpoint_has_the_state_digest_of_the_summary(finished_run: tuple[Config, Path, dict[str, Any]]) -> None:
    config, path, summary = finished_run
    like = jax.eval_shape(make_recipe(config).init, jax.random.key(0))
    state = checkpoint.restore(path / "checkpoints", 10, like=like)
    assert state_digest(state) == summary["state_digest"]


@pytest.mark.usefixtures("with_figures")
def test_profiling_and_tensorboard_do_not_change_the_final_state(
    finished_run: tuple[Config, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path, summary = finished_run
    run = tmp_path / "run"
    instrumented = loop.run(replace(config, run=replace(config.run, dir=run, profile=4, tensorboard=True)))
    assert instrumented["state_digest"] == summary["state_digest"]
    assert f"xprof --logdir {tmp_path}" in capsys.readouterr().out
    assert list((run / "profile").rglob("*.xplane.pb"))
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for tag, name in (("loss/training_objective", "train_loss"), ("accuracy/validation", "val_accuracy")):
        expected = [(line["step"], np.float32(line[name]).item()) for line in lines if name in line]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected
    assert set(events.Tags()["images"]) == {"curves", "confusion_matrix"}


def test_averaged_weights_are_scored_if_averaging_is_on(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("preset", "expects_note"), [("small", True), ("wide", True), ("record", True), ("standard", False)]
)
def test_large_preset_on_a_cpu_prints_a_note_before_loading_data(
    preset: str, expects_note: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_loaded(config: DataConfig) -> Splits:
        raise DataError("loaded")

    monkeypatch.setattr(inputs, "load", raise_loaded)
    for config in (PRESETS[preset], replace(PRESETS[preset], model=_TINY.model)):
        with pytest.raises(DataError, match="loaded"):
            loop.run(replace(config, run=replace(_TINY.run, dir=tmp_path / "run")))
    note = f"note: the network of the preset {preset} is meant for a GPU or TPU"
    assert capsys.readouterr().err.count(note) == expects_note


def test_run_finished_by_another_process_meanwhile_is_not_retrained(
    finished_run: tuple[Config, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def finish_then_lock(directory: Path) -> Iterator[None]:
        for name in ("config.json", "summary.json"):
            shutil.copy(finished_run[1] / name, directory)
        yield

    def fail_if_trained(session: Session) -> dict[str, Any]:
        raise AssertionError("the run was trained again")

    monkeypatch.setattr(lock, "exclusive", finish_then_lock)
    monkeypatch.setattr(loop, "_train_and_score", fail_if_trained)
    assert loop.run(replace(_TINY, run=replace(_TINY.run, dir=tmp_path / "run"))) == finished_run[2]
    other = replace(_TINY, train=replace(_TINY.train, seed=7), run=replace(_TINY.run, dir=tmp_path / "other"))
    with pytest.raises(CheckpointError, match=r"a different configuration \(train\.seed: 0 -> 7\)"):
        loop.run(other)


def test_changed_config_error_lists_each_difference(finished_run: tuple[Config, Path, dict[str, Any]]) -> None:
    config, _, _ = finished_run
    changed = replace(
        config, model=replace(config.model, dropout=0.25), train=replace(config.train, seed=9, batch_size=16)
    )
    with pytest.raises(CheckpointError) as exc_info:
        loop.run(changed)
    for difference in ("model.dropout: 0.3 -> 0.25", "train.seed: 0 -> 9", "train.batch_size: 32 -> 16"):
        assert difference in str(exc_info.value)


def test_changed_dataset_digest_is_refused_on_resume(
    finished_run: tuple[Config, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run[1], tmp_path / "run")
    config = replace(finished_run[0], run=replace(finished_run[0].run, dir=tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr(inputs, "digest", lambda _: "0" * 64)
    with pytest.raises(CheckpointError, match=f"those found have {'0' * 64}"):
        loop.run(config)


def test_run_is_not_resumed_with_another_kind_of_recipe(
    finished_run: tuple[Config, Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Neither once it has finished nor before."""
    shutil.copytree(finished_run[1], tmp_path / "run")
    config = replace(finished_run[0], run=replace(finished_run[0].run, dir=tmp_path / "run"))
    message = r"was started with the package's own recipe and is now opened with make_recipe="
    with pytest.raises(CheckpointError, match=message):
        loop.run(config, make_recipe=partial(make_recipe))
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=message):
        loop.run(config, make_recipe=partial(make_recipe))


def test_signal_during_the_last_save_or_the_scoring_stops_a_run_whose_last_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(_TINY, run=replace(_TINY.run, dir=tmp_path / "run"))

    def interrupting(function: Any, applies: Any) -> Any:
        def interrupt_then_call(*args: Any, **options: Any) -> Any:
            if applies(**options):
                signal.raise_signal(signal.SIGINT)
            return function(*args, **options)

        return interrupt_then_call

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    try:
        with monkeypatch.context() as patches:
            save = interrupting(checkpoint.Writer.save, lambda step, **_: step == config.total_steps)
            patches.setattr(checkpoint.Writer, "save", save)
            with pytest.raises(interruption.InterruptionError, match=r"^SIGINT at step 10 of 10; its state is saved; "):
                loop.run(config)
        assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 10
        with monkeypatch.context() as patches:
            patches.setattr(results, "score", interrupting(results.score, lambda **_: True))
            with pytest.raises(KeyboardInterrupt):
                loop.run(config)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert loop.run(config)["steps"] == 10


@pytest.mark.slow
def test_accuracy_on_real_images_matches_the_official_files(tmp_path: Path, raw_dir: Path, real_data_dir: Path) -> None:
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
    # Rounding differs between batch sizes, so an image near a decision boundary may fall on either side.
    assert np.mean(logits.argmax(1) == labels) == pytest.approx(summary["test_accuracy"], abs=3e-4)
    assert summary["test_accuracy"] > 0.5


def test_rerunning_a_finished_run_only_prints_summary_path_and_next_command(
    finished_run: tuple[Config, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    config, path, summary = finished_run
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.rglob("*")}
    assert loop.run(config) == summary
    assert {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in path.rglob("*")} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path} holds a finished run: nothing was trained; for a new run choose another directory"
    assert lines[1].startswith(f"test accuracy {summary['test_accuracy']:.2%} on 70 images")
    assert lines[2].count("%") == 3
    assert str(path) in lines[3]
    assert lines[-1] == f"next: {python_command()} -m fmnist_jax.train --preset fast"
    print_summary(path, {**summary, "preset": "custom"}, DataConfig())  # a preset that no command line can start from
    assert "next:" not in capsys.readouterr().out


@pytest.mark.parametrize("error_type", XLA_ERRORS)
def test_out_of_memory_placing_images_is_one_line_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_type: type[Exception]
) -> None:
    def raise_out_of_memory(*_: object, **__: object) -> None:
        raise error_type("RESOURCE_EXHAUSTED: Out of memory allocating 47040000 bytes.")

    monkeypatch.setattr(jax, "device_put", raise_out_of_memory)
    with pytest.raises(DeviceMemoryError, match=r"out of memory: free it of other processes") as exc_info:
        loop.run(replace(_TINY, run=replace(_TINY.run, dir=tmp_path / "run")))
    assert len(str(exc_info.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_run_without_dir_or_validation_takes_next_free_name_and_restores_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "datetime", SimpleNamespace(now=lambda: datetime(2020, 1, 2, 3, 4, 5)))
    (tmp_path / "runs" / "demo-20200102-030405").mkdir(parents=True)
    config = replace(_TINY, data=replace(_TINY.data, validation_size=0), run=replace(_TINY.run, dir=None))
    previous_handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    summary = loop.run(config)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == previous_handlers
    assert summary["val_accuracy"] is None
    created = tmp_path / "runs" / "demo-20200102-030405-2"
    assert json.loads((created / "config.json").read_text())["run"]["dir"] == "runs/demo-20200102-030405-2"
    assert json.loads((created / "summary.json").read_text()) == summary
    assert checkpoint.steps(created / "checkpoints")[-1] == config.total_steps


def test_run_without_dir_does_not_resume_a_run_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two start in the same second, the other may already have checkpoints; this one still needs its source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "datetime", SimpleNamespace(now=lambda: datetime(2020, 1, 2, 3, 4, 5)))
    (tmp_path / "runs" / "demo-20200102-030405" / "checkpoints" / "40").mkdir(parents=True)
    config = replace(_TINY, init=InitConfig(source=tmp_path), run=replace(_TINY.run, dir=None))
    with pytest.raises(ConfigError, match=r"which has no config\.json: give a run directory"):
        loop.run(config)
