"""Runs that start from another one: transferred weights, refusals, and bitwise equality when resumed."""

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
from fmnist_jax.runs import checkpoint, inputs, loop, results, warm_start
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.trained import load_trained
from tests.undrawn import RESULTS_STUBS

_DATASET = DatasetRecord((28, 28, 1), tuple("abcdefghij"))


def _config(run: Path, source: Path, **changes: Any) -> Config:
    """A config with the network of `saved_run`, another seed, and everything that carries state from step to step."""
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
def warm_run(saved_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Any]]:
    config = _config(tmp_path_factory.mktemp("warm") / "run", saved_run)
    with patch.multiple(results, **RESULTS_STUBS):
        return config, loop.run(config)


def test_frozen_weights_equal_those_of_the_source_and_others_have_changed(
    saved_run: Path, warm_run: tuple[Config, dict[str, Any]]
) -> None:
    assert warm_run[0].run.dir is not None
    assert warm_run[1]["test_accuracy_mirrored"] is None  # as configured
    source, trained = load_trained(saved_run), load_trained(warm_run[0].run.dir)
    frozen = "ResidualBlock_0"
    for before, after in ((source.params, trained.params), (source.batch_stats, trained.batch_stats)):
        unchanged = {name for name in before if jax.tree.all(jax.tree.map(np.array_equal, before[name], after[name]))}
        assert unchanged == {frozen}


def test_transfer_is_recorded_in_the_run_and_in_each_checkpoint(
    saved_run: Path, warm_run: tuple[Config, dict[str, Any]]
) -> None:
    assert warm_run[0].run.dir is not None
    record = json.loads((warm_run[0].run.dir / warm_start.TRANSFER_FILE).read_text())
    assert (record["source"], record["step"], record["fresh"], record["unused"]) == (str(saved_run), 5, [], [])
    assert "Dense_0" in record["taken"]
    assert len(record["frozen"]) == sum(1 for _ in jax.tree.leaves(load_trained(saved_run).params["ResidualBlock_0"]))
    for step in checkpoint.steps(warm_run[0].run.dir / "checkpoints"):
        assert checkpoint.read_manifest(warm_run[0].run.dir / "checkpoints", step)["origin"]["transfer"] == record


def test_interrupted_run_resumes_bitwise_equal_without_its_source(
    warm_run: tuple[Config, dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, summary = warm_run
    assert config.run.dir is not None
    run = tmp_path / "run"
    shutil.copytree(config.run.dir, run)
    (run / "summary.json").unlink()
    *_, last_step = checkpoint.steps(run / "checkpoints")
    shutil.rmtree(run / "checkpoints" / str(last_step))
    run_config = json.loads((run / "config.json").read_text())
    run_config["init"]["source"] = "gone"
    (run / "config.json").write_text(json.dumps(run_config))
    resumed = loop.run(_config(run, Path("gone")))
    assert resumed["state_digest"] == summary["state_digest"]
    captured = capfd.readouterr()
    assert "resuming from step" in captured.out + captured.err
    assert "modules start from" not in captured.out + captured.err


def test_run_killed_before_its_first_checkpoint_starts_from_its_source_again(
    warm_run: tuple[Config, dict[str, Any]], tmp_path: Path, saved_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, summary = warm_run
    assert config.run.dir is not None
    run = tmp_path / "run"
    shutil.copytree(config.run.dir, run, ignore=shutil.ignore_patterns("checkpoints", "summary.json", "metrics.jsonl"))
    assert loop.run(_config(run, saved_run))["state_digest"] == summary["state_digest"]
    captured = capfd.readouterr()
    assert f"12 of 12 modules start from step 5 of {saved_run}; none afresh\n" in captured.out + captured.err
    assert "frozen parameters, 6: ResidualBlock_0/BatchNorm_0/bias, " in captured.out + captured.err


def test_resume_without_any_checkpoint_left_does_not_silently_start_over(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "3").mkdir(parents=True)
    setup = warm_start.make_setup(_config(run, saved_run), run, _DATASET, resumes=True)
    assert setup.resumes
    warm_start.refuse_lost_checkpoints(setup, run)
    (run / "checkpoints" / "3").rmdir()
    with pytest.raises(CheckpointError, match="no intact checkpoint left to resume from"):
        warm_start.refuse_lost_checkpoints(setup, run)
    warm_start.refuse_lost_checkpoints(
        warm_start.make_setup(_config(run, saved_run), run, _DATASET, resumes=False), run
    )


def test_other_classes_get_a_fresh_head(saved_run: Path, tmp_path: Path) -> None:
    dataset = DatasetRecord((28, 28, 1), ("a", "b", "c"))
    setup = warm_start.make_setup(_config(tmp_path / "run", saved_run), tmp_path / "run", dataset, resumes=False)
    assert setup.record is not None
    assert setup.record["fresh"] == setup.record["unused"] == ("Dense_0",)
    assert "11 of 12 modules" in warm_start.to_text(setup.record)
    assert "; Dense_0 afresh; not used: Dense_0\n" in warm_start.to_text(setup.record)
    params = jax.jit(setup.recipe.init)(jax.random.key(1)).params
    assert params["Dense_0"]["kernel"].shape[1] == 3
    np.testing.assert_array_equal(params["Conv_0"]["kernel"], load_trained(saved_run).params["Conv_0"]["kernel"])


def test_long_list_of_modules_is_abbreviated() -> None:
    record = {"taken": (), "fresh": tuple("abcdefgh"), "unused": (), "frozen": (), "step": 1, "source": "x"}
    assert "a, b, c, d, e, f, and 2 more afresh" in warm_start.to_text(record)


def test_unusable_source_is_refused_before_any_data_are_loaded(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "load", lambda _: pytest.fail("data were loaded"))
    population, link = tmp_path / "many", tmp_path / "link"
    population.mkdir()
    source_config = json.loads((saved_run / "config.json").read_text()) | {"population": {"seeds": 2}}
    (population / "config.json").write_text(json.dumps(source_config))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((saved_run / "config.json").read_text())
    link.symlink_to(tmp_path / "empty")

    with pytest.raises(ConfigError, match="none, which has no config"):
        loop.run(_config(tmp_path / "new", tmp_path / "none"))
    with pytest.raises(ConfigError, match="a population of 2: give a run of one model"):
        loop.run(_config(tmp_path / "new", population))
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        loop.run(_config(tmp_path / "new", tmp_path / "empty"))
    for source in (tmp_path / "empty", link):
        with pytest.raises(ConfigError, match="the directory of this run itself"):
            warm_start.refuse_unusable(_config(tmp_path / "empty", source), tmp_path / "empty", resumes=False)
    warm_start.refuse_unusable(_config(tmp_path / "new", saved_run), tmp_path / "new", resumes=False)
    assert not (tmp_path / "new").exists()


def test_source_or_freeze_pattern_that_matches_nothing_is_refused(saved_run: Path, tmp_path: Path) -> None:
    def error_message(**changes: Any) -> str:
        with pytest.raises(FmnistError) as exc_info:
            warm_start.make_setup(
                _config(tmp_path / "run", saved_run, **changes), tmp_path / "run", _DATASET, resumes=False
            )
        return str(exc_info.value)

    other_model = ModelConfig(family="plain", widths=(3,), depths=(1,))
    assert "no module of which fits the network" in error_message(model=other_model, init=InitConfig(source=saved_run))
    assert "matches no parameter" in error_message(init=InitConfig(saved_run, "Konv"))
    assert "--init.from: " in error_message(init=InitConfig(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_source_has_no_transfer_record(tmp_path: Path) -> None:
    config = _config(tmp_path / "run", tmp_path, init=InitConfig())
    assert warm_start.make_setup(config, tmp_path / "run", _DATASET, resumes=False).record is None
