"""The model card: what it says is what it is given."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import AugmentConfig, Config, InitConfig, PopulationConfig, RunConfig
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.model_card import Card, render

_SHARES = ("rotation", "erase_probability", "photo_probability", "mixup_alpha", "cutmix_alpha")
_FILES = ("model.jaxexport", "model.safetensors", "model.onnx", "README.md")


def _card(config: Config, **changes: Any) -> Card:
    labels = np.arange(200, dtype=np.int32) % 10
    logits = 4 * np.eye(10, dtype=np.float32)[np.where(np.arange(200) % 20 == 6, 0, labels)]
    card = Card(
        config=config,
        step=config.total_steps,
        parameters=123_456,
        mirrored=config.train.eval_mirror,
        image_shape=(28, 28, 1),
        class_names=CLASS_NAMES,
        assessment=assess(logits, labels),
        temperature=1.25,
        origin="evaluated for this export",
        summary={"test_accuracy": 0.9, "test_accuracy_of_mirror_images": 0.85},
        trained_with={"jax": "1.2.3", "flax": None},
        exported_with={"fmnist_jax": "0.2.0", "jax": "1.2.4"},
        files=_FILES,
    )
    return card._replace(**changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_card_has_all_of_its_parts_for_every_preset(preset: str) -> None:
    page = render(_card(PRESETS[preset]))
    for part in ("Files", "Scores", "Data", "Training", "Limits", "Licence", "Versions", "Configuration"):
        assert f"\n## {part}\n" in page
    assert f"epochs: {PRESETS[preset].train.epochs} over " in page
    assert "None" not in page.partition("## Scores")[2]
    assert "\n\n\n" not in page
    assert ("MIT licence" in page) == (PRESETS[preset].data.name == "fashion_mnist")
    assert ("without mirror images averaged in | 90.00 %" in page) == PRESETS[preset].train.eval_mirror


def test_scores_versions_and_confusions_are_those_that_are_given() -> None:
    page = render(_card(PRESETS["standard"]))
    assert "| accuracy | 95.00 %, 95% interval 91.04 to 97.26 % |" in page
    assert "| temperature | 1.25:" in page
    assert "On 200 test images (evaluated for this export)" in page
    assert "- `Shirt` taken for `T-shirt/top`: 10 (50.0% of the class)" in page
    assert "mirror images alone, not averaged | 85.00 %" in page
    assert "- trained with jax 1.2.3\n- exported with fmnist_jax 0.2.0, jax 1.2.4\n" in page
    assert "123,456 parameters" in page


def test_names_of_classes_are_told_apart_whatever_they_hold() -> None:
    names = ("tench, Tinca tinca", "<unk>", "a_b*c`d", *CLASS_NAMES[3:])
    page = render(_card(PRESETS["fast"], class_names=names))
    told = page.partition("in this order:\n\n```json\n")[2].partition("\n```")[0]
    assert tuple(json.loads(told)) == names
    assert "- `Shirt` taken for `tench, Tinca tinca`: 10" in page


def test_mirror_images_are_told_of_where_the_model_averages_them_whatever_the_run_did() -> None:
    assert PRESETS["fast"].train.eval_mirror
    for mirrored in (True, False):
        page = render(_card(PRESETS["fast"], mirrored=mirrored))
        assert ("without mirror images averaged in" in page) == mirrored
        assert ("a prediction averages the logits" in page) == mirrored


def test_what_a_file_needs_is_told_of_the_files_that_are_there() -> None:
    page = render(_card(PRESETS["record"], files=("model.onnx", "README.md")))
    assert "though the network was trained in bfloat16" in page
    assert "onnxruntime" in page
    assert "model.jaxexport" not in page
    assert "model.safetensors" not in page


def test_any_augmentation_that_is_on_changes_the_card() -> None:
    config = replace(PRESETS["demo"], augment=AugmentConfig(flip="none", erase_probability=0.0))
    on: dict[str, Any] = {"flip": "random", "crop_padding": 2, "cutout": 4, **dict.fromkeys(_SHARES, 0.3)}
    training = [
        render(_card(replace(config, augment=replace(config.augment, **{name: value})))).partition("## Training")[2]
        for name, value in on.items()
    ]
    told = [page.partition("- augmentation: ")[2].partition("\n")[0] for page in training]
    assert len({*told, "none"}) == len(on) + 1
    assert {*on, "mix_probability"} == {field.name for field in fields(AugmentConfig)}


def test_where_a_run_started_and_what_bounded_its_steps_is_told_without_places() -> None:
    demo = PRESETS["demo"]
    told = render(
        _card(
            replace(demo, init=InitConfig(Path("somewhere"), "Conv_*"), optim=replace(demo.optim, clip_norm=1.5)),
        )
    )
    words = ("weights of another run", "match `Conv_*` frozen", "clipped to a norm of 1.5")
    assert [word for word in words if word not in told] == []
    assert "somewhere" not in told


def test_every_part_of_a_recipe_that_is_on_is_told() -> None:
    demo = PRESETS["demo"]
    augment = AugmentConfig(crop_padding=2, rotation=5.0, cutout=4, cutmix_alpha=1.0)
    told = render(
        _card(
            replace(
                demo,
                augment=augment,
                train=replace(demo.train, average_decay=0.99),
                population=PopulationConfig(seeds=3),
                run=RunConfig(dir=Path("somewhere")),
            ),
            summary={},
        )
    )
    words = ("shifts by up to 2", "rotation by up to 5", "cutout of 4", "CutMix (alpha 1)", "ensemble of 3", "0.99")
    assert [word for word in words if word not in told] == []
    assert "A member axis" in told
    assert "somewhere" not in told
    assert "mirror images alone" not in told
