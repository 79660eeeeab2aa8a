"""The model card states what it is given."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist_jax.analysis.assessment import assess
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import AugmentConfig, Config, InitConfig, ModelConfig, PopulationConfig, RunConfig
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.views.model_card import Card, render

_FLOAT_FIELDS = ("rotation", "erase_probability", "photo_probability", "mixup_alpha", "cutmix_alpha")
_FILES = ("model.jaxexport", "model.safetensors", "model.onnx", "README.md")


def _make_card(config: Config, **changes: Any) -> Card:
    labels = np.arange(200, dtype=np.int32) % 10
    logits = 4 * np.eye(10, dtype=np.float32)[np.where(np.arange(200) % 20 == 6, 0, labels)]
    card = Card(
        config=config,
        step=config.total_steps,
        parameters=123_456,
        mirrored=config.train.eval_mirror,
        custom_recipe=None,
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
def test_card_has_every_section_for_every_preset(preset: str) -> None:
    page = render(_make_card(PRESETS[preset]))
    for section in ("Files", "Scores", "Data", "Training", "Limits", "Licence", "Versions", "Configuration"):
        assert f"\n## {section}\n" in page
    assert f"epochs: {PRESETS[preset].train.epochs} over " in page
    assert "None" not in page.partition("## Scores")[2]
    assert "\n\n\n" not in page
    assert ("MIT licence" in page) == (PRESETS[preset].data.name == "fashion_mnist")
    assert ("without mirror images averaged in | 90.00 %" in page) == PRESETS[preset].train.eval_mirror


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelConfig(family="plain", pooling="max"), "that each halve the image by max pooling, and a dense head"),
        (ModelConfig(family="plain", pooling="mean"), "by max pooling in the first, then average pooling, and"),
        (ModelConfig(family="plain", pooling="mean", widths=(8,), depths=(1,)), "halve the image by max pooling, and"),
        (ModelConfig(stem="pooled"), "residual network: max pooling after the first convolution, stages of blocks"),
        (ModelConfig(stem="full"), "residual network: stages of blocks"),
    ],
)
def test_card_describes_the_network(model: ModelConfig, expected: str) -> None:
    assert expected in render(_make_card(replace(PRESETS["standard"], model=model)))


def test_card_shows_the_given_scores_versions_and_confusions() -> None:
    page = render(_make_card(PRESETS["standard"]))
    assert "| accuracy | 95.00 %, 95% interval 91.04 to 97.26 % |" in page
    assert "| temperature | 1.25:" in page
    assert "On 200 test images (evaluated for this export)" in page
    assert "- `Shirt` taken for `T-shirt/top`: 10 (50.0% of the class)" in page
    assert "mirror images alone, not averaged | 85.00 %" in page
    assert "- trained with jax 1.2.3\n- exported with fmnist_jax 0.2.0, jax 1.2.4\n" in page
    assert "123,456 parameters" in page


def test_class_names_with_special_characters_are_listed_as_json() -> None:
    names = ("tench, Tinca tinca", "<unk>", "a_b*c`d", *CLASS_NAMES[3:])
    page = render(_make_card(PRESETS["fast"], class_names=names))
    class_list = page.partition("in this order:\n\n```json\n")[2].partition("\n```")[0]
    assert tuple(json.loads(class_list)) == names
    assert "- `Shirt` taken for `tench, Tinca tinca`: 10" in page


def test_mirror_averaging_is_described_for_the_exported_model_not_the_run() -> None:
    assert PRESETS["fast"].train.eval_mirror
    for mirrored in (True, False):
        page = render(_make_card(PRESETS["fast"], mirrored=mirrored))
        assert ("without mirror images averaged in" in page) == mirrored
        assert ("a prediction averages the logits" in page) == mirrored


def test_requirements_are_listed_only_for_the_exported_files() -> None:
    page = render(_make_card(PRESETS["record"], files=("model.onnx", "README.md")))
    assert "though the network was trained in bfloat16" in page
    assert "onnxruntime" in page
    assert "model.jaxexport" not in page
    assert "model.safetensors" not in page


def test_every_enabled_augmentation_changes_the_card() -> None:
    config = replace(PRESETS["demo"], augment=AugmentConfig(flip="none", erase_probability=0.0))
    enabled: dict[str, Any] = {"flip": "random", "crop_padding": 2, "cutout": 4, **dict.fromkeys(_FLOAT_FIELDS, 0.3)}
    sections = [
        render(_make_card(replace(config, augment=replace(config.augment, **{name: value})))).partition("## Training")[
            2
        ]
        for name, value in enabled.items()
    ]
    descriptions = [page.partition("- augmentation: ")[2].partition("\n")[0] for page in sections]
    assert len({*descriptions, "none"}) == len(enabled) + 1
    assert {*enabled, "mix_probability"} == {field.name for field in fields(AugmentConfig)}


def test_initial_weights_and_gradient_clipping_are_described_without_paths() -> None:
    demo = PRESETS["demo"]
    page = render(
        _make_card(
            replace(demo, init=InitConfig(Path("somewhere"), "Conv_*"), optim=replace(demo.optim, clip_norm=1.5)),
        )
    )
    fragments = ("weights of another run", "match `Conv_*` frozen", "clipped to a norm of 1.5")
    assert [fragment for fragment in fragments if fragment not in page] == []
    assert "somewhere" not in page


def test_custom_recipe_is_named_in_place_of_the_configured_loss_optimizer_and_augmentation() -> None:
    config = replace(PRESETS["standard"], init=InitConfig(Path("somewhere")), population=PopulationConfig(seeds=3))
    lines = render(_make_card(config, custom_recipe="my_recipe")).partition("## Training")[2].splitlines()
    assert (
        "- composed by `my_recipe` in place of `fmnist_jax.make_recipe`, so loss, optimiser, augmentation and step may "
        "not be those of the configuration"
    ) in lines
    recipe = [line for line in lines if line.startswith("- ")]
    configured = ("learning rate", "cross-entropy", "augmentation: ", "dropout", "depth", "moving average")
    assert [part for part in configured if any(part in line for line in recipe)] == []
    for part in ("- epochs: ", "weights of another run", "an ensemble of 3", "mirror image"):
        assert any(part in line for line in recipe)


def test_every_enabled_part_of_the_recipe_is_described() -> None:
    demo = PRESETS["demo"]
    augment = AugmentConfig(crop_padding=2, rotation=5.0, cutout=4, cutmix_alpha=1.0)
    page = render(
        _make_card(
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
    fragments = ("shifts by up to 2", "rotation by up to 5", "cutout of 4", "CutMix (alpha 1)", "ensemble of 3", "0.99")
    assert [fragment for fragment in fragments if fragment not in page] == []
    assert "A member axis" in page
    assert "somewhere" not in page
    assert "mirror images alone" not in page
