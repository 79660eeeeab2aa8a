"""Finds what makes a configuration invalid, before anything is imported, loaded or compiled for it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fmnist_jax.config import parallelism
from fmnist_jax.config.field_checks import repr_with_type, section_problems
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import (
    CUSTOM,
    SECTIONS,
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    TrainConfig,
)
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.errors import ConfigError

_DATASETS_28X28 = ("fashion_mnist", "synthetic")  # 28x28; the sizes of others are known once loaded


def validate(config: Config) -> None:
    """Checks every value and combination.

    Raises:
      ConfigError: names every problem, each with its value, what was expected and the remedy.
    """
    for section, kind in SECTIONS.items():
        if not isinstance(given := getattr(config, section), kind):
            raise ConfigError(f"{section} is {repr_with_type(given)}: give a {kind.__name__}")
    problems = list(_value_problems(config))
    if config.preset not in [*PRESETS, CUSTOM]:
        problems.append(("--preset", f"--preset is {config.preset!r}: choose one of {', '.join(PRESETS)}"))
    messages = [message for _, message in problems]

    def all_valid(*sections: str) -> bool:
        return not any(flag.startswith(tuple(f"--{section}." for section in sections)) for flag, _ in problems)

    # Values can be compared only where each of them is valid by itself.
    if all_valid("data"):
        messages.extend(_source_problems(config.data))
    if all_valid("data", "train") and config.data.size:
        messages.extend(_size_problems(config.data, config.train, config.total_steps))
    is_28x28 = all_valid("data") and config.data.name in _DATASETS_28X28
    if isinstance(config.model.widths, tuple) and isinstance(config.model.depths, tuple):
        messages.extend(_network_problems(config.model))
        messages.extend(_stage_problems(config.model, (28, 28)) if is_28x28 else ())
    if is_28x28 and all_valid("augment"):
        messages.extend(_pixel_problems(config.augment, (28, 28)))
    if config.init.freeze is not None and config.init.source is None:
        messages.append(
            f"--init.freeze is {config.init.freeze}, but --init.from is not given, and fresh weights need training: "
            "give a run to start from"
        )
    if all_valid("augment", "train"):
        messages.extend(_mixing_problems(config.augment, config.train.batch_size))
    if all_valid("population", "parallel", "train"):
        messages.extend(parallelism.problems(config))
    if messages:
        raise ConfigError("; ".join(messages))


def validate_data(data: DataConfig) -> None:
    """Checks the `data` section alone, for commands that train nothing.

    Raises:
      ConfigError: names every problem, each with its value, what was expected and the remedy.
    """
    problems = [problem for _, problem in section_problems("data", data)]
    problems = problems or [*_source_problems(data), *_split_problems(data)]
    if problems:
        raise ConfigError("; ".join(problems))


def check_choices(section: str, values: Any, *names: str) -> None:
    """Checks fields that have a fixed set of choices, for functions that take a section before it is validated.

    Raises:
      ConfigError: a field is none of its choices.
    """
    hints = get_type_hints(type(values))
    for name in names:
        value, known = getattr(values, name), get_args(hints[name])
        if value not in known:
            raise ConfigError(f"--{section}.{name} is {value!r}: choose one of {', '.join(known)}")


def check_network(model: ModelConfig, image_shape: Sequence[int]) -> None:
    """Checks that the network can be built for images of this shape: H, W and channels.

    Raises:
      ConfigError: names every problem.
    """
    empty = [
        f"--model.{name} is {getattr(model, name)}: choose 1 or more in each stage"
        for name in ("widths", "depths")
        if min(getattr(model, name), default=1) < 1
    ]
    if messages := [*empty, *_network_problems(model), *_stage_problems(model, image_shape)]:
        raise ConfigError("; ".join(messages))


def check_pixels(augment: AugmentConfig, image_shape: Sequence[int]) -> None:
    """Checks that shifts and cutout are not too large for images of this shape: H, W and channels.

    Raises:
      ConfigError: names every problem.
    """
    if messages := list(_pixel_problems(augment, image_shape)):
        raise ConfigError("; ".join(messages))


def _value_problems(config: Config) -> Iterator[tuple[str, str]]:
    for section in SECTIONS:
        yield from section_problems(section, getattr(config, section))


_USED_PATHS: Mapping[str, Collection[str]] = {
    "fashion_mnist": ("dir", "raw_dir"),
    "idx": ("raw_dir",),
    "npz": ("file",),
}


def unused_paths(data_name: str, **given: Path | None) -> Iterator[tuple[str, Path]]:
    """Yields the flags and values of given data paths at which nothing is looked for in a data set of this name."""
    for name, value in given.items():
        if value is not None and name not in _USED_PATHS.get(data_name, ()):
            yield f"--data.{name.replace('_', '-')}", value


def without_unused_paths(data: DataConfig) -> DataConfig:
    """A configuration, as earlier versions may have recorded it, without the paths that its data set does not use."""
    used = _USED_PATHS.get(data.name, ())
    kept = {name: getattr(data, name) if name in used else None for name in ("dir", "raw_dir", "file")}
    return replace(data, dir=kept["dir"], raw_dir=kept["raw_dir"], file=kept["file"])


def _source_problems(data: DataConfig) -> Iterator[str]:
    if data.name == "idx" and data.raw_dir is None:
        yield "--data.name is idx, but --data.raw-dir is not given: give the folder with the four IDX files"
    if data.name == "npz" and data.file is None:
        yield "--data.name is npz, but --data.file is not given: give the .npz file"
    for name, value in unused_paths(data.name, dir=data.dir, raw_dir=data.raw_dir, file=data.file):
        remedy = "omit it, or choose --data.name npz" if name == "--data.file" else "omit it"
        yield f"{name} is {value}, which --data.name {data.name} does not use: {remedy}"
    if data.total not in (0, data.size):
        yield (
            f"--data.total is {data.total}, but {data.name} has {data.size} images for training and validation: omit "
            "it, or hold out more with --data.validation-size"
        )


def _split_problems(data: DataConfig) -> Iterator[str]:
    if data.size and data.train_size < 1:
        yield (
            f"--data.validation-size is {data.validation_size}, which leaves none "
            f"of {data.size} images for training: choose less than {data.size}"
        )


def _size_problems(data: DataConfig, train: TrainConfig, total_steps: int) -> Iterator[str]:
    if data.train_size < 1:
        yield from _split_problems(data)
    elif train.batch_size > data.train_size:
        yield (
            f"--train.batch-size is {train.batch_size}, more than the {data.train_size} training images: "
            f"choose at most {data.train_size}"
        )
    elif total_steps * train.batch_size >= 2**31:
        yield (
            f"--train.epochs is {train.epochs}, which makes {total_steps * train.batch_size} examples: "
            f"choose fewer, to stay below 2**31"
        )


def _network_problems(model: ModelConfig) -> Iterator[str]:
    if len(model.widths) != len(model.depths):
        yield (
            f"--model.widths has {len(model.widths)} stages and --model.depths {len(model.depths)}: "
            "give both the same number"
        )
    if not model.widths:
        yield "--model.widths has no stage: give one or more"
    if model.stem != "pooled" and model.family != "resnet":
        yield (
            f"--model.stem is {model.stem}, but {model.family} pools its first convolution: "
            "choose pooled or --model.family resnet"
        )
    if not is_static_zero(model.stochastic_depth) and model.family != "resnet":
        yield (
            f"--model.stochastic-depth is {model.stochastic_depth}, but {model.family} has no residual blocks to skip: "
            "choose 0 or --model.family resnet"
        )


def _stage_problems(model: ModelConfig, image_shape: Sequence[int]) -> Iterator[str]:
    stages, (height, width, *_) = len(model.widths), image_shape
    halvings = stages - 1 if model.family == "resnet" and model.stem == "full" else stages
    if stages and min(height, width) < 2**halvings:
        yield f"--model.widths has {stages} stages, which halve {height}x{width} to nothing: choose fewer"


def _pixel_problems(augment: AugmentConfig, image_shape: Sequence[int]) -> Iterator[str]:
    height, width, *_ = image_shape
    limits = (
        ("crop-padding", augment.crop_padding, min(height, width) // 2),
        ("cutout", augment.cutout, max(height, width)),
    )
    for name, value, limit in limits:
        if value > limit:
            yield f"--augment.{name} is {value}, but the images have {height}x{width} pixels: choose at most {limit}"


def _mixing_problems(augment: AugmentConfig, batch_size: int) -> Iterator[str]:
    if augment.mixup_alpha and augment.cutmix_alpha:
        yield (
            f"--augment.mixup-alpha is {augment.mixup_alpha} and --augment.cutmix-alpha {augment.cutmix_alpha}: "
            "choose 0 for one of them"
        )
    elif batch_size == 1 and (augment.mixup_alpha or augment.cutmix_alpha):
        flag, alpha = ("mixup", augment.mixup_alpha) if augment.mixup_alpha else ("cutmix", augment.cutmix_alpha)
        yield (
            f"--augment.{flag}-alpha is {alpha}, but --train.batch-size 1 has no second image to mix with: "
            f"choose 0 or a larger batch"
        )
