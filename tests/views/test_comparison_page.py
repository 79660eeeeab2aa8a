"""What the page of several runs says; how it behaves in a browser stands in test_report_in_browser."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fmnist_jax.analysis.pairs import paired_difference
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.views import comparison_page
from tests.views.test_report_page import EVIL, Page, contents


def run(name: str, wrong: int, **changes: Any) -> comparison_page.Run:
    """A run that is wrong on so many of 60 images, the first ones."""
    given = contents()
    labels = given.test.labels
    predicted = np.where(np.arange(60) < wrong, (labels + 1) % 10, labels)
    made = comparison_page.Run(
        name=name,
        config=given.config,
        step=given.step,
        records=given.records,
        summary=given.summary,
        test=given.test,
        logits=4 * np.eye(10, dtype=np.float32)[predicted],
    )
    return made._replace(**changes)


def several() -> list[comparison_page.Run]:
    """Three runs, of which the last has not ended and saw other test images."""
    demo = PRESETS["demo"]
    longer = replace(demo, train=replace(demo.train, epochs=9, seed=4), run=replace(demo.run, log_every=3))
    other = Dataset(contents().test.images[::-1], contents().test.labels[::-1])
    return [
        run("first", 20),
        run("a/longer", 5, config=longer, step=longer.total_steps),
        run("stopped", 40, step=7, summary={}, records=[], test=other),
    ]


@pytest.fixture(scope="module")
def html() -> str:
    return comparison_page.render("three runs", several())


@pytest.fixture(scope="module")
def text(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html).text)


def test_each_run_has_its_score_its_interval_and_its_difference_to_the_first(text: str) -> None:
    labels = contents().test.labels
    assert "first 66.67% 54.06% to 77.27% reference" in text
    first, longer = (each.logits.argmax(-1) == labels for each in several()[:2])
    paired = paired_difference(longer, first)
    low, high = (f"{100 * end:+.2f}" for end in paired.interval)
    assert f"a/longer 91.67% 81.93% to 96.39% +25.00 {low} to {high} <0.001" in text
    assert re.search(r"stopped not finished: step 7 of 313 .*% different test images", text)


def test_only_what_differs_in_the_training_is_listed(text: str) -> None:
    assert re.search(r"train\.epochs 4 9 4", text)
    assert re.search(r"train\.seed 0 4 0", text)
    assert "run.log_every" not in text
    assert "optim." not in text
    same = comparison_page.render("twins", [run("one", 1), run("other", 2)])
    assert "Not at all: they have the same configuration, seed included." in Page(same).text


def test_classes_are_sorted_by_how_far_apart_they_are() -> None:
    labels = contents().test.labels
    logits = 4 * np.eye(10, dtype=np.float32)[np.where(labels == 7, 5, labels)]
    page = Page(comparison_page.render("two", [run("one", 0), run("other", 0, logits=logits)]))
    classes = page.text[page.text.index("largest differences first") :]
    assert re.search(r"Sneaker\s+100\.0%\s+0\.0%\s+-100\.0\s+6", classes)
    assert classes.index("Sneaker") < classes.index("T-shirt/top")


def test_shares_of_other_test_images_are_told_with_their_number_and_without_a_difference(text: str) -> None:
    classes = text[text.index("largest differences first") :]
    assert re.search(r"Sneaker [\d.]+% [\d.]+% [+-][\d.]+ [\d.]+% of 6 other images 6", classes)


def test_a_class_without_images_is_a_dash() -> None:
    few = contents().test.take(np.arange(9))
    runs = [run(name, 3, test=few, logits=run(name, 3).logits[:9]) for name in ("one", "other")]
    assert re.search(r"Ankle boot\s+–\s+–\s+0", Page(comparison_page.render("two", runs)).text)  # noqa: RUF001


def test_the_page_asks_for_nothing_and_text_out_of_files_stays_text(html: str) -> None:
    assert not re.search(r"url\((?!#)|@import|//fonts|<script", html)
    evil = Page(comparison_page.render(EVIL, [run(EVIL, 1), run("b" * 60, 2)]))
    assert not evil.all("script")
    assert EVIL in evil.text
    ids = {str(attributes["id"]) for _, attributes in evil.tags if "id" in attributes}
    assert {str(each["href"])[1:] for each in evil.all("a")} <= ids
    assert {str(each["aria-labelledby"]) for each in evil.all("section")} <= ids
    assert all(each.get("aria-label") for _, each in evil.tags if each.get("role") == "img")
