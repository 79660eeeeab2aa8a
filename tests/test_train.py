"""The training command."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fmnist_jax
from fmnist_jax import train
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import from_dict, to_dict
from fmnist_jax.config.schema import (
    SECTIONS,
    AugmentConfig,
    Config,
    DataConfig,
    InitConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
)
from fmnist_jax.config.validation import validate
from fmnist_jax.data.dataset import Dataset, Splits
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs import loop

TRAIN = "python -m fmnist_jax.train"


def parse(*argv: str) -> Config:
    return train.parse(argv, prog=TRAIN).config


def run_train(*argv: str, runner: Sequence[str] = ("-m", "fmnist_jax.train")) -> subprocess.CompletedProcess[str]:
    # The help is wrapped to the width of the terminal, which differs between machines.
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "100"}
    command = [sys.executable, *runner, *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def refusal_message(*argv: str) -> str:
    with pytest.raises(ConfigError) as exc_info:
        parse(*argv)
    message = str(exc_info.value)
    assert len(message.splitlines()) == 1
    return message


def test_no_arguments_select_the_standard_preset() -> None:
    assert parse() == PRESETS["standard"]
    assert not train.parse([], prog=TRAIN).print_config


@pytest.mark.parametrize("name", PRESETS)
def test_preset_flag_accepts_a_space_or_an_equals_sign(name: str) -> None:
    assert parse("--preset", name) == PRESETS[name]
    assert parse(f"--preset={name}") == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_flags_override_the_preset_in_any_order(name: str) -> None:
    preset = PRESETS[name]
    expected = replace(preset, train=replace(preset.train, epochs=7))
    assert parse("--preset", name, "--train.epochs", "7") == expected
    assert parse("--train.epochs=7", "--preset", name) == expected


def test_values_of_every_type_are_parsed() -> None:
    config = parse(
        *("--model.widths", "8", "16", "--model.depths", "1", "2", "--optim.peak-lr", "1e-3", "--optim.name", "adamw"),
        *("--train.no-eval-mirror", "--augment.flip", "random", "--data.dir", "/data/tfds", "--train.batch_size", "64"),
    )
    assert (config.model.widths, config.model.depths) == ((8, 16), (1, 2))
    assert (config.optim.peak_lr, config.optim.name) == (1e-3, "adamw")
    assert (config.train.eval_mirror, config.augment.flip, config.train.batch_size) == (False, "random", 64)
    assert config.data.dir == Path("/data/tfds")


@pytest.mark.parametrize("argv", [("--init.from", "runs/a"), ("--init.from=runs/a",), ("--init.source", "runs/a")])
def test_init_from_flag_sets_init_source(argv: tuple[str, ...]) -> None:
    assert parse(*argv, "--init.freeze", "Conv_*").init == InitConfig(Path("runs/a"), "Conv_*")


def test_boolean_flag_has_a_negative_form() -> None:
    assert not parse("--preset", "fast", "--train.no-eval-mirror").train.eval_mirror
    assert parse("--preset", "fast", "--train.eval-mirror").train.eval_mirror


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--train.epoch", "3"], ["--train.epoch", "did you mean --train.epochs?"]),
        (["--optim.peak_rl=3"], ["--optim.peak_rl", "did you mean --optim.peak-lr?"]),
        (["--bogus", "1"], ["--bogus"]),
        (["stray"], ["stray"]),
        (["--train.epochs", "three"], ["--train.epochs", "'three'"]),
        (["--train.epochs", "1.5"], ["--train.epochs", "'1.5'"]),
        (["--train.epochs"], ["--train.epochs", "Missing value"]),
        (["--model.widths", "8,16"], ["--model.widths", "8"]),
        (["--augment.flip", "maybe"], ["maybe"]),
        (["--data.name", "mnist"], ["--data.name", "'mnist'", "'fashion_mnist', 'synthetic'"]),
    ],
)
def test_unparsable_argument_is_named(argv: list[str], words: list[str]) -> None:
    message = refusal_message(*argv)
    assert all(word in message for word in [*words, "see --help"])


@pytest.mark.parametrize(
    ("argv", "start"),
    [
        (["--train.batch-size", "0"], "--train.batch-size is 0: choose a value in [1, 65536]"),
        (["--optim.peak-lr", "nan"], "--optim.peak-lr is nan: choose a value in (0, "),
        (["--model.widths", "8", "16"], "--model.widths has 2 stages and --model.depths 4"),
        (["--preset", "best"], "--preset is 'best': choose one of standard, fast, small, wide, record, demo"),
        (["--preset="], "--preset is empty: give a value, or omit it"),
        (["--preset"], "--preset is '': choose one of standard, fast, small, wide, record, demo"),
    ],
)
def test_invalid_configuration_is_refused(argv: list[str], start: str) -> None:
    assert refusal_message(*argv).startswith(start)


def test_last_of_repeated_presets_counts() -> None:
    assert parse("--preset", "fast", "--preset", "demo") == PRESETS["demo"]


def test_existing_run_finds_data_by_flag_environment_then_recorded_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FMNIST_DATA_DIR", "TFDS_DATA_DIR", "FMNIST_RAW_DIR"):
        monkeypatch.delenv(name, raising=False)
    recorded_dir, other_dir, run_flags = tmp_path / "there", tmp_path / "here", ("--run.dir", str(tmp_path / "run"))
    (recorded_dir / "fashion_mnist").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    config = parse("--preset", "fast", "--data.dir", str(recorded_dir))
    (tmp_path / "run" / "config.json").write_text(json.dumps(to_dict(config)))
    assert parse(*run_flags).data.dir == recorded_dir
    assert parse(*run_flags, "--data.dir", str(other_dir)).data.dir == other_dir
    monkeypatch.setenv("FMNIST_DATA_DIR", str(other_dir))
    assert parse(*run_flags).data.dir is None, "so that the environment is asked"
    monkeypatch.delenv("FMNIST_DATA_DIR")
    recorded_dir.rename(other_dir)
    assert parse(*run_flags).data.dir is None


def test_existing_run_resumes_with_its_recorded_values(tmp_path: Path) -> None:
    recorded = parse("--preset", "demo", "--train.epochs", "2", "--run.dir", str(tmp_path))
    profiled = replace(recorded, run=replace(recorded.run, profile=10))  # which applies to a single start
    (tmp_path / "config.json").write_text(json.dumps(to_dict(profiled)))
    assert parse("--run.dir", str(tmp_path)) == recorded
    assert parse(f"--run.dir={tmp_path}", "--preset=demo").train.epochs == PRESETS["demo"].train.epochs


TOKENS = st.sampled_from(["--preset", "fast", "--train.epochs", "3", "--model.widths", "--print-config", "--", "-1"])


@settings(deadline=None, max_examples=40)
@given(st.lists(TOKENS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4))
def test_any_arguments_are_parsed_or_refused_in_one_line(argv: list[str]) -> None:
    message = "parsed"
    exit_code: str | int | None = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            train.parse(argv, prog=TRAIN)
        except ConfigError as error:
            message = str(error)
        except SystemExit as system_exit:
            exit_code = system_exit.code
    assert len(message.splitlines()) == 1
    assert not exit_code


def test_help_lists_every_field_and_its_range(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exc_info:
        train.main(["--help"])
    captured = capsys.readouterr()
    assert (exc_info.value.code, captured.err) == (0, "")
    fields = to_dict(Config())
    for section in SECTIONS:
        for name in fields[section]:
            assert f"--{section}.{name}".replace("_", "-") in captured.out
    assert "In [1, 65536]" in captured.out


REPORT_JAX = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.train", run_name="__main__", alter_sys=True)
"""


def test_print_config_prints_the_resolved_configuration_without_importing_jax() -> None:
    argv = ("--preset", "demo", "--model.widths", "8", "--model.depths", "1", "--run.dir", "runs/x", "--print-config")
    result = run_train(*argv, runner=("-c", REPORT_JAX))
    assert (result.returncode, result.stderr) == (0, "False\n")
    assert json.loads(result.stdout) == to_dict(parse(*argv))
    assert from_dict(json.loads(result.stdout)) == parse(*argv)


def test_refused_command_line_does_not_import_jax() -> None:
    result = run_train("--train.epochs", "0", runner=("-c", REPORT_JAX))
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["error: --train.epochs is 0: choose a value in [1, 100000]", "False"]


@pytest.mark.parametrize("preset", PRESETS)
def test_print_config_prints_the_preset_without_training(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exc_info:
        train.main(["--preset", preset, "--print-config"])
    assert exc_info.value.code == 0
    assert from_dict(json.loads(capsys.readouterr().out)) == PRESETS[preset]


def test_print_config_shows_overridden_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--optim.peak-lr", "0.5", "--model.widths", "8", "16", "32", "64", "--print-config"])
    printed = json.loads(capsys.readouterr().out)
    expected = to_dict(PRESETS["standard"])
    expected["optim"]["peak_lr"] = 0.5
    expected["model"]["widths"] = [8, 16, 32, 64]
    assert printed == expected


def test_script_with_a_custom_recipe_has_the_flags_and_messages_of_train(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from functools import partial\n"
        "import fmnist_jax as fj\n"
        "mine = partial(fj.make_recipe, loss_fn=fj.make_cross_entropy(0.2))\n"
        "fj.run_command(lambda argv: print(fj.run(fj.parse_config(argv), make_recipe=mine)['steps']))\n"
    )

    def run_script(*argv: str) -> subprocess.CompletedProcess[str]:
        return run_train(*argv, runner=(str(script),))

    assert run_script("--help").stdout.startswith(f"usage: python {script} [-h]")
    refusal = run_script("--preset", "demo", "--train.epochs", "0")
    assert (refusal.returncode, refusal.stderr) == (2, "error: --train.epochs is 0: choose a value in [1, 100000]\n")
    assert (
        run_script("--preset", "fast", "--print-config").stdout == f"{json.dumps(to_dict(PRESETS['fast']), indent=2)}\n"
    )
    data_flags = ("--data.synthetic-train-size=200", "--data.synthetic-test-size=50", "--data.validation-size=0")
    trained = run_script("--preset", "demo", *data_flags, "--train.epochs", "1", "--run.dir", str(tmp_path / "run"))
    assert (trained.returncode, trained.stdout.splitlines()[-1]) == (0, "2")
    assert "holds a finished run" in run_script("--run.dir", str(tmp_path / "run")).stdout


def test_run_refuses_an_invalid_config_passed_from_python() -> None:
    with pytest.raises(ConfigError, match=r"--train\.epochs"):
        train.run(Config(train=TrainConfig(epochs=0)))


def test_run_of_your_own_splits_has_their_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = np.zeros((20, 64, 64, 1), np.uint8), np.arange(20) % 10
    split = Dataset(images, labels)
    started: list[Config] = []
    monkeypatch.setattr(loop, "run", lambda config, *_: started.append(config))
    config = Config(
        model=ModelConfig(widths=(8,) * 6, depths=(1,) * 6),
        augment=AugmentConfig(crop_padding=20),
        train=TrainConfig(epochs=50_000, batch_size=16),
    )
    with pytest.raises(ConfigError, match="halve 28x28 to nothing"):
        train.run(config)
    train.run(config, Splits(split, split.take(np.arange(0)), split))
    assert [each.data.name for each in started] == ["own"]
    with pytest.raises(ConfigError, match=r"--train\.batch-size is 16, more than the 8 training images"):
        train.run(config, Splits(split.take(np.arange(8)), split, split))


@pytest.mark.parametrize("given", [RunConfig(dir=""), DataConfig(dir=""), InitConfig(source="")])  # type: ignore[arg-type]
def test_empty_path_passed_from_python_is_refused(given: Any) -> None:
    section = {RunConfig: "run", DataConfig: "data", InitConfig: "init"}[type(given)]
    with pytest.raises(ConfigError, match=rf"--{section}\.\S+ is ''.*: choose a path"):
        validate(replace(Config(), **{section: given}))


def test_run_dir_flag_without_a_value_is_named_whatever_the_working_directory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--run\.dir"):
        train.parse(["--run.dir"])
    with pytest.raises(ConfigError) as exc_info:
        train.parse(["--run.dir"])
    assert "config.json" not in str(exc_info.value)
