"""Content of the photo page, as parsed HTML; test_photo_page_in_browser covers its behaviour."""

import re
from typing import Any

import numpy as np

from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import photo_page
from tests.views.test_report_page import Page

_HTML_INJECTION = "</script><script>alert('x')</script><b title=\"&\">"


def make_contents(count: int = 6, **changes: Any) -> photo_page.Contents:
    """Pictures of which every third is unsure, the first one with a name that needs escaping."""
    rng = np.random.default_rng(0)
    cards = [
        photo_page.Card(
            name=f"{_HTML_INJECTION}.png" if number == 0 else f"photos/{number}.png",
            thumbnail=np.full((200, 150, 3) if number % 2 else (90, 200, 3), 40 * (number % 6), np.uint8),
            box=(0.125, 0.25, 0.625, 0.75),
            image=rng.integers(0, 256, (28, 28, 1), dtype=np.uint8),
            probabilities=np.roll([0.5 + number / 100, 0.3 - number / 100, 0.2, 0, 0, 0, 0, 0, 0, 0], number % 4),
            doubts=("a pair", "low probability") if number % 3 == 0 else (),
        )
        for number in range(count)
    ]
    skipped = [("text.png", "text.png is not a picture")]
    contents = photo_page.Contents("a <run>", 7036, CLASS_NAMES, cards, count, -(-count // 3), skipped)
    return contents._replace(**changes)


def page_text(contents: photo_page.Contents) -> str:
    return re.sub(r"\s+", " ", Page(photo_page.render(contents)).text)


def test_each_card_shows_the_photo_the_network_input_and_the_top_classes() -> None:
    page = Page(photo_page.render(make_contents()))
    images = page.all("img")
    assert [str(image["src"])[:15] for image in images] == ["data:image/jpeg", "data:image/png;"] * 6
    assert [(image["width"], image["height"]) for image in images[:4:2]] == [("200", "90"), ("150", "200")]
    text = re.sub(r"\s+", " ", page.text)
    assert "6 pictures, of which 2 are unsure; 1 left out" in text
    assert "photos/1.png Trouser 51.0% Pullover 29.0% Dress 20.0% photos/2.png" in text
    assert text.count("unsure: a pair, low probability") == 2
    assert "text.png text.png is not a picture" in text
    cards = [each for each in page.all("li") if each.get("class") == "card"]
    assert [each["data-class"] for each in cards] == [CLASS_NAMES[label] for label in (0, 1, 2, 3, 0, 1)]
    assert ["data-unsure" in each for each in cards] == [True, False, False] * 2
    box = next(each for each in page.all("span") if each.get("class") == "box")
    assert box["style"] == "left: 12.50%; top: 25.00%; width: 50.00%; height: 50.00%"


def test_picture_names_are_escaped() -> None:
    html = photo_page.render(make_contents())
    assert "alert('x')" not in html
    assert Page(html).all("b") == []
    assert f"{_HTML_INJECTION}.png" in Page(html).text


def test_page_says_how_many_of_many_pictures_it_shows() -> None:
    assert "This page shows" not in page_text(make_contents())
    text = page_text(make_contents(picture_count=1234, unsure_count=1, skipped=[]))
    assert "1,234 pictures, of which 1 is unsure." in text
    assert "This page shows the first 6." in text
    assert "Left out" not in text


def test_page_makes_no_network_requests() -> None:
    html = photo_page.render(make_contents())
    assert "http" not in html.replace("http-equiv", "")
    policy = next(each for each in Page(html).all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")
