import io
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fmnist_jax.runs import display
from fmnist_jax.system import output

TRAINING: dict[str, Any] = {
    "step": 50,
    "epoch": 0.1164,
    "train_loss": 1.23456,
    "train_accuracy": 0.56789,
    "learning_rate": 0.0125,
    "images_per_second": 12345.6,
}
EVALUATION: dict[str, Any] = {"step": 430, "epoch": 1.0, "val_loss": 0.54321, "val_accuracy": 0.9123}


def make_console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, _environ={})


def render(style: Any, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What a console shows, without the escape codes that move its cursor and colour its text."""
    screen = make_console(terminal=terminal)
    monkeypatch.setattr(display, "Console", lambda **_: screen)
    monkeypatch.setattr(output.BestEffortStream, "isatty", lambda _: terminal)
    with display.display(style, total_steps=430, start_step=25) as progress:
        for record in records:
            progress.update(record)
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())


def test_format_record_labels_the_values_of_a_training_record() -> None:
    assert display.format_record(TRAINING) == (
        "epoch   0.12  step     50  loss 1.2346  accuracy 56.79%  rate 1.25e-02  12,346 images/s"
    )


def test_format_record_labels_the_values_of_an_evaluation_record() -> None:
    assert display.format_record(EVALUATION) == ("epoch   1.00  step    430  validation: accuracy 91.23%  loss 0.5432")


def test_format_record_of_a_population_adds_the_deviation_of_accuracy() -> None:
    training = {**TRAINING, "members": {"train_loss": [1.0, 1.5], "train_accuracy": [0.5676, 0.5681]}}
    assert "  accuracy 56.79% ± 0.04  rate " in display.format_record(training)
    evaluation = {**EVALUATION, "members": {"val_loss": [0.5] * 3, "val_accuracy": [0.91, 0.92, 0.93]}}
    assert display.format_record(evaluation).endswith("  validation: accuracy 91.23% ± 1.00  loss 0.5432")
    assert display.format_record({**EVALUATION, "members": {"val_accuracy": [0.9123]}}) == display.format_record(
        EVALUATION
    )


def test_lines_of_a_long_run_stay_aligned() -> None:
    late = {**TRAINING, "step": 999_999, "epoch": 999.99}
    assert display.format_record(late).index("loss") == display.format_record(TRAINING).index("loss")


@pytest.mark.parametrize("style", ["plain", "auto"])
def test_plain_and_auto_print_one_line_per_record_despite_force_color(
    style: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # either makes rich treat any stream as a terminal
        monkeypatch.setenv(name, "1")
    with display.display(style, total_steps=430, start_step=0) as progress:
        progress.update(TRAINING)
        assert capsys.readouterr().out == display.format_record(TRAINING) + "\n"
        progress.update(EVALUATION)
    assert capsys.readouterr().out == display.format_record(EVALUATION) + "\n"


def test_plain_style_shows_no_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render("plain", [TRAINING], monkeypatch, terminal=True) == ""
    assert capsys.readouterr().out == display.format_record(TRAINING) + "\n"


@pytest.mark.parametrize("style", ["bar", "auto"])
def test_bar_on_a_terminal_goes_from_start_step_to_last_record(
    style: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = render(style, [TRAINING, EVALUATION, {**TRAINING, "step": 430}], monkeypatch, terminal=True)
    assert "25/430" in screen
    assert "430/430" in screen
    assert "loss 1.2346  accuracy 56.79%" in screen
    assert screen.count(display.format_record(EVALUATION)) == 1
    assert capsys.readouterr().out == ""


def test_auto_style_shows_no_bar_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render("auto", [TRAINING, EVALUATION], monkeypatch, terminal=False) == ""
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_explicit_bar_works_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = render("bar", [TRAINING, EVALUATION], monkeypatch, terminal=False)
    assert display.format_record(EVALUATION) in screen
    assert "50/430" in screen


def test_bar_restores_the_cursor_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = make_console(terminal=True)
    monkeypatch.setattr(display, "Console", lambda **_: screen)
    with pytest.raises(ValueError, match="diverged"), display.display("bar", 10, 0):
        raise ValueError("diverged")
    assert isinstance(screen.file, io.StringIO)
    hide, show = (screen.file.getvalue().rfind(f"\x1b[?25{switch}") for switch in "lh")
    assert 0 <= hide < show


def test_display_accepts_every_record_on_a_full_output_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for style in ("plain", "bar"):
        full_device = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails too
        monkeypatch.setattr(sys, "stdout", full_device)
        with display.display(style, total_steps=430, start_step=0) as progress:
            for record in (TRAINING, EVALUATION, TRAINING):
                progress.update(record)
        monkeypatch.undo()
        with suppress(OSError):
            full_device.close()
