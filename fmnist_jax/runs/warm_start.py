"""Starting a run from the weights of another: which run, which of its weights fit, and the record of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fmnist_jax.config.schema import Config
from fmnist_jax.errors import CheckpointError, ConfigError, FmnistError, abbreviated
from fmnist_jax.functional.recipe import MakeRecipe, Recipe, make_recipe
from fmnist_jax.functional.state import Weights
from fmnist_jax.functional.transfer import frozen_parameters, transfer
from fmnist_jax.runs import checkpoint, own_recipe, recipe_record
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.directory import read_config, read_json
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.selection import choose_step
from fmnist_jax.runs.trained import load_trained

TRANSFER_FILE = "transfer.json"


class RunSetup(NamedTuple):
    """What a run trains, and what it took over from another run."""

    recipe: Recipe
    record: Mapping[str, Any] | None
    """JSON values that say where the weights come from and what became of each module; None without another run."""
    resumes: bool = False
    """Whether the recipe leaves out those weights, because the run has a checkpoint to resume from."""
    custom_recipe: str | None = None
    """The name of the function that composed it in place of `make_recipe`."""
    custom_network: bool = False
    """Whether that function gave it a network other than the one that the configuration describes."""


def refuse_unusable(config: Config, directory: Path, *, resumes: bool) -> None:
    """Checks, before any data are loaded, that a run can start from the one that its configuration names.

    Args:
      config: the configuration of the run.
      directory: the run directory, made or not.
      resumes: whether the run resumes from a checkpoint of its own, and no longer needs the other run.

    Raises:
      FmnistError: the other run does not exist, is this one, is a population, or has no checkpoint.
    """
    run = config.init.source
    if run is None or resumes:
        return
    if os.path.realpath(run) == os.path.realpath(directory):
        raise ConfigError(f"--init.from is {run}, the directory of this run itself: choose another --run.dir")
    if (started := read_config(run)) is None:
        raise ConfigError(f"--init.from is {run}, which has no config.json: give a run directory")
    if started.population.seeds > 1:
        raise ConfigError(f"--init.from is {run}, a population of {started.population.seeds}: give a run of one model")
    choose_step(run / "checkpoints", "latest")


def make_setup(
    config: Config,
    directory: Path,
    dataset: DatasetRecord,
    *,
    resumes: bool,
    make_recipe: MakeRecipe = make_recipe,
) -> RunSetup:
    """Composes the recipe of a run with the weights that it starts from.

    Args:
      config: the configuration of the run.
      directory: the run directory, made or not.
      dataset: describes what it is trained on.
      resumes: whether the run resumes from a checkpoint of its own, and no longer needs the other run.
      make_recipe: composes the recipe.

    Raises:
      FmnistError: the other run is damaged or has nothing that fits, or `init.freeze` matches no parameter or all.
    """
    shape, classes = dataset.image_shape, dataset.num_classes
    recipe = make_recipe(config, image_shape=shape, num_classes=classes)
    custom_name = recipe_record.custom_recipe_name(make_recipe)
    custom_network = custom_name is not None and own_recipe.has_custom_network(recipe.model, config, dataset)
    setup = RunSetup(recipe, None, custom_recipe=custom_name, custom_network=custom_network)
    if config.init.source is None:
        return setup
    if resumes:
        return setup._replace(record=read_json(directory / TRANSFER_FILE), resumes=True)
    weights, source_record = _load_source(config.init.source, make_recipe)
    params, batch_stats = jax.eval_shape(lambda: recipe.model.init(jax.random.key(0)))
    _, _, report = transfer(params, batch_stats, *weights)
    if not report.taken:
        raise ConfigError(
            f"--init.from is {config.init.source}, no module of which fits the network of this run: "
            f"give that run's --model.family, --model.widths and --model.depths"
        )
    frozen = () if config.init.freeze is None else frozen_parameters(config.init.freeze, params)
    record = {**source_record, **report._asdict(), "frozen": frozen}
    warm_recipe = make_recipe(config, image_shape=shape, num_classes=classes, source=weights)
    if custom_name is not None:
        own_recipe.refuse_unused_source(recipe, warm_recipe, custom_name)
    return setup._replace(recipe=warm_recipe, record=record)


def _load_source(run: Path, make_recipe: MakeRecipe) -> tuple[Weights, dict[str, Any]]:
    """The weights that the newest checkpoint of a run is scored with, and a record of where they come from."""
    source_recipe = recipe_record.recorded_name(run)
    if recipe_record.custom_recipe_name(make_recipe) is None and recipe_record.has_custom_network(run):
        raise CheckpointError(
            f"--init.from is {run}, whose network its configuration does not describe, from "
            f"make_recipe={source_recipe}: give that function to fmnist_jax.run(config, make_recipe=...)"
        )
    try:
        model = load_trained(run) if source_recipe is None else load_trained(run, make_recipe=make_recipe)
    except FmnistError as error:
        raise type(error)(f"--init.from: {error}") from error
    weights = jax.device_get(model.weights)
    return weights, {"source": str(run.absolute()), "step": model.step, "digest": state_digest(weights)}


def refuse_lost_checkpoints(setup: RunSetup, directory: Path) -> None:
    """Checks, once damaged checkpoints are out of the way, that a run to be resumed has an intact one left.

    Raises:
      CheckpointError: it has none, and would start from other weights than it did before.
    """
    if setup.resumes and not checkpoint.steps(directory / "checkpoints"):
        raise CheckpointError(
            f"{directory} has no intact checkpoint left to resume from: start again with the same command, or another "
            f"--run.dir"
        )


def to_text(record: Mapping[str, Any]) -> str:
    """Says in a line or two which modules were taken, which were not, and which parameters stay frozen."""
    taken, fresh, unused, frozen = (record[name] for name in ("taken", "fresh", "unused", "frozen"))
    lines = [
        f"{len(taken)} of {len(taken) + len(fresh)} modules start from step {record['step']} of {record['source']}; "
        f"{abbreviated(fresh)} afresh{f'; not used: {abbreviated(unused)}' if unused else ''}"
    ]
    if frozen:
        lines.append(f"frozen parameters, {len(frozen)}: {abbreviated(frozen)}")
    return "\n".join(lines)
