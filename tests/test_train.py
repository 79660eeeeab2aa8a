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

import pytest
from hypothesis import given, settings, strategies as st

import fmnist_jax
from fmnist_jax import train
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import from_dict, to_dict
from fmnist_jax.config.schema import SECTIONS, Config, InitConfig, TrainConfig
from fmnist_jax.errors import ConfigError

TRAIN = "python -m fmnist_jax.train"


def parse(*argv: str) -> Config:
    return train.parse(argv, prog=TRAIN).config


def run(*argv: str, runner: Sequence[str] = ("-m", "fmnist_jax.train")) -> subprocess.CompletedProcess[str]:
    # The help is framed to the width of the terminal, whatever that is where the tests run.
    environment = {**os.environ, "PYTHONPATH": str(Path(fmnist_jax.__file__).parents[1]), "COLUMNS": "100"}
    command = [sys.executable, *runner, *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_no_argument_means_the_standard_preset() -> None:
    assert parse() == PRESETS["standard"]
    assert not train.parse([], prog=TRAIN).print_config


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_named_with_a_space_or_an_equals_sign(name: str) -> None:
    assert parse("--preset", name) == PRESETS[name]
    assert parse(f"--preset={name}") == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_flags_change_the_preset_before_or_after_them(name: str) -> None:
    preset = PRESETS[name]
    expected = replace(preset, train=replace(preset.train, epochs=7))
    assert parse("--preset", name, "--train.epochs", "7") == expected
    assert parse("--train.epochs=7", "--preset", name) == expected


def test_values_of_every_kind_are_parsed() -> None:
    config = parse(
        *("--model.widths", "8", "16", "--model.depths", "1", "2", "--optim.peak-lr", "1e-3", "--optim.name", "adamw"),
        *("--train.no-eval-mirror", "--augment.flip", "random", "--data.dir", "/data/tfds", "--train.batch_size", "64"),
    )
    assert (config.model.widths, config.model.depths) == ((8, 16), (1, 2))
    assert (config.optim.peak_lr, config.optim.name) == (1e-3, "adamw")
    assert (config.train.eval_mirror, config.augment.flip, config.train.batch_size) == (False, "random", 64)
    assert config.data.dir == Path("/data/tfds")


@pytest.mark.parametrize("given", [("--init.from", "runs/a"), ("--init.from=runs/a",), ("--init.source", "runs/a")])
def test_where_to_start_from_has_a_flag_that_no_field_can_be_called(given: tuple[str, ...]) -> None:
    assert parse(*given, "--init.freeze", "Conv_*").init == InitConfig(Path("runs/a"), "Conv_*")


def test_a_switch_goes_both_ways() -> None:
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
def test_an_argument_that_cannot_be_read_is_named(argv: list[str], words: list[str]) -> None:
    message = refused(*argv)
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
def test_an_impossible_configuration_is_refused(argv: list[str], start: str) -> None:
    assert refused(*argv).startswith(start)


def test_a_preset_named_twice_is_not_mixed_out_of_two() -> None:
    try:
        config = parse("--preset", "fast", "--preset", "demo")
    except ConfigError:
        return
    assert config == PRESETS[config.preset]


def test_an_existing_run_looks_for_its_data_where_it_is_told_and_then_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FMNIST_DATA_DIR", "TFDS_DATA_DIR", "FMNIST_RAW_DIR"):
        monkeypatch.delenv(name, raising=False)
    there, here, run = tmp_path / "there", tmp_path / "here", ("--run.dir", str(tmp_path / "run"))
    (there / "fashion_mnist").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    config = parse("--preset", "fast", "--data.dir", str(there))
    (tmp_path / "run" / "config.json").write_text(json.dumps(to_dict(config)))
    assert parse(*run).data.dir == there
    assert parse(*run, "--data.dir", str(here)).data.dir == here
    monkeypatch.setenv("FMNIST_DATA_DIR", str(here))
    assert parse(*run).data.dir is None, "so that the environment is asked"
    monkeypatch.delenv("FMNIST_DATA_DIR")
    there.rename(here)
    assert parse(*run).data.dir is None


def test_an_existing_run_goes_on_with_its_own_values(tmp_path: Path) -> None:
    started = parse("--preset", "demo", "--train.epochs", "2", "--run.dir", str(tmp_path))
    traced = replace(started, run=replace(started.run, profile=10))  # which is for one start
    (tmp_path / "config.json").write_text(json.dumps(to_dict(traced)))
    assert parse("--run.dir", str(tmp_path)) == started
    assert parse(f"--run.dir={tmp_path}", "--preset=demo").train.epochs == PRESETS["demo"].train.epochs


TOKENS = st.sampled_from(["--preset", "fast", "--train.epochs", "3", "--model.widths", "--print-config", "--", "-1"])


@settings(deadline=None, max_examples=40)
@given(st.lists(TOKENS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4))
def test_any_arguments_are_parsed_or_refused_in_one_line(argv: list[str]) -> None:
    message = "parsed"
    code: str | int | None = 0
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            train.parse(argv, prog=TRAIN)
        except ConfigError as error:
            message = str(error)
        except SystemExit as stop:
            code = stop.code
    assert len(message.splitlines()) == 1
    assert not code


def test_help_names_every_field_and_its_range(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        train.main(["--help"])
    said = capsys.readouterr()
    assert (left.value.code, said.err) == (0, "")
    fields = to_dict(Config())
    for section in SECTIONS:
        for name in fields[section]:
            assert f"--{section}.{name}".replace("_", "-") in said.out
    assert "In [1, 65536]" in said.out


REPORT_JAX = """
import atexit, runpy, sys
atexit.register(lambda: print("jax" in sys.modules, file=sys.stderr))
runpy.run_module("fmnist_jax.train", run_name="__main__", alter_sys=True)
"""


def test_print_config_prints_the_resolved_configuration_without_importing_jax() -> None:
    argv = ("--preset", "demo", "--model.widths", "8", "--model.depths", "1", "--run.dir", "runs/x", "--print-config")
    done = run(*argv, runner=("-c", REPORT_JAX))
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert json.loads(done.stdout) == to_dict(parse(*argv))
    assert from_dict(json.loads(done.stdout)) == parse(*argv)


def test_a_refused_command_line_does_not_wait_for_jax() -> None:
    done = run("--train.epochs", "0", runner=("-c", REPORT_JAX))
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: --train.epochs is 0: choose a value in [1, 100000]", "False"]


@pytest.mark.parametrize("preset", PRESETS)
def test_print_config_prints_the_preset_and_trains_nothing(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["--preset", preset, "--print-config"])
    assert stop.value.code == 0
    assert from_dict(json.loads(capsys.readouterr().out)) == PRESETS[preset]


def test_print_config_shows_what_the_arguments_change(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--optim.peak-lr", "0.5", "--model.widths", "8", "16", "32", "64", "--print-config"])
    printed = json.loads(capsys.readouterr().out)
    expected = to_dict(PRESETS["standard"])
    expected["optim"]["peak_lr"] = 0.5
    expected["model"]["widths"] = [8, 16, 32, 64]
    assert printed == expected


def test_a_script_with_its_own_parts_has_the_flags_and_messages_of_the_command(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from functools import partial\n"
        "import fmnist_jax as fj\n"
        "mine = partial(fj.make_recipe, loss_fn=fj.make_cross_entropy(0.2))\n"
        "fj.run_command(lambda argv: print(fj.run(fj.parse_config(argv), make_recipe=mine)['steps']))\n"
    )

    def typed(*argv: str) -> subprocess.CompletedProcess[str]:
        return run(*argv, runner=(str(script),))

    assert typed("--help").stdout.startswith(f"usage: python {script} [-h]")
    refused = typed("--preset", "demo", "--train.epochs", "0")
    assert (refused.returncode, refused.stderr) == (2, "error: --train.epochs is 0: choose a value in [1, 100000]\n")
    assert typed("--preset", "fast", "--print-config").stdout == f"{json.dumps(to_dict(PRESETS['fast']), indent=2)}\n"
    small = ("--data.synthetic-train-size=200", "--data.synthetic-test-size=50", "--data.validation-size=0")
    trained = typed("--preset", "demo", *small, "--train.epochs", "1", "--run.dir", str(tmp_path / "run"))
    assert (trained.returncode, trained.stdout.splitlines()[-1]) == (0, "2")
    assert "holds a finished run" in typed("--run.dir", str(tmp_path / "run")).stdout


def test_run_refuses_an_impossible_configuration_in_research_code_too() -> None:
    with pytest.raises(ConfigError, match=r"--train\.epochs"):
        train.run(Config(train=TrainConfig(epochs=0)))
