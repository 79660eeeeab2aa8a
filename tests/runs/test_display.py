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


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, _environ={})


def shown(style: Any, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What reaches the screen of a console, without the codes that move its cursor and colour it."""
    screen = console(terminal=terminal)
    monkeypatch.setattr(display, "Console", lambda **_: screen)
    monkeypatch.setattr(output.BestEffortStream, "isatty", lambda _: terminal)
    with display.display(style, total_steps=430, start_step=25) as opened:
        for record in records:
            opened.update(record)
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())


def test_a_training_line_names_its_numbers() -> None:
    assert display.format_record(TRAINING) == (
        "epoch   0.12  step     50  loss 1.2346  accuracy 56.79%  rate 1.25e-02  12,346 images/s"
    )


def test_an_evaluation_line_names_its_numbers() -> None:
    assert display.format_record(EVALUATION) == ("epoch   1.00  step    430  validation: accuracy 91.23%  loss 0.5432")


def test_a_line_of_a_population_says_how_far_its_members_lie_apart() -> None:
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
def test_plain_lines_are_printed_one_for_each_record(
    style: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # either makes rich take anything for a terminal
        monkeypatch.setenv(name, "1")
    with display.display(style, total_steps=430, start_step=0) as opened:
        opened.update(TRAINING)
        assert capsys.readouterr().out == display.format_record(TRAINING) + "\n"
        opened.update(EVALUATION)
    assert capsys.readouterr().out == display.format_record(EVALUATION) + "\n"


def test_plain_stays_plain_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("plain", [TRAINING], monkeypatch, terminal=True) == ""
    assert capsys.readouterr().out == display.format_record(TRAINING) + "\n"


@pytest.mark.parametrize("style", ["bar", "auto"])
def test_a_terminal_shows_a_bar_from_the_first_step_to_the_last_record(
    style: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = shown(style, [TRAINING, EVALUATION, {**TRAINING, "step": 430}], monkeypatch, terminal=True)
    assert "25/430" in screen
    assert "430/430" in screen
    assert "loss 1.2346  accuracy 56.79%" in screen
    assert screen.count(display.format_record(EVALUATION)) == 1
    assert capsys.readouterr().out == ""


def test_auto_shows_no_bar_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown("auto", [TRAINING, EVALUATION], monkeypatch, terminal=False) == ""
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_bar_that_is_asked_for_works_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown("bar", [TRAINING, EVALUATION], monkeypatch, terminal=False)
    assert display.format_record(EVALUATION) in screen
    assert "50/430" in screen


def test_a_bar_gives_the_terminal_back_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = console(terminal=True)
    monkeypatch.setattr(display, "Console", lambda **_: screen)
    with pytest.raises(ValueError, match="diverged"), display.display("bar", 10, 0):
        raise ValueError("diverged")
    assert isinstance(screen.file, io.StringIO)
    hide, show = (screen.file.getvalue().rfind(f"\x1b[?25{switch}") for switch in "lh")
    assert 0 <= hide < show


def test_a_screen_that_fails_is_given_up_and_every_record_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for style in ("plain", "bar"):
        full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, too
        monkeypatch.setattr(sys, "stdout", full)
        with display.display(style, total_steps=430, start_step=0) as opened:
            for record in (TRAINING, EVALUATION, TRAINING):
                opened.update(record)
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
