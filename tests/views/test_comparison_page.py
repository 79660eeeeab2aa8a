"""Content of the comparison page; test_report_in_browser covers its behaviour in a browser."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fmnist_jax.analysis.pairs import paired_difference
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.views import comparison_page
from tests.views.test_report_page import HTML_INJECTION, Page, make_contents


def make_run(name: str, wrong: int, **changes: Any) -> comparison_page.Run:
    """A run that misclassifies the first `wrong` of 60 images."""
    contents = make_contents()
    labels = contents.test.labels
    predictions = np.where(np.arange(60) < wrong, (labels + 1) % 10, labels)
    run = comparison_page.Run(
        name=name,
        config=contents.config,
        step=contents.step,
        records=contents.records,
        summary=contents.summary,
        test=contents.test,
        logits=4 * np.eye(10, dtype=np.float32)[predictions],
    )
    return run._replace(**changes)


def make_runs() -> list[comparison_page.Run]:
    """Three runs, the last one unfinished and with other test images."""
    demo = PRESETS["demo"]
    longer = replace(demo, train=replace(demo.train, epochs=9, seed=4), run=replace(demo.run, log_every=3))
    other_test = Dataset(make_contents().test.images[::-1], make_contents().test.labels[::-1])
    return [
        make_run("first", 20),
        make_run("a/longer", 5, config=longer, step=longer.total_steps),
        make_run("stopped", 40, step=7, summary={}, records=[], test=other_test),
    ]


@pytest.fixture(scope="module")
def html() -> str:
    return comparison_page.render("three runs", make_runs())


@pytest.fixture(scope="module")
def text(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html).text)


def test_scores_show_accuracy_interval_and_difference_to_the_first_run(text: str) -> None:
    labels = make_contents().test.labels
    assert "first 66.67% 54.06% to 77.27% reference" in text
    first_correct, longer_correct = (run.logits.argmax(-1) == labels for run in make_runs()[:2])
    paired = paired_difference(longer_correct, first_correct)
    low, high = (f"{100 * bound:+.2f}" for bound in paired.interval)
    assert f"a/longer 91.67% 81.93% to 96.39% +25.00 {low} to {high} <0.001" in text
    assert re.search(r"stopped not finished: step 7 of 313 .*% different test images", text)


def test_only_differing_training_settings_are_listed(text: str) -> None:
    assert re.search(r"train\.epochs 4 9 4", text)
    assert re.search(r"train\.seed 0 4 0", text)
    assert "run.log_every" not in text
    assert "optim." not in text
    identical = comparison_page.render("twins", [make_run("one", 1), make_run("other", 2)])
    assert "Not at all: they have the same configuration, seed included." in Page(identical).text


def test_recipes_of_your_own_are_named_where_they_differ() -> None:
    runs = [make_run("one", 1, custom_recipe="with_sam"), make_run("other", 2), make_run("third", 2)]
    text = re.sub(r"\s+", " ", Page(comparison_page.render("recipes", runs)).text)
    assert "make_recipe with_sam fmnist_jax.make_recipe fmnist_jax.make_recipe" in text
    assert "Not at all" not in text
    same_name = [run._replace(custom_recipe="with_sam") for run in runs]
    text = re.sub(r"\s+", " ", Page(comparison_page.render("recipes", same_name)).text)
    assert "Not in their configurations, seed included. Each recipe comes from a function named with_sam" in text


def test_classes_are_sorted_by_the_size_of_their_difference() -> None:
    labels = make_contents().test.labels
    logits = 4 * np.eye(10, dtype=np.float32)[np.where(labels == 7, 5, labels)]
    page = Page(comparison_page.render("two", [make_run("one", 0), make_run("other", 0, logits=logits)]))
    classes = page.text[page.text.index("largest differences first") :]
    assert re.search(r"Sneaker\s+100\.0%\s+0\.0%\s+-100\.0\s+6", classes)
    assert classes.index("Sneaker") < classes.index("T-shirt/top")


def test_class_scores_on_other_test_images_show_their_count_and_no_difference(text: str) -> None:
    classes = text[text.index("largest differences first") :]
    assert re.search(r"Sneaker [\d.]+% [\d.]+% [+-][\d.]+ [\d.]+% of 6 other images 6", classes)


def test_class_without_images_shows_a_dash() -> None:
    subset = make_contents().test.take(np.arange(9))
    runs = [make_run(name, 3, test=subset, logits=make_run(name, 3).logits[:9]) for name in ("one", "other")]
    assert re.search(r"Ankle boot\s+–\s+–\s+0", Page(comparison_page.render("two", runs)).text)  # noqa: RUF001


def test_page_loads_nothing_external_and_escapes_text_from_files(html: str) -> None:
    assert not re.search(r"url\((?!#)|@import|//fonts|<script", html)
    page = Page(comparison_page.render(HTML_INJECTION, [make_run(HTML_INJECTION, 1), make_run("b" * 60, 2)]))
    assert not page.all("script")
    assert HTML_INJECTION in page.text
    ids = {str(attributes["id"]) for _, attributes in page.tags if "id" in attributes}
    assert {str(each["href"])[1:] for each in page.all("a")} <= ids
    assert {str(each["aria-labelledby"]) for each in page.all("section")} <= ids
    assert all(each.get("aria-label") for _, each in page.tags if each.get("role") == "img")
