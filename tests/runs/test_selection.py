"""The checkpoint that `latest`, `best` or a step stands for."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, TrainConfig
from fmnist_jax.errors import CheckpointError, ConfigError, FmnistError
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.numbering import UNSCORED
from fmnist_jax.runs.selection import choose_step, find_checkpoint


def _save(directory: Path, scores: dict[int, float]) -> Path:
    with checkpoint.writing(directory) as writer:
        for step, score in scores.items():
            writer.save({"value": np.ones(1)}, score, step=step)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _save(tmp_path_factory.mktemp("runs") / "checkpoints", {3: 0.5, 6: 0.75, 9: 0.75, 12: 0.25, 15: UNSCORED})


@pytest.mark.parametrize(("which", "step"), [("latest", 15), ("best", 9), ("12", 12), (9, 9)])
def test_step_is_that_of_the_newest_the_best_or_the_named_checkpoint(
    directory: Path, which: str | int, step: int
) -> None:
    assert choose_step(directory, which) == step


@pytest.mark.parametrize("which", ["3", "10", "-9", "newest", "", "9.0"])
def test_missing_checkpoint_error_lists_the_available_steps(directory: Path, which: str) -> None:
    with pytest.raises(CheckpointError, match=f"is '{which}': choose best, latest, or a step of .*: 9, 12, 15$"):
        choose_step(directory, which)


def test_best_is_refused_if_no_checkpoint_was_scored(tmp_path: Path) -> None:
    unscored = _save(tmp_path, dict.fromkeys((1, 2), UNSCORED))
    with pytest.raises(CheckpointError, match=r"scored on validation images: choose latest, or a step: 1, 2$"):
        choose_step(unscored, "best")
    assert choose_step(unscored, "latest") == 2


def test_best_is_chosen_among_those_left_if_one_is_deleted_meanwhile(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(directory, tmp_path / "checkpoints")
    read = checkpoint.read_manifest

    def delete_then_read(directory: Path, step: int) -> dict[str, object]:
        if step == 12:
            shutil.rmtree(directory / "12")
        return read(directory, step)

    monkeypatch.setattr(checkpoint, "read_manifest", delete_then_read)
    assert choose_step(tmp_path / "checkpoints", "best") == 9


def test_best_is_refused_if_a_manifest_is_damaged(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / "12" / "manifest")
    with pytest.raises(CheckpointError, match=r"checkpoint 12 in .* has no readable manifest"):
        choose_step(tmp_path / "checkpoints", "best")


def test_run_is_found_with_its_configuration_and_refused_without_a_valid_one(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "run" / "checkpoints")
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory"):
        find_checkpoint(tmp_path / "run")
    for epochs, valid in ((3, True), (-1, False)):
        config = Config(train=TrainConfig(epochs=epochs))
        RunDirectory(tmp_path / "run").write_json("config.json", to_dict(config))
        if valid:
            assert find_checkpoint(tmp_path / "run", "best") == (config, 9)
        else:
            with pytest.raises(ConfigError, match=r"in .*config\.json: --train\.epochs is -1.*; restore what the run"):
                find_checkpoint(tmp_path / "run")
