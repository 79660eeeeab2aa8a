"""Content of the report, as parsed HTML; test_report_in_browser covers its behaviour in a browser."""

import base64
import io
import itertools
import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.special import log_softmax, logsumexp

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.data.dataset import Dataset
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import pages, report_page

HTML_INJECTION = "</script><script>alert('x')</script><b title=\"&\">"


def make_contents(**changes: Any) -> report_page.Contents:
    """A run on 60 noisy images, a third of them misclassified."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int32) % 10
    predictions = np.where(np.arange(60) % 3, labels, (labels + 1) % 10)
    logits = (4 * np.eye(10)[predictions] + rng.normal(0, 0.3, (60, 10))).astype(np.float32)
    images = rng.integers(0, 256, (60, 28, 28, 1), dtype=np.uint8)
    records = [
        {"step": 5, "epoch": 1.0, "train_loss": 2.0, "train_accuracy": 0.5, "learning_rate": 0.1},
        {"step": 5, "epoch": 1.0, "val_loss": 1.0, "val_accuracy": 0.75},
    ]
    contents = report_page.Contents(
        name="a run",
        config=PRESETS["demo"],
        step=PRESETS["demo"].total_steps,
        records=records,
        environment={"python": "3.11", "packages": {"jax": "1.0", "none": None}, "command": ["train", "a b"]},
        summary={
            **{"parameters": 75450, "epochs": 4, "train_seconds": 12.3, "images_per_second": 3456.7},
            **{"test_accuracy_mirrored": 0.9, "state_digest": "5" * 64, "dataset_digest": "d" * 64},
        },
        test=Dataset(images, labels),
        logits=logits,
    )
    return contents._replace(**changes)


def make_population(**changes: Any) -> report_page.Contents:
    """The same run with three members, the first being the most accurate, and their ensemble."""
    contents = make_contents()
    rng = np.random.default_rng(1)
    one_hot = np.eye(10)[contents.test.labels]
    noise = np.array([1.0, 2.0, 3.0])[:, None, None]
    members = (3 * one_hot + noise * rng.normal(size=(3, 60, 10))).astype(np.float32)
    records = [dict(record) for record in contents.records]
    records[0]["members"] = {"train_loss": [1.9, 2.0, 2.1], "train_accuracy": [0.4, 0.5, 0.6]}
    records[1]["members"] = {"val_loss": [0.9, 1.0, 1.1], "val_accuracy": [0.74, 0.75, 0.76]}
    ensemble = (logsumexp(log_softmax(members, -1), 0) - np.log(3)).astype(np.float32)
    return contents._replace(logits=ensemble, member_logits=members, records=records)._replace(**changes)


class Page(HTMLParser):
    """Every tag with its attributes, and all text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open[-1:]):
            self.text += f" {data.strip()}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def without_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the drawings, for tests of tables or images alone."""
    monkeypatch.setattr(pages, "svg", lambda _: "")


@pytest.fixture(scope="module")
def html() -> str:
    return report_page.render(make_contents())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_shows_the_scores_of_the_run(page: Page) -> None:
    text = re.sub(r"\s+", " ", page.text)
    for expected in ("a run", "66.67%", "of 60 test images correct", "75,450", "90.00%", "3,457", "jax 1.0", "'a b'"):
        assert expected in text, expected
    assert "Not finished" not in text
    for name in CLASS_NAMES:
        assert name in text
    assert "5" * 64 in text


def test_nonempty_confusion_cells_are_buttons_labelled_with_their_counts(page: Page) -> None:
    buttons = {str(each["data-cell"]): str(each["aria-label"]) for each in page.all("button")}
    assert len(buttons) == 20
    assert buttons["0-0"] == "4 of 6 T-shirt/top recognised"
    assert buttons["0-1"] == "2 of 6 T-shirt/top taken for Trouser"
    assert "1-0" not in buttons
    assert {each["type"] for each in page.all("button")} == {"button"}


def test_embedded_cells_list_their_images_by_descending_confidence(html: str) -> None:
    match = re.search(r'<script type="application/json" id="examples">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    examples, contents = json.loads(match[1]), make_contents()
    predictions = contents.logits.argmax(-1)
    for cell, indices in examples["cells"].items():
        row, column = map(int, cell.split("-"))
        assert sorted(indices) == np.flatnonzero((contents.test.labels == row) & (predictions == column)).tolist()
        confidences = [examples["probabilities"][str(index)] for index in indices]
        assert confidences == sorted(confidences, reverse=True)
    uri = examples["images"][str(indices[0])]
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image), contents.test.images[indices[0], :, :, 0])


def test_exemplar_of_a_class_is_a_correct_prediction_if_there_is_one() -> None:
    assessment = assess(
        np.log([[0.45, 0.55, 0.01], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]]), np.array([0, 0, 1, 1])
    )
    assert [report_page._exemplar(assessment, label) for label in range(3)] == [1, 3, None]
    all_wrong = assess(np.log([[0.45, 0.55], [0.2, 0.8]]), np.array([0, 0]))
    assert report_page._exemplar(all_wrong, 0) == 0


@pytest.mark.usefixtures("without_drawings")
def test_cells_are_limited_to_12_images_and_mistakes_to_24() -> None:
    labels = np.zeros(400, np.int32)
    logits = np.zeros((400, 10), np.float32)
    logits[:, 6] = np.linspace(1, 9, 400)
    html = report_page.render(make_contents(test=Dataset(np.zeros((400, 28, 28, 1), np.uint8), labels), logits=logits))
    match = re.search(r'id="examples">(.*?)</script>', html, re.DOTALL)
    assert match is not None
    assert json.loads(match[1])["cells"] == {"0-6": list(range(399, 387, -1))}
    assert html.count("T-shirt/top, taken for Shirt") == 24


def test_page_loads_no_external_resources(html: str, page: Page) -> None:
    assert all(str(each["src"]).startswith("data:image/png;base64,") for each in page.all("img"))
    assert not [each for each in page.all("script") if "src" in each]
    assert {each["href"] for each in page.all("link")} == {"data:,"}
    assert not re.search(r"url\((?!#)|@import|//fonts", html)
    policies = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert str(policies[0]).startswith("default-src 'none'")


def test_headings_alt_texts_and_region_labels_are_accessible(page: Page) -> None:
    headings = [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    levels = [int(heading[1]) for heading in headings]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert all("alt" in each for each in page.all("img"))
    ids = {str(attributes["id"]) for _, attributes in page.tags if "id" in attributes}
    assert {str(each["href"])[1:] for each in page.all("a")} <= ids
    assert {str(each["aria-labelledby"]) for each in page.all("section")} <= ids
    assert all(each.get("aria-label") for _, each in page.tags if each.get("role") == "img")


def test_text_from_files_is_escaped() -> None:
    config = replace(PRESETS["demo"], preset=HTML_INJECTION)
    html = report_page.render(
        make_contents(
            name=HTML_INJECTION,
            config=config,
            environment={HTML_INJECTION: HTML_INJECTION, "command": [HTML_INJECTION]},
        )
    )
    test = Dataset(make_contents().test.images, make_contents().test.labels, (HTML_INJECTION, *CLASS_NAMES[1:]))
    for rendered in (html, report_page.render(make_contents(test=test))):
        page = Page(rendered)
        assert len(page.all("script")) == 2
        assert not page.all("b") or all("title" not in each for each in page.all("b"))
        assert HTML_INJECTION in page.text or any(
            HTML_INJECTION in str(each.get("aria-label")) for _, each in page.tags
        )


@pytest.mark.usefixtures("without_drawings")
def test_changes_from_the_preset_are_listed_without_paths_and_run_settings(page: Page) -> None:
    demo = PRESETS["demo"]
    data = replace(demo.data, dir=Path("/home/somebody"))
    changed = replace(demo, data=data, train=replace(demo.train, epochs=9), run=replace(demo.run, log_every=3))
    text = Page(report_page.render(make_contents(config=changed))).text
    assert re.search(r"train\.epochs\s+4\s+9", text)
    assert not re.search(r"(run\.log_every|data\.dir)\s+(25|None)", text)
    assert "Preset demo, unchanged." in page.text
    assert "Composed by" not in page.text


def test_function_that_composed_the_recipe_is_named_above_the_changes() -> None:
    text = Page(report_page.render(make_contents(custom_recipe="<lambda>"))).text
    sentence = r"Composed by\s+<lambda>\s+in place of\s+fmnist_jax\.make_recipe\s*, so loss, optimiser"
    assert re.search(rf"{sentence}.*Preset demo, unchanged\.", text, re.DOTALL)


@pytest.mark.parametrize("count", [1, 3])
def test_page_renders_with_few_images_and_classes_and_without_a_summary(count: int) -> None:
    full = make_contents()
    few = make_contents(
        test=full.test.take(np.arange(count)),
        logits=full.logits[:count],
        summary={},
        records=[],
        environment={},
        step=7,
    )
    text = Page(report_page.render(few)).text
    assert "Not finished: step 7 of 313." in text
    assert "parameters" not in text


def test_report_of_10_000_images_is_smaller_than_3_megabytes() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 28, 28, 1), dtype=np.uint8)  # noise, which PNG cannot compress
    labels = rng.integers(0, 10, 10_000).astype(np.int32)
    logits = rng.normal(size=(10_000, 10)).astype(np.float32)
    assert len(report_page.render(make_contents(test=Dataset(images, labels), logits=logits)).encode()) < 3_000_000


def test_drawings_use_the_css_colours_of_the_page(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        assert drawing.startswith('<svg aria-hidden="true"')
        assert "currentColor" in drawing
        assert "var(--right)" in drawing
        assert not re.search(r"#(?:0072b2|d55e00|000000|ffffff)", drawing)
        assert "<text" in drawing
        assert not re.match(r"<svg[^>]* (?:width|height)=", drawing)


@pytest.mark.usefixtures("without_drawings")
def test_colour_images_of_many_classes_are_embedded_in_colour_one_per_cell() -> None:
    labels, classes = np.arange(3_000) % 50, 50
    rng = np.random.default_rng(0)
    images = np.broadcast_to(rng.integers(0, 256, (3_000, 1, 1, 3), dtype=np.uint8), (3_000, 8, 12, 3))
    names = tuple(f"class {label}" for label in range(classes))
    logits = rng.normal(size=(3_000, classes)).astype(np.float32)
    html = report_page.render(make_contents(test=Dataset(images, labels, names), logits=logits))
    assert '<body class="positive many" style="--aspect: 12 / 8">' in html
    match = re.search(r'<img src="data:image/png;base64,([^"]+)" width="12" height="8"', html)
    assert match is not None
    picture = Image.open(io.BytesIO(base64.b64decode(match[1])))
    assert (picture.mode, picture.size) == ("RGB", (12, 8))
    assert picture.getpixel((0, 0)) in {tuple(pixel) for pixel in images[:, 0, 0].tolist()}
    embedded = json.loads(re.findall(r'id="examples">(.*?)</script>', html)[0])
    assert all(len(indices) == 1 for indices in embedded["cells"].values())


def make_many_classes(classes: int, count: int, edge: int) -> report_page.Contents:
    """Uniformly coloured images of many classes, with random predictions."""
    rng = np.random.default_rng(0)
    images = np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), (count, edge, 2 * edge, 3))
    names = tuple(f"class {label}" for label in range(classes))
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    return make_contents(test=Dataset(images, np.arange(count) % classes, names), logits=logits)


@pytest.mark.usefixtures("without_drawings")
@pytest.mark.parametrize(("level", "body_class"), [(0, "negated"), (150, "positive")])
def test_images_on_black_are_negated_and_photographs_are_not(level: int, body_class: str) -> None:
    contents = make_contents()
    images = np.pad(contents.test.images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=level)
    html = report_page.render(contents._replace(test=Dataset(images, contents.test.labels)))
    assert f'<body class="{body_class}" style=' in html


@pytest.mark.usefixtures("without_drawings")
def test_large_images_are_embedded_as_small_jpegs() -> None:
    html = report_page.render(make_many_classes(3, 40, 200))
    match = re.search(r'<img src="data:image/jpeg;base64,([^"]+)" width="400" height="200"', html)
    assert match is not None
    assert Image.open(io.BytesIO(base64.b64decode(match[1]))).size == (96, 48)


@pytest.mark.usefixtures("without_drawings")
def test_only_the_fullest_cells_have_images_if_there_are_too_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_page, "_MAX_EMBEDDED", 20)
    contents = make_many_classes(30, 400, 8)
    embedded = json.loads(re.findall(r'id="examples">(.*?)</script>', report_page.render(contents))[0])
    counts = assess(contents.logits, contents.test.labels).confusion
    assert len(embedded["cells"]) == 20
    embedded_counts = [counts[tuple(map(int, cell.split("-")))] for cell in embedded["cells"]]
    assert min(embedded_counts) >= np.sort(counts.ravel())[-20]


@pytest.mark.usefixtures("without_drawings")
def test_confusion_table_is_omitted_for_201_classes() -> None:
    html = report_page.render(make_many_classes(201, 402, 8))
    assert "A table of 201 classes would be too large" in html
    assert 'id="matrix"' not in html
    assert "<script" not in html
    assert "class 200" in html


_SECTIONS = ["confusion", "mistakes", "classes", "curves", "calibration", "configuration", "environment"]


def test_report_of_a_single_model_has_only_the_standard_sections(page: Page) -> None:
    assert [each["id"] for each in page.all("section")] == _SECTIONS
    assert [each["href"] for each in page.all("a")] == ["#main", *(f"#{name}" for name in _SECTIONS)]
    assert not re.search("member|ensemble", page.text, re.IGNORECASE)


@pytest.mark.parametrize("summary", [make_contents().summary, {}], ids=["finished", "unfinished"])
def test_report_of_a_population_shows_members_and_ensemble(summary: dict[str, Any]) -> None:
    contents = make_population(summary=summary)
    page = Page(report_page.render(contents))
    sections = [*_SECTIONS[:3], "members", *_SECTIONS[3:]]
    assert [each["id"] for each in page.all("section")] == sections
    assert [each["href"] for each in page.all("a")] == ["#main", *(f"#{name}" for name in sections)]
    text = re.sub(r"\s+", " ", page.text)
    assert contents.member_logits is not None
    accuracies = [float(np.mean(logits.argmax(-1) == contents.test.labels)) for logits in contents.member_logits]
    mean, deviation = statistics.mean(accuracies), statistics.stdev(accuracies)
    ensemble_accuracy = np.mean(contents.logits.argmax(-1) == contents.test.labels)
    assert f"{ensemble_accuracy:.2%} of 60 test images correct" in text
    assert f"ensemble of 3 members; one member {mean:.2%} ± {100 * deviation:.2f}" in text
    for member, (accuracy, logits) in enumerate(zip(accuracies, contents.member_logits, strict=True)):
        scores = assess(logits, contents.test.labels)
        on_test = f"{accuracy:.2%} {scores.loss:.4f} {scores.calibration_error:.2%}"
        assert f" {member} {member} {on_test} {0.74 + member / 100:.2%} " in text
    assert f"mean {mean:.2%} ± {100 * deviation:.2f}" in text
    assert "75.00% ± 1.00" in text
    assert f"ensemble {ensemble_accuracy:.2%}" in text
    votes = contents.member_logits.argmax(-1)
    assert f"All members agree on {(votes == votes[0]).all(0).mean():.1%} of the test images" in text
    assert "mean of 3 members" in text
    labels = [str(each.get("aria-label")) for _, each in page.tags if each.get("role") == "img"]
    assert len(labels) == 7


@pytest.mark.usefixtures("without_drawings")
def test_member_seeds_follow_the_run_seed_and_missing_validation_shows_a_dash() -> None:
    config = replace(PRESETS["demo"], train=replace(PRESETS["demo"].train, seed=41))
    text = re.sub(r"\s+", " ", Page(report_page.render(make_population(config=config, records=[]))).text)
    assert re.search(r" 2 43 \d+\.\d\d% \d\.\d{4} \d+\.\d\d% – ", text)  # noqa: RUF001


_TEMPLATES = Path(report_page.__file__).parent / "templates"


def _luminance(colour: np.ndarray) -> float:
    """As WCAG 2.2 defines it, of red, green and blue in [0, 1]."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _palettes() -> Iterator[dict[str, np.ndarray]]:
    """The colours by name: on a light and on a dark screen, and on paper."""
    css = "".join((_TEMPLATES / name).read_text() for name in ("page.css", "report.css"))
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#\w+);", block))
        yield {name: np.array(to_rgb(value)) for name, value in colours.items()}


@pytest.mark.parametrize(
    ("selector", "hue", "text", "shares"),
    [
        ("#matrix button", "wrong", "ink", (0.0, 0.2, 0.45)),
        ("#matrix button.wrong.strong", "wrong", "card", (0.46, 0.6, 1.0)),
        ("#matrix button.right", "right", "ink", (0.0, 0.2, 0.45)),
        ("#matrix button.right.strong", "right", "on-right", (0.46, 0.6, 1.0)),
    ],
)
def test_numbers_in_the_confusion_matrix_have_the_contrast_that_wcag_requires(
    selector: str, hue: str, text: str, shares: tuple[float, ...]
) -> None:
    css = (_TEMPLATES / "report.css").read_text()
    rule = re.search(rf"^{re.escape(selector)} \{{(.*?)\}}", css, re.DOTALL | re.MULTILINE)
    assert rule
    depth = re.search(r"--depth: (?:calc)?(.*?);", rule[1])
    assert depth
    formula = re.sub(r"([\d.]+)%", r"\1 / 100", depth[1].replace("var(--share)", "share"))
    palettes = list(_palettes())
    assert len(palettes) == 3
    for palette, share in itertools.product(palettes, shares):
        opacity = min(eval(formula, {"share": share}), 1)
        background = opacity * palette[hue] + (1 - opacity) * palette["card"]
        low, high = sorted((_luminance(palette[text]), _luminance(background)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (share, palette)


def test_logits_that_are_not_numbers_leave_a_page_that_works() -> None:
    contents = make_contents()
    logits = contents.logits.copy()
    logits[:3] = np.nan
    html = report_page.render(contents._replace(logits=logits))
    embedded = json.loads(re.findall(r'id="examples">(.*?)</script>', html)[0], parse_constant=pytest.fail)
    assert {"–"} < {*embedded["probabilities"].values()}  # noqa: RUF001
    assert "<dd>– <small>nats" in html  # noqa: RUF001
