"""A run, finished or not, loaded from its directory for prediction and inspection."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from fmnist_jax.config import paths
from fmnist_jax.config.schema import Config, PopulationConfig
from fmnist_jax.data import batching
from fmnist_jax.errors import CheckpointError, DataError, FmnistError
from fmnist_jax.functional.averaging import start_average, weights_to_score
from fmnist_jax.functional.eval_step import Predict, make_mirrored_predict, make_predict
from fmnist_jax.functional.interface import BatchStats, Model, Params
from fmnist_jax.functional.keys import KEY_IMPL
from fmnist_jax.functional.population import make_ensemble_predict, members_map
from fmnist_jax.functional.recipe import MakeRecipe, Recipe, make_recipe
from fmnist_jax.functional.state import TrainState, Weights
from fmnist_jax.runs import checkpoint, dataset_record, recipe_record
from fmnist_jax.runs.leaves import field_of
from fmnist_jax.runs.selection import choose_step, find_checkpoint
from fmnist_jax.system import compilation

TestTimeAugmentation = Literal["none", "mirror"]
"""Which logits a prediction consists of: the image's, or the mean of the image's and its mirror image's."""


_LEGACY_KEY_IMPLS = ("rbg", "unsafe_rbg")


class Trained(NamedTuple):
    """A model with the weights of one checkpoint."""

    config: Config
    model: Model
    weights: Weights
    """Averaged if the run keeps an average; those of a population have a leading axis of members."""
    step: int
    """Training steps that the weights have been through."""
    image_shape: tuple[int, int, int]
    """Height, width and channels of the input images."""
    class_names: tuple[str, ...]
    dataset_digest: str | None = None
    """That of the images of the run, as `digest` makes it; None where it is not recorded."""

    @property
    def params(self) -> Params:
        """The trained parameters."""
        return self.weights.params

    @property
    def batch_stats(self) -> BatchStats:
        """The running statistics of the normalisation layers."""
        return self.weights.batch_stats

    @property
    def members(self) -> int:
        """The number of models, all of which `predict` uses."""
        return self.config.population.seeds

    @property
    def tta(self) -> TestTimeAugmentation:
        """How to predict as the run scores itself: `mirror` if it averages mirror images and was trained on them."""
        return "mirror" if self.config.train.eval_mirror and trained_on_mirrored(self.config) else "none"

    def member(self, number: int) -> "Trained":
        """One member of a population, as a run of that member alone would have trained it.

        Raises:
          IndexError: there is no member of that number, counting from 0.
        """
        if not 0 <= number < self.members:
            raise IndexError(f"member {number} of {self.members}: expected 0 to {self.members - 1}")
        if self.members == 1:
            return self
        config = dataclasses.replace(
            self.config,
            population=PopulationConfig(),
            train=dataclasses.replace(self.config.train, seed=self.config.train.seed + number),
        )
        return self._replace(config=config, weights=jax.tree.map(lambda leaf: leaf[number], self.weights))

    def predict(self, images: np.ndarray, *, tta: TestTimeAugmentation = "none") -> np.ndarray:
        """Predicts images in batches of the next power of two or, if less, `eval_batch_size`; compiled once for each.

        Args:
          images: u8[N, H, W, C] of `image_shape`; grey ones may be u8[N, H, W].
          tta: `mirror` averages the logits of each image and its mirror image.

        Returns:
          Logits f32[N, number of classes]; those of a population are the logarithm of its members' mean probabilities.

        Raises:
          DataError: the images are of another shape or type, or traced.
          FmnistError: `tta` is neither `none` nor `mirror`.
        """
        given: Any = images
        if isinstance(given, jax.core.Tracer):
            raise DataError(
                "images are traced by JAX: use fmnist_jax.make_predict(trained.model)(*trained.weights, images)"
            )
        images = np.asarray(images)
        if images.ndim == 3 and self.image_shape[2] == 1:
            images = images[..., None]
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise DataError(f"images are {images.dtype}{list(images.shape)}: expected uint8[N, {shape}]")
        batch_size = min(self.config.train.eval_batch_size, 1 << (max(len(images), 1) - 1).bit_length())
        return predict_all(_compiled(self.model, tta, self.members), self.weights, images, batch_size)


def trained_on_mirrored(config: Config) -> bool:
    """Whether images are mirrored in training, alone or among other augmentations."""
    return config.augment.flip != "none" or config.augment.photo_probability > 0


def load_trained(
    run: str | os.PathLike[str], which: str | int = "latest", *, make_recipe: MakeRecipe = make_recipe
) -> Trained:
    """Loads and verifies a checkpoint of a run.

    Args:
      run: the run directory, in which `~` may stand for a home directory; nothing in it is changed.
      which: `latest`; `best` by validation accuracy, the later of two that are equal; or a step.
      make_recipe: the one that the run was trained with.

    Raises:
      FmnistError: there is no run or no such checkpoint, or it is damaged; the message lists what there is. Or its
        network came from another `make_recipe`.
    """
    run = paths.expand(run)
    config, step = find_checkpoint(run, which)
    if recipe_record.custom_recipe_name(make_recipe) is None:
        recipe_record.refuse_unknown_network(run)
    record = dataset_record.read(run, config)
    recipe = make_recipe(config, image_shape=record.image_shape, num_classes=record.num_classes)
    checkpoints = run / "checkpoints"
    manifest = _read_manifest(checkpoints, step)
    like = abstract_run_state(recipe, config.population.seeds, _key_impl(manifest))
    # A run of one's own optimiser, or of one's own average, predicts as any other.
    like = dataclasses.replace(like, opt_state=())
    if like.averages is None and "averages" in map(field_of, manifest.get("leaves", {})):
        like = jax.eval_shape(start_average, like)
    try:
        state = checkpoint.restore(checkpoints, step, like, without="opt_state")
    except CheckpointError as error:
        if which in ("latest", "best") and choose_step(checkpoints, which) != step:
            return load_trained(run, which, make_recipe=make_recipe)  # a run in progress has saved a newer one
        recipe_record.refuse_other(run, recipe_record.custom_recipe_name(make_recipe))
        others = ", ".join(str(other) for other in checkpoint.steps(checkpoints) if other != step)
        raise CheckpointError(f"{error}; others found: {others or 'none'}") from error
    # Callables of a user's own class need not be hashable, as cache keys must be; `partial` objects are.
    model = Model(functools.partial(recipe.model.init), functools.partial(recipe.model.apply))
    dataset_digest = manifest.get("origin", {}).get("dataset_digest")
    return Trained(config, model, weights_to_score(state), step, *record, dataset_digest)


def _read_manifest(directory: Path, step: int) -> Mapping[str, Any]:
    """The manifest of a checkpoint; empty if that is damaged, which is reported when it is restored."""
    with suppress(CheckpointError):
        return checkpoint.read_manifest(directory, step)
    return {}


def _key_impl(manifest: Mapping[str, Any]) -> str:
    """The key implementation of a run: runs that predate the use of threefry for all may have another."""
    with suppress(AttributeError):
        key_impl = manifest.get("keys", {}).get("key")
        return key_impl if key_impl in _LEGACY_KEY_IMPLS else KEY_IMPL
    return KEY_IMPL


def abstract_run_state(recipe: Recipe, members: int, key_impl: str = KEY_IMPL) -> TrainState:
    """Describes the state of a run by shapes and dtypes, with a leading axis of members if there are several."""
    key = jax.random.key(0, impl=key_impl)
    if members == 1:
        return jax.eval_shape(recipe.init, key)
    return jax.eval_shape(lambda: jax.vmap(recipe.init)(jax.random.split(key, members)))


def predict_all(predict: Predict, weights: Weights, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Calls `predict` on images u8[N, H, W, C] in batches, the last one padded.

    Returns:
      N rows of its output, [N, K] or, if it predicts for each of M members, [M, N, K].
    """
    # If there are no images, a batch of padding shows how long a row is.
    padded = images if len(images) else np.zeros((1, *images.shape[1:]), images.dtype)
    rows = [np.asarray(predict(*weights, batch)) for batch in batching.padded_rows(padded, batch_size)]
    return np.concatenate(rows, axis=-2)[..., : len(images), :]


def make_trained_predict(model: Model, tta: TestTimeAugmentation, members: int) -> Predict:
    """Makes the `predict` of a run, not compiled: for one model, or for all members, whose weights have a leading axis.

    Args:
      model: the network.
      tta: as for `Trained.predict`.
      members: how many there are.

    Raises:
      FmnistError: `tta` is not one of its choices.
    """
    if tta not in (known := get_args(TestTimeAugmentation)):
        raise FmnistError(f"tta is {tta!r}: choose one of {', '.join(known)}")
    plain = make_predict(model)
    chosen = make_mirrored_predict(plain) if tta == "mirror" else plain
    return make_ensemble_predict(chosen, members_map(jax.default_backend())) if members > 1 else chosen


@functools.lru_cache(maxsize=8)
def _compiled(model: Model, tta: TestTimeAugmentation, members: int) -> Predict:
    predict = make_trained_predict(model, tta, members)
    return jax.jit(predict, compiler_options=compilation.compiler_options())
