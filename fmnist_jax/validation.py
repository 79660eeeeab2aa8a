"""What makes a configuration impossible, said before anything is imported, loaded or compiled for it."""

from collections.abc import Iterator
from typing import Any, get_type_hints

from fmnist_jax.config import Config, Range
from fmnist_jax.errors import ConfigError
from fmnist_jax.presets import PRESETS


def validate(config: Config) -> None:
    """Checks every range and combination.

    Raises:
      ConfigError: names every problem, each with its value, what was expected and the remedy.
    """
    problems = [*_range_problems(config), *_combination_problems(config)]
    if problems:
        raise ConfigError("; ".join(problems))


def _range_problems(config: Config) -> Iterator[str]:
    for section in ("data", "model", "optim", "train", "run"):
        values = getattr(config, section)
        hints = get_type_hints(type(values), include_extras=True)
        for name, hint in hints.items():
            value = getattr(values, name)
            for limits, number in _limited(hint, value):
                if number not in limits:
                    flag = f"--{section}.{name}".replace("_", "-")
                    yield f"{flag} is {number}: choose a value in {limits}"


def _limited(hint: Any, value: Any) -> Iterator[tuple[Range, float]]:
    """Pairs each number in a field with the range that its type annotation states."""
    if hasattr(hint, "__metadata__"):
        yield from ((limits, value) for limits in hint.__metadata__ if isinstance(limits, Range))
    elif isinstance(value, tuple):
        for item in value:
            yield from _limited(hint.__args__[0], item)


def _combination_problems(config: Config) -> Iterator[str]:
    data, model, train = config.data, config.model, config.train
    if config.preset not in PRESETS:
        yield f"--preset is {config.preset!r}: choose one of {', '.join(PRESETS)}"
    if data.train_size < 1:
        total = data.train_size + data.validation_size
        yield (
            f"--data.validation-size is {data.validation_size}, which leaves no training image "
            f"of {total}: choose less than {total}"
        )
    elif train.batch_size < 1:
        pass  # out of its range, which is said already; nothing can be divided by it
    elif train.batch_size > data.train_size:
        yield (
            f"--train.batch-size is {train.batch_size}, more than the {data.train_size} training images: "
            f"choose at most {data.train_size}"
        )
    elif config.total_steps * train.batch_size >= 2**31:
        yield (
            f"--train.epochs is {train.epochs}, which makes {config.total_steps * train.batch_size} examples: "
            f"choose fewer, so that they stay below 2**31"
        )
    if len(model.widths) != len(model.depths):
        yield (
            f"--model.widths has {len(model.widths)} stages and --model.depths {len(model.depths)}: "
            "give both the same number"
        )
    if not 1 <= len(model.widths) <= 4:
        yield f"--model.widths has {len(model.widths)} stages: choose one to four, each halves the 28x28 image"
