"""What the pages share: text stays text, a missing name is an error, figures take the page's colours."""

import math

import jinja2
import pytest

from fmnist_jax.views import pages
from fmnist_jax.views.style import BLUE, new_figure


def test_a_name_that_the_template_does_not_get_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        pages.render("comparison.html")


def test_shares_are_text_and_what_is_none_a_dash() -> None:
    assert pages.percent(0.12345, 2) == "12.35%"
    assert pages.percent(None) == pages.percent(math.nan) == "–"  # noqa: RUF001


def test_a_figure_takes_the_colours_of_the_page_and_the_width_of_its_place() -> None:
    figure = new_figure(2, 2)
    figure.subplots().plot([0, 1], color=BLUE)
    drawing = pages.svg(figure)
    assert pages.themed(BLUE) == "var(--right)"
    assert "var(--right)" in drawing
    assert "#0072b2" not in drawing
    assert "width=" not in drawing.partition(">")[0].replace("stroke-width", "")
    assert pages.themed("#009E73") == "#009E73"
