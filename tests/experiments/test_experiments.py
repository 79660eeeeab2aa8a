"""The experiments: short, built of exported parts alone, and running."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fmnist_jax
from experiments.pictures import augmentation_sheet, drawings, sample_sheet, trials
from fmnist_jax import CLASS_NAMES
from fmnist_jax.data.photos import to_dataset_image
from tests.house import imports, within

_FOLDER = Path(__file__).parents[2] / "experiments"
_SCRIPTS = sorted(path for path in _FOLDER.rglob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda script: str(script.relative_to(_FOLDER).with_suffix("")))
def test_an_experiment_uses_only_what_the_package_exports(script: Path) -> None:
    assert set(foreign(ast.parse(script.read_text()))) == set()


def foreign(tree: ast.AST) -> set[str]:
    """What the code imports of the package but does not get by `from fmnist_jax import …`."""
    ours = {name.removeprefix("fmnist_jax.") for name in imports(tree) if within(name, "fmnist_jax")}
    return ours - {"fmnist_jax", *dir(fmnist_jax)}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from fmnist_jax import load, Config", set()),
        ("import fmnist_jax as fj", set()),
        ("import fmnist_jax.runs.loop as loop", {"runs.loop"}),
        ("from fmnist_jax.data.dataset import load", {"data.dataset", "data.dataset.load"}),
        ("from fmnist_jax import no_such_name", {"no_such_name"}),
    ],
)
def test_what_the_package_does_not_export_is_found(line: str, found: set[str]) -> None:
    assert foreign(ast.parse(line)) == found


def test_the_sample_sheet_has_a_row_for_each_class() -> None:
    figure = sample_sheet.sample_sheet(columns=3)
    assert [axes.get_ylabel() for axes in figure.axes] == list(CLASS_NAMES)
    assert all(axes.images[0].get_size() == (28, 3 * 28) for axes in figure.axes)


def test_the_augmentation_sheet_has_a_row_for_each_technique() -> None:
    figure = augmentation_sheet.augmentation_sheet()
    rows = {axes.get_ylabel(): np.asarray(axes.images[0].get_array()) for axes in figure.axes}
    assert len(rows) == 12
    plain = rows.pop("original")
    assert plain.shape == (28, 9 * 28)
    assert all(np.any(row != plain) for row in rows.values())


def test_the_drawings_are_found_on_their_backgrounds() -> None:
    drawn = drawings.drawings()
    prepared = {name: to_dataset_image(np.asarray(image)) for name, image in drawn.items()}
    assert [found.background.kind for found in prepared.values()] == ["light", "dark", "light", "dark"]
    for found in prepared.values():
        assert found.box is not None
        assert 100 < (found.image > 100).sum() < 700


def test_each_garment_of_the_trials_is_seen_as_it_is_on_white() -> None:
    shapes = {
        "filled": (drawings.T_SHIRT, 0.9),
        "outline": (drawings.TROUSER, 0.7),
        "white-on-white": (drawings.T_SHIRT, 0.9),
        "planks": (drawings.TROUSER, 0.8),
        "vignette": (trials.PULLOVER, 0.9),
        "dress-on-black": (trials.DRESS, 0.9),
        "sneaker": (trials.SNEAKER, 0.9),
    }
    drawn = trials.garments()
    assert len(drawn) == 10
    assert {name for _, name in drawn.values()} <= set(CLASS_NAMES)
    for name, (outline, enough) in shapes.items():
        ideal = drawings.draw(outline, "black", trials.plain(255, 255, 255), (60, 130, 360))
        seen, expected = (to_dataset_image(np.asarray(image)).image > 60 for image in (drawn[name][0], ideal))
        assert np.sum(seen & expected) > enough * np.sum(seen | expected), name


def test_a_pair_of_the_trials_is_seen_as_one_shoe_and_the_outline_is_filled() -> None:
    drawn = {name: to_dataset_image(np.asarray(image)) for name, (image, _) in trials.garments().items()}
    assert drawn["pair-of-shoes"].doubts == ("a pair",)
    assert not drawn["pair-of-shoes"].image[:8].any()
    assert drawn["outline"].doubts == ("outline",)
    assert {found.doubts for name, found in drawn.items() if name not in ("pair-of-shoes", "outline")} == {()}


def test_long_garments_that_lie_askew_are_seen_upright() -> None:
    drawn = trials.askew()
    assert len(drawn) == 12
    for name, (image, of) in drawn.items():
        outline = {"Trouser": drawings.TROUSER, "Dress": trials.DRESS}[of]
        upright = drawings.draw(outline, "black", trials.plain(255, 255, 255), (60, 130, 360))
        seen, expected = (to_dataset_image(np.asarray(each)).image > 60 for each in (image, upright))
        assert np.sum(seen & expected) > 0.85 * np.sum(seen | expected), name


def test_none_of_the_other_trials_is_blank() -> None:
    drawn = trials.others()
    assert len(drawn) == 10
    assert all(to_dataset_image(np.asarray(image)).box for image in drawn.values())
