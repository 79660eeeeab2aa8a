import dataclasses
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import jax.numpy as jnp
import pytest
from hypothesis import given, settings, strategies as st

from fmnist_jax.config.schema import (
    AugmentConfig,
    Config,
    DataConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from fmnist_jax.config.validation import check_pixels, validate, validate_data
from fmnist_jax.config.values import Range
from fmnist_jax.errors import ConfigError
from tests.config.strategies import SECTIONS


def numeric_fields() -> dict[str, tuple[Range, type]]:
    """The range and the type of each number, by `section.field`."""
    fields = {}
    for section in SECTIONS:
        for name, hint in get_type_hints(type(getattr(Config(), section)), include_extras=True).items():
            item = get_args(hint)[0] if get_origin(hint) is tuple else hint
            if hasattr(item, "__metadata__"):
                fields[f"{section}.{name}"] = (item.__metadata__[0], item.__origin__)
    return fields


NUMERIC_FIELDS = numeric_fields()


def values_outside(name: str) -> list[float]:
    """The nearest values that a field must reject, below and above its range."""
    limits, kind = NUMERIC_FIELDS[name]
    below = limits.low if limits.open_low else limits.low - 1 if kind is int else math.nextafter(limits.low, -math.inf)
    above = limits.high if limits.open_high else limits.high + 1 if kind is int else math.nextafter(limits.high, 1e300)
    return [below, above]


def with_value(config: Config, name: str, value: Any) -> Config:
    section, field = name.split(".")
    values = getattr(config, section)
    if isinstance(getattr(values, field), tuple):
        value = (*getattr(values, field)[:-1], value)
    return replace(config, **{section: replace(values, **{field: value})})


def flag(name: str) -> str:
    return f"--{name}".replace("_", "-")


def problems(config: Config) -> list[str]:
    try:
        validate(config)
    except ConfigError as error:
        message = str(error)
    else:
        return []
    assert len(message.splitlines()) == 1
    return message.split("; ")


def flags_out_of_range(config: Config) -> set[str]:
    matches = (re.fullmatch(r"(--\S+) is \S+: choose a value in \S+ \S+", problem) for problem in problems(config))
    return {match[1] for match in matches if match}


def test_numeric_fields_cover_every_section_except_init() -> None:
    # `init` has only paths and a pattern.
    assert {name.split(".")[0] for name in NUMERIC_FIELDS} == {*SECTIONS} - {"init"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in NUMERIC_FIELDS for value in values_outside(name)]
)
def test_first_value_past_a_bound_is_rejected_with_flag_value_and_range(name: str, value: float) -> None:
    expected = f"{flag(name)} is {value}: choose a value in {NUMERIC_FIELDS[name][0]}"
    assert expected in problems(with_value(Config(), name, value))


@pytest.mark.parametrize("name", NUMERIC_FIELDS)
def test_outermost_values_of_a_range_are_accepted(name: str) -> None:
    limits, kind = NUMERIC_FIELDS[name]
    low = math.nextafter(limits.low, 1) if limits.open_low else limits.low
    high = math.nextafter(limits.high, 0) if limits.open_high else limits.high
    for value in (low, high):
        assert flag(name) not in flags_out_of_range(with_value(Config(), name, kind(value)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NUMERIC_FIELDS)
def test_non_finite_values_are_rejected(name: str, value: float) -> None:
    assert flags_out_of_range(with_value(Config(), name, value)) == {flag(name)}


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(sorted(NUMERIC_FIELDS)), st.booleans(), min_size=1))
def test_all_values_out_of_range_are_reported_together(chosen: dict[str, bool]) -> None:
    config = Config()
    for name, above in chosen.items():
        config = with_value(config, name, values_outside(name)[above])
    assert flags_out_of_range(config) == {flag(name) for name in chosen}


def test_all_values_out_of_range_of_one_field_are_reported_together() -> None:
    messages = "; ".join(problems(Config(model=ModelConfig(widths=(0, 50_000, 8), depths=(1, 1, 1)))))
    assert "is 0" in messages
    assert "is 50000" in messages


def test_range_and_combination_problems_are_reported_together() -> None:
    config = Config(
        preset="best",
        model=ModelConfig(widths=(8,), depths=(1, 1), dropout=1.0),
        optim=OptimConfig(peak_lr=0.0),
        train=TrainConfig(batch_size=60_000),
    )
    found_problems = problems(config)
    assert [problem.split()[0] for problem in found_problems] == [
        "--model.dropout",
        "--optim.peak-lr",
        "--preset",
        "--train.batch-size",
        "--model.widths",
    ]


def test_freezing_requires_initial_weights() -> None:
    (problem,) = problems(Config(init=InitConfig(freeze="Conv_*")))
    assert problem.startswith("--init.freeze is Conv_*, but --init.from is not given")
    assert problems(Config(init=InitConfig(source=Path("run"), freeze="Conv_*"))) == []


@pytest.mark.parametrize("unknown", ["best", ["fast"], None, 3])
def test_unknown_preset_is_rejected_with_the_known_ones(unknown: Any) -> None:
    (problem,) = problems(Config(preset=unknown))
    assert problem == f"--preset is {unknown!r}: choose one of standard, fast, small, wide, record, demo"


@pytest.mark.parametrize(
    ("data", "total"),
    [(DataConfig(), 60_000), (DataConfig(name="synthetic", synthetic_train_size=300), 300)],
)
def test_validation_must_leave_a_training_image(data: DataConfig, total: int) -> None:
    config = Config(data=replace(data, validation_size=total - 1), train=TrainConfig(batch_size=1))
    assert problems(config) == []
    (problem,) = problems(replace(config, data=replace(data, validation_size=total)))
    assert problem == (
        f"--data.validation-size is {total}, which leaves none of {total} images for training: choose less than {total}"
    )


def test_batch_size_is_at_most_the_size_of_the_training_set() -> None:
    data = DataConfig(name="synthetic", synthetic_train_size=300, validation_size=100)
    assert problems(Config(data=data, train=TrainConfig(batch_size=200))) == []
    (problem,) = problems(Config(data=data, train=TrainConfig(batch_size=201)))
    assert problem == "--train.batch-size is 201, more than the 200 training images: choose at most 200"


def test_number_of_examples_of_a_run_must_fit_into_an_int32() -> None:
    data = DataConfig(name="synthetic", synthetic_train_size=2**15, validation_size=0)
    config = Config(data=data, train=TrainConfig(batch_size=2**15, epochs=2**16 - 1))
    assert problems(config) == []
    (problem,) = problems(replace(config, train=replace(config.train, epochs=2**16)))
    assert problem.startswith("--train.epochs is 65536, which makes 2147483648 examples")


def _with_stages(number: int, **others: Any) -> Config:
    return Config(model=ModelConfig(widths=(8,) * number, depths=(1,) * number, **others))


def test_number_of_stages_is_limited_by_how_often_images_can_be_halved() -> None:
    assert problems(_with_stages(1)) == problems(_with_stages(4)) == problems(_with_stages(5, stem="full")) == []
    assert problems(_with_stages(0)) == ["--model.widths has no stage: give one or more"]
    for config in (_with_stages(5), _with_stages(6, stem="full")):
        (problem,) = problems(config)
        assert problem.endswith(" stages, which halve 28x28 to nothing: choose fewer")


def test_own_images_are_checked_against_their_own_size() -> None:
    augment = AugmentConfig(crop_padding=15, cutout=29)
    own_images = replace(_with_stages(6), augment=augment, data=DataConfig(name="npz", file=Path("own.npz")))
    assert problems(own_images) == []
    expected = [
        "--augment.crop-padding is 15, but the images have 28x28 pixels: choose at most 14",
        "--augment.cutout is 29, but the images have 28x28 pixels: choose at most 28",
    ]
    assert problems(Config(augment=augment)) == expected
    with pytest.raises(ConfigError, match=r"is 65, but the images have 130x128 pixels: choose at most 64$"):
        check_pixels(replace(augment, crop_padding=65), (130, 128, 3))


def test_widths_and_depths_must_have_the_same_length() -> None:
    (problem,) = problems(Config(model=ModelConfig(widths=(8, 16), depths=(1,))))
    assert problem == "--model.widths has 2 stages and --model.depths 1: give both the same number"


def test_stochastic_depth_requires_residual_blocks() -> None:
    (problem,) = problems(Config(model=ModelConfig(family="plain", stochastic_depth=0.1)))
    assert problem == (
        "--model.stochastic-depth is 0.1, but plain has no residual blocks to skip: choose 0 or --model.family resnet"
    )
    assert problems(Config(model=ModelConfig(family="resnet", stochastic_depth=0.1))) == []


def test_full_stem_requires_a_resnet() -> None:
    (problem,) = problems(Config(model=ModelConfig(family="plain", stem="full")))
    assert problem == (
        "--model.stem is full, but plain pools its first convolution: choose pooled or --model.family resnet"
    )
    assert problems(Config(model=ModelConfig(family="resnet", stem="full"))) == []


def test_mixup_and_cutmix_are_mutually_exclusive() -> None:
    (problem,) = problems(Config(augment=AugmentConfig(mixup_alpha=0.2, cutmix_alpha=1.0)))
    assert problem == "--augment.mixup-alpha is 0.2 and --augment.cutmix-alpha 1.0: choose 0 for one of them"


@pytest.mark.parametrize(
    ("name", "augment"), [("mixup", AugmentConfig(mixup_alpha=1.0)), ("cutmix", AugmentConfig(cutmix_alpha=1.0))]
)
def test_mixing_requires_two_images_per_batch(name: str, augment: AugmentConfig) -> None:
    (problem,) = problems(Config(augment=augment, train=TrainConfig(batch_size=1)))
    assert problem.startswith(f"--augment.{name}-alpha is 1.0, but --train.batch-size 1 has no second image")
    assert problems(Config(augment=augment, train=TrainConfig(batch_size=2))) == []
    assert problems(Config(train=TrainConfig(batch_size=1))) == []


@pytest.mark.parametrize("section", ["data", "model", "augment", "train", "optim", "run"])
def test_field_of_any_type_is_refused_in_one_message(section: str) -> None:
    defaults = getattr(Config(), section)
    for field in dataclasses.fields(defaults):
        for value in ({}, object()):
            broken = replace(defaults, **{field.name: value})
            with pytest.raises(ConfigError, match=rf"--{section}\.{field.name.replace('_', '-')} is "):
                validate(replace(Config(), **{section: broken}))


def test_several_values_of_a_mixing_field_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^--augment\.mixup-alpha is .*"):
        validate(Config(augment=AugmentConfig(mixup_alpha=jnp.array([0.1, 0.2]))))  # type: ignore[arg-type]


def test_boolean_field_rejects_a_string() -> None:
    config = Config(run=replace(Config().run, tensorboard="yes"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^--run\.tensorboard is 'yes' \(str\): choose true or false$"):
        validate(config)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DataConfig(name="idx"), "--data.name is idx, but --data.raw-dir is not given"),
        (DataConfig(name="npz"), "--data.name is npz, but --data.file is not given"),
        (DataConfig(name="idx", raw_dir=Path("a"), file=Path("b")), "--data.file is b, which --data.name idx does not"),
        (DataConfig(file=Path("b")), "use: omit it, or choose --data.name npz"),
        (DataConfig(name="npz", file=Path("a"), dir=Path("b")), "--data.dir is b, which --data.name npz does not use"),
        (DataConfig(name="idx", raw_dir=Path("a"), dir=Path("b")), "--data.dir is b, which --data.name idx does not"),
        (DataConfig(name="synthetic", raw_dir=Path("b")), "--data.raw-dir is b, which --data.name synthetic does not"),
        (DataConfig(name="npz", file=Path("a"), total=9, validation_size=9), "leaves none of 9 images for training"),
        (
            DataConfig(total=1000),
            "--data.total is 1000, but fashion_mnist has 60000 images for training and validation",
        ),
        (DataConfig(name="synthetic", total=9), "--data.total is 9, but synthetic has 12000 images for training and"),
    ],
)
def test_inconsistent_data_source_is_rejected_without_reading_files(data: DataConfig, expected: str) -> None:
    for check in (lambda: validate(Config(data=data)), lambda: validate_data(data)):
        with pytest.raises(ConfigError) as exc_info:
            check()
        assert expected in str(exc_info.value)


def test_size_that_is_unknown_before_loading_is_not_validated() -> None:
    unloaded = DataConfig(name="npz", file=Path("a.npz"))
    validate(Config(data=unloaded))
    loaded = replace(unloaded, total=5_100)
    validate(Config(data=loaded, train=TrainConfig(batch_size=100)))
    with pytest.raises(ConfigError, match=r"more than the 100 training images"):
        validate(Config(data=loaded, train=TrainConfig(batch_size=101)))
