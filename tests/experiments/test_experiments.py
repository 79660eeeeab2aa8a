"""The experiments: built only from exported names; and the pictures that they draw."""

import ast
from pathlib import Path

import numpy as np
import pytest

import fmnist_jax
from experiments.pictures import augmentation_sheet, drawings, sample_sheet, trials
from fmnist_jax import CLASS_NAMES
from fmnist_jax.data.photos import to_dataset_image
from tests.house import imports, is_within

_FOLDER = Path(__file__).parents[2] / "experiments"
_SCRIPTS = sorted(path for path in _FOLDER.rglob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda script: str(script.relative_to(_FOLDER).with_suffix("")))
def test_experiment_imports_only_exported_names(script: Path) -> None:
    assert set(unexported_imports(ast.parse(script.read_text()))) == set()


def unexported_imports(tree: ast.AST) -> set[str]:
    """What the code imports from the package other than by `from fmnist_jax import …`."""
    package_imports = {name.removeprefix("fmnist_jax.") for name in imports(tree) if is_within(name, "fmnist_jax")}
    return package_imports - {"fmnist_jax", *dir(fmnist_jax)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from fmnist_jax import load, Config", set()),
        ("import fmnist_jax as fj", set()),
        ("import fmnist_jax.runs.loop as loop", {"runs.loop"}),
        ("from fmnist_jax.data.dataset import load", {"data.dataset", "data.dataset.load"}),
        ("from fmnist_jax import no_such_name", {"no_such_name"}),
    ],
)
def test_unexported_imports_are_reported(line: str, expected: set[str]) -> None:
    assert unexported_imports(ast.parse(line)) == expected


def test_sample_sheet_has_a_row_for_each_class() -> None:
    figure = sample_sheet.draw_sample_sheet(columns=3)
    assert [axes.get_ylabel() for axes in figure.axes] == list(CLASS_NAMES)
    assert all(axes.images[0].get_size() == (28, 3 * 28) for axes in figure.axes)


def test_augmentation_sheet_has_a_row_for_each_technique() -> None:
    figure = augmentation_sheet.draw_augmentation_sheet()
    rows = {axes.get_ylabel(): np.asarray(axes.images[0].get_array()) for axes in figure.axes}
    assert len(rows) == 12
    original = rows.pop("original")
    assert original.shape == (28, 9 * 28)
    assert all(np.any(row != original) for row in rows.values())


def test_drawings_are_segmented_on_their_backgrounds() -> None:
    pictures = drawings.draw_all()
    prepared = {name: to_dataset_image(np.asarray(image)) for name, image in pictures.items()}
    assert [result.background.kind for result in prepared.values()] == ["light", "dark", "light", "dark"]
    for result in prepared.values():
        assert result.box is not None
        assert 100 < (result.image > 100).sum() < 700


def test_trial_garments_look_as_they_do_on_white() -> None:
    cases = {
        "filled": (drawings.T_SHIRT, 0.9),
        "outline": (drawings.TROUSER, 0.7),
        "white-on-white": (drawings.T_SHIRT, 0.9),
        "planks": (drawings.TROUSER, 0.8),
        "vignette": (trials.PULLOVER, 0.9),
        "dress-on-black": (trials.DRESS, 0.9),
        "sneaker": (trials.SNEAKER, 0.9),
    }
    pictures = trials.garments()
    assert len(pictures) == 10
    assert {name for _, name in pictures.values()} <= set(CLASS_NAMES)
    for name, (outline, min_overlap) in cases.items():
        ideal = drawings.draw(outline, "black", trials.solid_background(255, 255, 255), (60, 130, 360))
        actual, expected = (to_dataset_image(np.asarray(image)).image > 60 for image in (pictures[name][0], ideal))
        assert np.sum(actual & expected) > min_overlap * np.sum(actual | expected), name


def test_only_the_pair_and_the_outline_of_the_trials_raise_doubts() -> None:
    prepared = {name: to_dataset_image(np.asarray(image)) for name, (image, _) in trials.garments().items()}
    assert prepared["pair-of-shoes"].doubts == ("a pair",)
    assert not prepared["pair-of-shoes"].image[:8].any()
    assert prepared["outline"].doubts == ("outline",)
    assert {result.doubts for name, result in prepared.items() if name not in ("pair-of-shoes", "outline")} == {()}


def test_tilted_long_garments_are_turned_upright() -> None:
    pictures = trials.tilted_garments()
    assert len(pictures) == 12
    for name, (image, label) in pictures.items():
        outline = {"Trouser": drawings.TROUSER, "Dress": trials.DRESS}[label]
        upright = drawings.draw(outline, "black", trials.solid_background(255, 255, 255), (60, 130, 360))
        actual, expected = (to_dataset_image(np.asarray(picture)).image > 60 for picture in (image, upright))
        assert np.sum(actual & expected) > 0.85 * np.sum(actual | expected), name


def test_every_non_garment_has_a_bounding_box() -> None:
    pictures = trials.non_garments()
    assert len(pictures) == 10
    assert all(to_dataset_image(np.asarray(image)).box for image in pictures.values())
