"""Which checkpoint of a run is meant by `latest`, `best` or a step."""

from collections.abc import Iterator
from pathlib import Path

from fmnist_jax.config.schema import Config
from fmnist_jax.config.validation import validate
from fmnist_jax.errors import CheckpointError, ConfigError
from fmnist_jax.runs import checkpoint, numbering
from fmnist_jax.runs.directory import require_config


def find_checkpoint(run: Path, which: str | int = "latest") -> tuple[Config, int]:
    """Finds the configuration of a run and the step of a checkpoint; arguments and errors as for `load_trained`."""
    config = require_config(run)
    try:
        validate(config)
    except ConfigError as error:
        raise ConfigError(f"in {run / 'config.json'}: {error}; restore what the run was started with") from error
    return config, choose_step(run / "checkpoints", which)


def choose_step(directory: Path, which: str | int) -> int:
    """Finds the step of a checkpoint.

    Args:
      directory: where the checkpoints are kept.
      which: as for `load_trained`.

    Raises:
      CheckpointError: there is none, or not the one asked for.
    """
    steps, which = checkpoint.steps(directory), str(which)
    if not steps:
        raise CheckpointError(f"{directory} has no checkpoint: let fmnist_jax.train save one, or choose another run")
    if which == "latest":
        return steps[-1]
    if which == "best":
        return _best(directory, steps)
    if not which.isdecimal() or int(which) not in steps:
        raise CheckpointError(
            f"the checkpoint is {which!r}: choose best, latest, or a step of {directory}: {', '.join(map(str, steps))}"
        )
    return int(which)


def _best(directory: Path, steps: list[int]) -> int:
    accuracies = dict(_accuracies(directory, steps))
    if not accuracies:  # all have been replaced meanwhile
        return choose_step(directory, "best")
    best = max(accuracies, key=lambda step: (accuracies[step], step))
    if accuracies[best] == numbering.UNSCORED:
        raise CheckpointError(
            f"the checkpoint is 'best', but none in {directory} was scored on validation images: "
            f"choose latest, or a step: {', '.join(map(str, steps))}"
        )
    return best


def _accuracies(directory: Path, steps: list[int]) -> Iterator[tuple[int, float]]:
    """Yields each step and its score, but not of what a run in progress deletes meanwhile."""
    for step in steps:
        try:
            yield step, checkpoint.read_manifest(directory, step)["val_accuracy"]
        except CheckpointError:
            if step in checkpoint.steps(directory):
                raise
