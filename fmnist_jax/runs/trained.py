"""A finished or running training, read back from its directory to be looked at."""

import functools
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np

from fmnist_jax.config.schema import Config
from fmnist_jax.config.validation import validate
from fmnist_jax.data import dataset
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import Predict, make_mirrored_predict, make_predict
from fmnist_jax.functional.model import NUM_CLASSES, Model
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.functional.state import Weights
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.directory import read_config
from fmnist_jax.system import compilation

TestTimeAugmentation = Literal["none", "mirror"]
"""Whose logits a prediction is: the image's, or the mean of the image's and its mirror image's."""


class Trained(NamedTuple):
    """A model with the weights of one checkpoint."""

    config: Config
    model: Model
    weights: Weights
    """The average of the weights where the run keeps one."""
    step: int
    """Training steps behind the weights."""


def load(run: Path, which: str = "latest") -> Trained:
    """Loads a checkpoint of a run, verified.

    Args:
      run: the run directory; nothing in it is changed.
      which: `latest`; `best` by validation accuracy, the later of two that are equal; or a step.

    Raises:
      FmnistError: there is no run, or no such checkpoint, or it is damaged; the message says what there is.
    """
    if (config := read_config(run)) is None:
        raise FmnistError(f"{run} has no config.json: name a run directory, as fmnist_jax.train has written one")
    validate(config)
    step = choose(run / "checkpoints", which)
    recipe = make_recipe(config)
    like = jax.eval_shape(recipe.init, jax.random.key(0))
    try:
        state = checkpoint.restore(run / "checkpoints", step, like)
    except CheckpointError as error:
        others = ", ".join(str(other) for other in checkpoint.steps(run / "checkpoints") if other != step)
        raise CheckpointError(f"{error}; others at hand: {others or 'none'}") from error
    return Trained(config, recipe.model, weights_to_score(state), step)


def choose(directory: Path, which: str) -> int:
    """Finds the step of a checkpoint.

    Args:
      directory: of the checkpoints.
      which: as for `load`.

    Raises:
      CheckpointError: there is none, or no such one.
    """
    steps = checkpoint.steps(directory)
    if not steps:
        raise CheckpointError(f"{directory} has no checkpoint: let fmnist_jax.train save one, or name another run")
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
    accuracies = {step: checkpoint.read_manifest(directory, step)["val_accuracy"] for step in steps}
    best = max(steps, key=lambda step: (accuracies[step], step))
    if accuracies[best] == checkpoint.UNSCORED:
        raise CheckpointError(
            f"the checkpoint is 'best', but none in {directory} was scored on validation images: "
            f"choose latest, or a step: {', '.join(map(str, steps))}"
        )
    return best


def predict(trained: Trained, images: np.ndarray, *, tta: TestTimeAugmentation = "none") -> np.ndarray:
    """Predicts images u8[N, 28, 28, 1] in batches; compiles at the first call with a model.

    Returns:
      Logits f32[N, 10].
    """
    batch_size = min(trained.config.train.eval_batch_size, max(len(images), 1))
    return predict_all(_compiled(trained.model, tta), trained.weights, images, batch_size)


def predict_all(predict: Predict, weights: Weights, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Calls `predict` on images u8[N, 28, 28, 1] in batches, the last one filled up; returns N rows of what it does."""
    batches = dataset.padded_batches(dataset.Dataset(images, np.zeros(len(images), np.int32)), batch_size)
    parts = [np.asarray(predict(*weights, batch.images)) for batch in batches]
    return np.concatenate(parts)[: len(images)] if parts else np.zeros((0, NUM_CLASSES), np.float32)


@functools.lru_cache(maxsize=8)
def _compiled(model: Model, tta: TestTimeAugmentation) -> Predict:
    plain = make_predict(model)
    chosen = make_mirrored_predict(plain) if tta == "mirror" else plain
    return jax.jit(chosen, compiler_options=compilation.compiler_options("evaluation"))
