"""The training command."""

import json

import pytest

from fmnist_jax import train
from fmnist_jax.config import Config, TrainConfig, from_dict, to_dict
from fmnist_jax.errors import ConfigError
from fmnist_jax.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_print_config_prints_the_preset_and_trains_nothing(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    train.main(["--preset", preset, "--print-config"])
    assert from_dict(json.loads(capsys.readouterr().out)) == PRESETS[preset]


def test_print_config_shows_what_the_arguments_change(capsys: pytest.CaptureFixture[str]) -> None:
    train.main(["--optim.peak-lr", "0.5", "--model.widths", "8", "16", "32", "--print-config"])
    printed = json.loads(capsys.readouterr().out)
    expected = to_dict(PRESETS["standard"])
    expected["optim"]["peak_lr"] = 0.5
    expected["model"]["widths"] = [8, 16, 32]
    assert printed == expected


def test_run_refuses_an_impossible_configuration_in_research_code_too() -> None:
    with pytest.raises(ConfigError, match=r"--train\.epochs"):
        train.run(Config(train=TrainConfig(epochs=0)))
