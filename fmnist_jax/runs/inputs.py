"""What a run trains with: loaded and checked before its directory is made; in one process or several."""

from pathlib import Path
from typing import NamedTuple

import jax

from fmnist_jax.config.schema import Config
from fmnist_jax.config.validation import check_pixels, validate
from fmnist_jax.data.dataset import Splits, digest, load
from fmnist_jax.data.resolution import resolve
from fmnist_jax.functional.keys import root_key
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import MakeRecipe, Recipe, make_recipe
from fmnist_jax.runs import agreement, checkpoint, dataset_record, own_recipe, parallel, probe, processes, warm_start
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.parallel import Layout
from fmnist_jax.runs.warm_start import RunSetup
from fmnist_jax.system.compilation import explain_out_of_memory

_CHECKPOINTS_ON_DISK = 4  # the two latest, the best, and one being written
_OTHER_FILES_BYTES = 20_000_000  # logs, figures and predictions


class Inputs(NamedTuple):
    """What a run trains with, the same in each process."""

    config: Config
    """With the number of images, once they have been counted."""
    splits: Splits
    dataset: DatasetRecord
    dataset_digest: str
    train_data: Batch
    """All training images, on each device."""
    layout: Layout
    setup: RunSetup


def load_inputs(
    config: Config,
    path: Path,
    layout: Layout,
    user_splits: Splits | None = None,
    make_recipe: MakeRecipe = make_recipe,
    *,
    resumes: bool = False,
) -> Inputs:
    """Loads the images, composes the recipe, and checks what can be checked before the run directory is made.

    Args:
      config: the configuration of the run.
      path: the run directory, made or not.
      layout: the devices.
      user_splits: data to use instead of the data set named in the configuration.
      make_recipe: composes the recipe to train.
      resumes: whether the run resumes from a checkpoint of its own.

    Raises:
      FmnistError: the run cannot be trained; nothing has been written.
    """
    processes.run_on_first(lambda: _refuse_unusable(config, path, resumes=resumes))
    splits = processes.run_on_all(lambda: load(config.data) if user_splits is None else user_splits)
    dataset_digest = digest(splits)
    agreement.refuse_disagreement("images", dataset_digest, "data set")
    config = resolve(config, splits)
    validate(config)
    dataset = dataset_record.describe(splits.train)
    if not resumes:
        check_pixels(config.augment, dataset.image_shape)
    setup = processes.run_on_all(
        lambda: warm_start.make_setup(config, path, dataset, resumes=resumes, make_recipe=make_recipe)
    )
    if setup.record is not None and not resumes:
        agreement.refuse_disagreement("weights to start from", setup.record["digest"], "--init.from")
    processes.run_on_first(lambda: _refuse_full_disk(RunDirectory(path), setup.recipe, config.population.seeds))
    with explain_out_of_memory("free it of other processes, or set JAX_PLATFORMS to another"):
        images = Batch(splits.train.images, splits.train.labels)
        train_data = jax.block_until_ready(parallel.place(images, layout.replicated))
    if setup.custom_recipe is not None:
        own_recipe.refuse_unfit(
            setup.recipe, setup.custom_recipe, config, layout, train_data, num_classes=dataset.num_classes
        )
    return Inputs(config, splits, dataset, dataset_digest, train_data, layout, setup)


def _refuse_unusable(config: Config, path: Path, *, resumes: bool) -> None:
    """Checks, before any data are loaded, that a run can be written there, and can start from the one it names."""
    directory = RunDirectory(path)
    directory.refuse_full_disk(_OTHER_FILES_BYTES)
    probe.refuse_unusable(directory.checkpoints)
    warm_start.refuse_unusable(config, path, resumes=resumes)


def _refuse_full_disk(directory: RunDirectory, recipe: Recipe, members: int) -> None:
    """Checks that there is room for the checkpoints that the run will have besides those that it has."""
    leaves = jax.tree.leaves(jax.eval_shape(recipe.init, root_key(0)))
    state_bytes = members * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    to_write = max(1, _CHECKPOINTS_ON_DISK - len(checkpoint.steps(directory.checkpoints)))
    directory.refuse_full_disk(to_write * state_bytes + _OTHER_FILES_BYTES)
