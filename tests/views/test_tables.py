import numpy as np
import pytest

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.commands import cli
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.tables import score_tables


def test_the_tables_hold_the_scores_the_classes_and_the_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    logits = np.zeros((4, 10), np.float32)
    logits[range(4), [0, 0, 1, 8]] = 5.0
    assessment = assess(logits, np.array([0, 0, 1, 3], np.int32))
    cli.show(score_tables(assessment, CLASS_NAMES, "test images, checkpoint 7"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "75.00% right of 4 test images, checkpoint 7 (95% interval 30.06% to 95.44%)"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert ["T-shirt/top", "100.0%", "100.0%", "100.0%", "2"] in rows
    assert ["Bag", "0.0%", "-", "0.0%", "0"] in rows
    assert ["Coat", "-", "-", "-", "0"] in rows
    assert ["Dress", "Bag", "1", "100.0%"] in rows
    assert ["Dress", "Bag", f"{assessment.probabilities[3, 8]:.2%}", "#3"] in rows


def test_without_mistakes_there_is_no_table_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    cli.show(score_tables(assess(9 * np.eye(10, dtype=np.float32), np.arange(10)), CLASS_NAMES, "test images"))
    printed = capsys.readouterr().out
    assert "100.00% right of 10" in printed
    assert "confused" not in printed
    assert "surest" not in printed
