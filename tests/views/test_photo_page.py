"""What the page of photos says, read as a parser reads it; how it behaves stands in test_photo_page_in_browser."""

import re
from typing import Any

import numpy as np

from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views import photo_page
from tests.views.test_report_page import Page

_EVIL = "</script><script>alert('x')</script><b title=\"&\">"


def contents(count: int = 6, **changes: Any) -> photo_page.Contents:
    """Pictures of which every third is unsure, the first one with a name that is hard to write."""
    rng = np.random.default_rng(0)
    cards = [
        photo_page.Card(
            name=f"{_EVIL}.png" if number == 0 else f"photos/{number}.png",
            thumbnail=np.full((200, 150, 3) if number % 2 else (90, 200, 3), 40 * (number % 6), np.uint8),
            box=(0.125, 0.25, 0.625, 0.75),
            image=rng.integers(0, 256, (28, 28, 1), dtype=np.uint8),
            probabilities=np.roll([0.5 + number / 100, 0.3 - number / 100, 0.2, 0, 0, 0, 0, 0, 0, 0], number % 4),
            doubts=("a pair", "low probability") if number % 3 == 0 else (),
        )
        for number in range(count)
    ]
    skipped = [("text.png", "text.png is not a picture")]
    made = photo_page.Contents("a <run>", 7036, CLASS_NAMES, cards, count, -(-count // 3), skipped)
    return made._replace(**changes)


def words(contents: photo_page.Contents) -> str:
    return re.sub(r"\s+", " ", Page(photo_page.render(contents)).text)


def test_each_picture_is_shown_with_what_was_seen_and_its_likeliest_classes() -> None:
    page = Page(photo_page.render(contents()))
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


def test_a_name_is_text_whatever_it_holds() -> None:
    html = photo_page.render(contents())
    assert "alert('x')" not in html
    assert Page(html).all("b") == []
    assert f"{_EVIL}.png" in Page(html).text


def test_of_many_pictures_the_page_says_how_many_it_shows() -> None:
    assert "This page shows" not in words(contents())
    text = words(contents(pictures=1234, unsure=1, skipped=[]))
    assert "1,234 pictures, of which 1 is unsure." in text
    assert "This page shows the first 6." in text
    assert "Left out" not in text


def test_nothing_is_asked_of_a_network() -> None:
    html = photo_page.render(contents())
    assert "http" not in html.replace("http-equiv", "")
    policy = next(each for each in Page(html).all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")
