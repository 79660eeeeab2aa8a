import numpy as np
import pytest

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.analysis.census import Copies, summarize_split
from fmnist_jax.commands import cli
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.tables import dataset_tables, prediction_summary, prediction_table, score_tables


def test_score_tables_show_scores_classes_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    logits = np.zeros((4, 10), np.float32)
    logits[range(4), [0, 0, 1, 8]] = 5.0
    assessment = assess(logits, np.array([0, 0, 1, 3], np.int32))
    cli.print_rich(score_tables(assessment, CLASS_NAMES, "test images, checkpoint 7"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "75.00% correct on 4 test images, checkpoint 7 (95% interval 30.06% to 95.44%)"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert ["T-shirt/top", "100.0%", "100.0%", "100.0%", "2"] in rows
    assert ["Bag", "0.0%", "-", "0.0%", "0"] in rows
    assert ["Coat", "-", "-", "-", "0"] in rows
    assert ["Dress", "Bag", "1", "100.0%"] in rows
    assert ["Dress", "Bag", f"{assessment.probabilities[3, 8]:.2%}", "#3"] in rows


def test_class_and_picture_names_are_not_parsed_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("shirt [red]", "plain [/x]", ":boot: $5")
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1]]
    summary = summarize_split(np.zeros((3, 2, 2), np.uint8), np.arange(3), 3)
    assert summary is not None
    cli.print_rich(score_tables(assess(logits, np.array([0, 1, 2])), names, "test images"))
    cli.print_rich(dataset_tables({"train": summary}, {"train": Copies(0, 0, 0)}, names))
    cli.print_rich([prediction_table(["[/photo].png"], ["[light]"], logits[:1], names, [["[unsure]"]])])
    cli.print_rich([prediction_summary(logits, names, [[], [], []])])
    printed = capsys.readouterr().out
    assert [printed.count(name) for name in names] == [4, 6, 6]
    assert [printed.count(name) for name in ("[/photo].png", "[light]", "[unsure]")] == [1, 1, 1]


def test_score_tables_omit_mistakes_if_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_rich(score_tables(assess(9 * np.eye(10, dtype=np.float32), np.arange(10)), CLASS_NAMES, "test images"))
    printed = capsys.readouterr().out
    assert "100.00% correct on 10" in printed
    assert "confused" not in printed
    assert "most confident" not in printed
