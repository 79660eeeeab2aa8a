"""Runs that start from another one: what they take, what is refused, and the same bits however they are cut."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
import pytest

from fmnist_jax.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    InitConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
)
from fmnist_jax.errors import CheckpointError, ConfigError, FmnistError
from fmnist_jax.runs import checkpoint, loop, results, warm_start
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.trained import load_trained
from tests.undrawn import IN_RESULTS

_DATASET = DatasetRecord((28, 28, 1), tuple("abcdefghij"))


def _config(run: Path, source: Path, **changes: Any) -> Config:
    """Of the network of `saved_run`, from another seed, with what else carries something from step to step."""
    return replace(
        Config(
            preset="demo",
            data=DataConfig(
                name="synthetic", synthetic_train_size=96, synthetic_test_size=20, validation_size=0, seed=3
            ),
            model=ModelConfig(widths=(4, 6), depths=(1, 1), dropout=0.3),
            augment=AugmentConfig(erase_probability=0.0),
            init=InitConfig(source=source, freeze="ResidualBlock_0"),
            train=TrainConfig(
                epochs=2, batch_size=32, eval_batch_size=20, average_decay=0.9, eval_mirror=False, seed=1
            ),
            run=RunConfig(dir=run, checkpoint_every=2, log_every=2, progress="plain"),
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def ended(saved_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Any]]:
    config = _config(tmp_path_factory.mktemp("warm") / "run", saved_run)
    with patch.multiple(results, **IN_RESULTS):
        return config, loop.run(config)


def test_what_is_frozen_is_the_other_runs_and_the_rest_has_moved(
    saved_run: Path, ended: tuple[Config, dict[str, Any]]
) -> None:
    assert ended[0].run.dir is not None
    assert ended[1]["test_accuracy_mirrored"] is None  # as it was asked for
    source, now = load_trained(saved_run), load_trained(ended[0].run.dir)
    frozen = "ResidualBlock_0"
    for was, is_now in ((source.params, now.params), (source.batch_stats, now.batch_stats)):
        assert jax.tree.all(jax.tree.map(np.array_equal, was[frozen], is_now[frozen]))
        assert not jax.tree.all(jax.tree.map(np.array_equal, was, is_now))


def test_what_was_taken_is_kept_on_record_and_in_each_checkpoint(
    saved_run: Path, ended: tuple[Config, dict[str, Any]]
) -> None:
    assert ended[0].run.dir is not None
    record = json.loads((ended[0].run.dir / warm_start.TRANSFER_FILE).read_text())
    assert (record["source"], record["step"], record["fresh"], record["unused"]) == (str(saved_run), 5, [], [])
    assert "Dense_0" in record["taken"]
    assert len(record["frozen"]) == sum(1 for _ in jax.tree.leaves(load_trained(saved_run).params["ResidualBlock_0"]))
    for step in checkpoint.steps(ended[0].run.dir / "checkpoints"):
        assert checkpoint.read_manifest(ended[0].run.dir / "checkpoints", step)["origin"]["transfer"] == record


def test_a_run_that_is_cut_goes_on_to_the_same_bits_without_the_other_one(
    ended: tuple[Config, dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, summary = ended
    assert config.run.dir is not None
    run = tmp_path / "run"
    shutil.copytree(config.run.dir, run)
    (run / "summary.json").unlink()
    *_, last = checkpoint.steps(run / "checkpoints")
    shutil.rmtree(run / "checkpoints" / str(last))
    started = json.loads((run / "config.json").read_text())
    started["init"]["source"] = "gone"
    (run / "config.json").write_text(json.dumps(started))
    again = loop.run(_config(run, Path("gone")))
    assert again["state_digest"] == summary["state_digest"]
    told = capfd.readouterr()
    assert "resuming from step" in told.out + told.err
    assert "modules start from" not in told.out + told.err


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_other_one_again(
    ended: tuple[Config, dict[str, Any]], tmp_path: Path, saved_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, summary = ended
    assert config.run.dir is not None
    run = tmp_path / "run"
    shutil.copytree(config.run.dir, run, ignore=shutil.ignore_patterns("checkpoints", "summary.json", "metrics.jsonl"))
    assert loop.run(_config(run, saved_run))["state_digest"] == summary["state_digest"]
    told = capfd.readouterr()
    assert f"12 of 12 modules start from step 5 of {saved_run}; none afresh\n" in told.out + told.err
    assert "frozen parameters, 6: ResidualBlock_0/BatchNorm_0/bias, " in told.out + told.err


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_from_other_weights_unsaid(
    saved_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "3").mkdir(parents=True)
    beginning = warm_start.make_setup(_config(run, saved_run), run, _DATASET, resumes=True)
    assert beginning.resumes
    warm_start.refuse_lost_start(beginning, run)
    (run / "checkpoints" / "3").rmdir()
    with pytest.raises(CheckpointError, match="no intact checkpoint left to resume from"):
        warm_start.refuse_lost_start(beginning, run)
    warm_start.refuse_lost_start(warm_start.make_setup(_config(run, saved_run), run, _DATASET, resumes=False), run)


def test_other_classes_get_a_head_of_their_own(saved_run: Path, tmp_path: Path) -> None:
    dataset = DatasetRecord((28, 28, 1), ("a", "b", "c"))
    beginning = warm_start.make_setup(_config(tmp_path / "run", saved_run), tmp_path / "run", dataset, resumes=False)
    assert beginning.record is not None
    assert beginning.record["fresh"] == beginning.record["unused"] == ("Dense_0",)
    assert "11 of 12 modules" in warm_start.to_text(beginning.record)
    assert "; Dense_0 afresh; not used: Dense_0\n" in warm_start.to_text(beginning.record)
    params = jax.jit(beginning.recipe.init)(jax.random.key(1)).params
    assert params["Dense_0"]["kernel"].shape[1] == 3
    np.testing.assert_array_equal(params["Conv_0"]["kernel"], load_trained(saved_run).params["Conv_0"]["kernel"])


def test_a_long_list_is_cut_short() -> None:
    record = {"taken": (), "fresh": tuple("abcdefgh"), "unused": (), "frozen": (), "step": 1, "source": "x"}
    assert "a, b, c, d, e, f, and 2 more afresh" in warm_start.to_text(record)


def test_what_is_no_run_to_start_from_is_refused_before_any_data_are_loaded(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "load", lambda _: pytest.fail("data were loaded"))
    run, many = tmp_path / "run", tmp_path / "many"
    many.mkdir()
    started = json.loads((saved_run / "config.json").read_text()) | {"population": {"seeds": 2}}
    (many / "config.json").write_text(json.dumps(started))
    run.symlink_to(saved_run)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((saved_run / "config.json").read_text())

    with pytest.raises(ConfigError, match="none, which has no config"):
        loop.run(_config(tmp_path / "new", tmp_path / "none"))
    with pytest.raises(ConfigError, match="a population of 2: give a run of one model"):
        loop.run(_config(tmp_path / "new", many))
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        loop.run(_config(tmp_path / "new", tmp_path / "empty"))
    with pytest.raises(ConfigError, match="the directory of this run itself"):
        warm_start.refuse_unusable(_config(tmp_path / "empty", tmp_path / "empty"), tmp_path / "empty", resumes=False)
    warm_start.refuse_unusable(_config(tmp_path / "new", saved_run), tmp_path / "new", resumes=False)
    assert not (tmp_path / "new").exists()


def test_what_does_not_fit_is_refused_by_name(saved_run: Path, tmp_path: Path) -> None:
    def refused(**changes: Any) -> str:
        with pytest.raises(FmnistError) as caught:
            warm_start.make_setup(
                _config(tmp_path / "run", saved_run, **changes), tmp_path / "run", _DATASET, resumes=False
            )
        return str(caught.value)

    other = ModelConfig(family="plain", widths=(3,), depths=(1,))
    assert "no module of which fits the network" in refused(model=other, init=InitConfig(source=saved_run))
    assert "matches no parameter" in refused(init=InitConfig(saved_run, "Konv"))
    assert "--init.from: " in refused(init=InitConfig(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_its_own_reads_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", tmp_path, init=InitConfig())
    assert warm_start.make_setup(config, tmp_path / "run", _DATASET, resumes=False).record is None
