"""Whether a run may resume, checked without training one."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, InitConfig, ParallelConfig
from fmnist_jax.errors import CheckpointError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import checkpoint, dataset_record, resumption
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.parallel import choose_layout
from fmnist_jax.system.environment import describe_environment


def _config(directory: RunDirectory) -> Config:
    """The config of the run: 10 steps, with saves after 5 and 10."""
    config = directory.read_config()
    assert config is not None
    return config


@pytest.fixture
def directory(saved_run: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(saved_run, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def test_resume_allows_other_data_paths_and_logging_but_not_another_seed(directory: RunDirectory) -> None:
    config = directory.read_config()
    assert config is not None
    resumption.refuse_other_run(directory, config)
    moved = replace(config, data=replace(config.data, dir=Path("moved")), run=replace(config.run, log_every=3))
    resumption.refuse_other_run(directory, moved)
    with pytest.raises(CheckpointError, match=r"train\.seed: 0 -> 1"):
        resumption.refuse_other_run(directory, replace(config, train=replace(config.train, seed=1)))


def test_source_run_may_be_given_by_an_equivalent_path(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.path.parent)
    config = directory.read_config()
    assert config is not None
    recorded, changed = (replace(config, init=InitConfig(source=Path(name).absolute())) for name in ("first", "second"))
    directory.write_json("config.json", to_dict(recorded))
    for equivalent in (recorded, replace(config, init=InitConfig(source=Path("first")))):
        resumption.refuse_other_run(directory, equivalent)
    with pytest.raises(CheckpointError, match=r"init\.source: .*/first -> .*/second"):
        resumption.refuse_other_run(directory, changed)


def test_run_files_without_config_json_are_refused(directory: RunDirectory) -> None:
    config = directory.read_config()
    assert config is not None
    (directory.path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has checkpoints but no config\.json"):
        resumption.refuse_other_run(directory, config)
    shutil.rmtree(directory.checkpoints)
    for path in directory.path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumption.refuse_other_run(directory, config)
    (directory.path / "summary.json").write_text('{"accuracy": 1}')
    with pytest.raises(CheckpointError, match=r"has summary\.json but no config\.json: choose another --run\.dir"):
        resumption.refuse_other_run(directory, config)


@pytest.mark.parametrize("name", ["dataset.json", "environment.json", "recipe.json", "transfer.json", "figures"])
@pytest.mark.parametrize("contents", ['{"mine": 1}', "{}", "[1, 2]", "my notes"])
def test_new_run_leaves_files_of_others_alone_but_not_those_of_a_start_that_was_killed(
    name: str, contents: str, directory: RunDirectory, tmp_path: Path
) -> None:
    config, theirs = _config(directory), RunDirectory(tmp_path / "theirs")
    theirs.create()
    if name == "figures":
        (theirs.path / name).mkdir()
    else:
        theirs.write_text(name, contents)
    with pytest.raises(CheckpointError, match=rf"theirs has {name} but no config\.json: choose another --run\.dir"):
        resumption.refuse_other_run(theirs, config)
    killed = RunDirectory(tmp_path / "killed")
    killed.create()
    killed.write_json("environment.json", describe_environment())
    killed.write_json("dataset.json", dataset_record.to_dict(DatasetRecord((28, 28, 1), CLASS_NAMES)))
    killed.write_json("recipe.json", {"make_recipe": "my_recipe", "own_network": False})
    killed.write_json("transfer.json", {"source": "runs/a", "step": 5, "digest": "0a1b"})
    resumption.refuse_other_run(killed, config)


def test_newest_checkpoint_is_restored_and_other_images_are_refused(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    config = directory.read_config()
    assert config is not None
    fresh, layout = (
        make_recipe(config).init(jax.random.key(1)),
        choose_layout(replace(config, parallel=ParallelConfig(devices=1))),
    )
    state = resumption.restore_newest(directory.checkpoints, fresh, layout, 10)
    assert int(state.step) == 5
    assert capsys.readouterr().out == "resuming from step 5 of 10\n"
    assert resumption.restore_newest(directory.path / "none", fresh, layout, 10) is fresh
    digest = resumption.recorded_digest(directory.checkpoints, 5)
    assert digest == checkpoint.read_manifest(directory.checkpoints, 5)["origin"]["dataset_digest"]
    resumption.refuse_other_data(directory.checkpoints, 5, digest, str(digest))
    with pytest.raises(CheckpointError, match=f"on images with digest {digest}, .* have 0000.* with --data.file"):
        resumption.refuse_other_data(directory.checkpoints, 5, digest, "0000")
    with pytest.raises(CheckpointError, match=r"restore the original data set, or start anew with another --run\.dir$"):
        resumption.refuse_other_data(directory.checkpoints, 5, digest, "0000", resumption.START_OVER_HINT)
    checkpoint.save(directory.checkpoints, {"values": np.ones(3)}, step=6)
    assert resumption.recorded_digest(directory.checkpoints, 6) is None


def test_damaged_checkpoint_is_quarantined_with_a_warning_unless_it_is_the_last(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    resumption.quarantine_and_warn(directory, _config(directory))
    assert capsys.readouterr().err == ""
    shutil.copytree(directory.checkpoints / "5", directory.checkpoints / "7")  # whose manifest names step 5
    resumption.quarantine_and_warn(directory, _config(directory))
    assert "checkpoint 7" in capsys.readouterr().err
    assert checkpoint.steps(directory.checkpoints) == [5]
    (directory.checkpoints / "5").rename(directory.checkpoints / "8")
    with pytest.raises(CheckpointError, match="no other is left"):
        resumption.quarantine_and_warn(directory, _config(directory))


def test_run_that_has_lost_its_checkpoints_is_not_restarted(directory: RunDirectory) -> None:
    shutil.rmtree(directory.checkpoints)
    # The line at step 5 is written before the checkpoint of step 5.
    resumption.quarantine_and_warn(directory, _config(directory))
    directory.append({"step": 11})
    with pytest.raises(CheckpointError, match="is empty although the run has reached step 11"):
        resumption.quarantine_and_warn(directory, _config(directory))


def test_missing_checkpoints_are_accepted_if_the_first_session_saved_rarely(directory: RunDirectory) -> None:
    shutil.rmtree(directory.checkpoints)
    config = _config(directory)
    frequent_saves = replace(config, run=replace(config.run, log_every=1, checkpoint_every=2))
    with pytest.raises(CheckpointError, match="is empty although the run has reached step 5"):
        resumption.quarantine_and_warn(directory, frequent_saves)
    directory.append_session({"step": 0, "run": {"log_every": 5, "checkpoint_every": 200}})
    resumption.quarantine_and_warn(directory, frequent_saves)


def test_missing_checkpoints_are_refused_if_the_first_session_saved_often(directory: RunDirectory) -> None:
    shutil.rmtree(directory.checkpoints)
    config = _config(directory)
    rare_saves = replace(config, run=replace(config.run, checkpoint_every=200))
    resumption.quarantine_and_warn(directory, rare_saves)
    directory.append_session({"step": 0, "run": {"log_every": 1, "checkpoint_every": 2}})
    with pytest.raises(CheckpointError, match="is empty although the run has reached step 5"):
        resumption.quarantine_and_warn(directory, rare_saves)
    # A session record without its settings does not raise either.
    (directory.path / "sessions.jsonl").write_text('{"step": 0}\n')
    resumption.quarantine_and_warn(directory, rare_saves)
