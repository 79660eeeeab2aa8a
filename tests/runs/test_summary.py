"""What is printed about a finished run; `test_loop` checks the lines of a whole one."""

from pathlib import Path
from typing import Any

import pytest

from fmnist_jax.config.schema import DataConfig
from fmnist_jax.runs.summary import print_summary

_SUMMARY: dict[str, Any] = {
    "preset": "fast",
    "dataset": "fashion_mnist",
    "seed": 3,
    "epochs": 9,
    "train_seconds": 61.4,
    "test_accuracy": 0.9384,
    "test_accuracy_mirrored": None,
    "test_loss": 0.21,
    "test_examples": 10_000,
    "weakest_classes": {"Shirt": 0.8, "Coat": 0.9},
}


def _printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    print_summary(tmp_path, {**_SUMMARY, **changes}, DataConfig())
    return capsys.readouterr().out


def test_summary_prints_scores_weakest_classes_and_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _printed(tmp_path, capsys)
    assert printed.startswith("test accuracy 93.84% on 10,000 images (loss 0.2100) after epoch 9 in 61 s\n")
    assert "weakest classes: Shirt 80.0%, Coat 90.0%" in printed
    assert printed.splitlines()[-1].endswith("-m fmnist_jax.train --preset standard")


def test_summary_prints_mirrored_accuracy_and_suggests_the_next_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _printed(tmp_path, capsys, test_accuracy_mirrored=0.941, preset="standard")
    assert "; 94.10% with their mirror images averaged in" in printed
    assert printed.splitlines()[-1].endswith("--preset standard --train.seed 4")


@pytest.mark.parametrize("changes", [{"dataset": "own"}, {"preset": "custom"}])
def test_no_next_command_for_own_images_or_a_custom_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str]
) -> None:
    assert "next:" not in _printed(tmp_path, capsys, **changes)


def test_no_next_command_for_a_custom_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text('{"flour": 500}')
    assert "next:" in _printed(tmp_path, capsys)
    (tmp_path / "recipe.json").write_text('{"make_recipe": "mine", "own_network": false}')
    assert "next:" not in _printed(tmp_path, capsys)


def test_summary_reports_a_nonfinite_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "(loss not finite)" in _printed(tmp_path, capsys, test_loss=None)
