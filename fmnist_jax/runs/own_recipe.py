"""Checks on user-supplied recipes: whether a run can train one, and whether its network is user-supplied, too."""

from typing import Any

import jax
import numpy as np

from fmnist_jax.config.schema import Config
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional.eval_step import make_predict
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import Metrics
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import Recipe
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.parallel import Layout
from fmnist_jax.runs.program import make_step_functions
from fmnist_jax.runs.trained import abstract_run_state
from fmnist_jax.system import output

_HOW_TO_REPLACE = "pass it as `fmnist_jax.make_recipe(config, {0}=...)`, or also replace what is made from it"


def refuse_unfit(
    recipe: Recipe, name: str, config: Config, layout: Layout, train_data: Batch, *, num_classes: int
) -> None:
    """Checks by shapes, before anything is compiled or written, that a run can train and score a recipe.

    Args:
      recipe: the recipe that a user-supplied function has composed.
      name: the name of that function.
      config: the configuration of the run.
      layout: the devices.
      train_data: all training images.
      num_classes: the number of classes in the data set.

    Raises:
      ConfigError: it cannot; the message says why. Errors in the recipe's own code propagate unchanged.
    """
    state = jax.eval_shape(recipe.init, jax.random.key(0))
    params, batch_stats = jax.eval_shape(recipe.model.init, jax.random.key(0))
    if _signature((state.params, state.batch_stats)) != _signature((params, batch_stats)):
        raise ConfigError(
            f"{name}: its init creates different weights from its model's: {_HOW_TO_REPLACE.format('model')}"
        )
    if _signature(state.opt_state) != _signature(jax.eval_shape(recipe.optimizer.init, state.params)):
        replaced = _HOW_TO_REPLACE.format("optimizer")
        output.warn(
            f"note: {name}: its init sets up the state of a different optimiser from its own, which is ignored: "
            f"{replaced}"
        )
    parts = make_step_functions(recipe, config, layout.mesh)
    states = abstract_run_state(recipe, config.population.seeds)
    rows = layout.padded_batch_size(config.train.eval_batch_size)
    images = jax.ShapeDtypeStruct((rows, *train_data.images.shape[1:]), np.uint8)
    logits = jax.eval_shape(parts.predict, states.params, states.batch_stats, images)
    leaves = jax.tree.leaves(logits)
    if [leaf.shape[-2:] for leaf in leaves] != [(rows, num_classes)] or leaves[0].dtype == "bfloat16":
        shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
        raise ConfigError(f"{name}: its model's logits are {shapes}: expected float32[{rows}, {num_classes}]")
    try:
        _, metrics = jax.eval_shape(parts.chunk, states, train_data, np.int32(0))
    except (TypeError, ValueError) as error:
        if not any(words in str(error) for words in ("out_specs", "manual axis types")):
            raise
        raise ConfigError(
            f"{name}: its step leaves different values on each device, such as statistics of its own rows: normalise "
            f"with fmnist_jax.batch_norm, average over the axis {config.parallel.axis}, or choose --parallel.devices 1"
        ) from error
    if not isinstance(metrics, Metrics):
        raise ConfigError(
            f"{name}: its step returns {type(metrics).__name__}: expected fmnist_jax.Metrics, which a run logs"
        )


def _signature(tree: Any) -> Any:
    """A pytree's structure, with the shape and dtype of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def refuse_unused_source(baseline: Recipe, recipe: Recipe, name: str) -> None:
    """Checks that a recipe uses the weights that it was given to start from.

    Args:
      baseline: the recipe that the function composes without them.
      recipe: the one that it composes with them.
      name: the name of that function.

    Raises:
      ConfigError: both start from the same weights.
    """
    both = [jax.jit(each.init)(jax.random.key(0)) for each in (baseline, recipe)]
    if jax.tree.all(jax.tree.map(np.array_equal, *((state.params, state.batch_stats) for state in both))):
        raise ConfigError(
            f"{name}: it starts from the same weights with and without --init.from: pass source= on to "
            f"fmnist_jax.make_recipe with the model, or make that with fmnist_jax.start_from(model, source)"
        )


def has_custom_network(model: Model, config: Config, dataset: DatasetRecord) -> bool:
    """Whether a model's weights have other shapes than the configuration's, or it predicts by another program."""
    try:
        reference = make_model(config.model, image_shape=dataset.image_shape, num_classes=dataset.num_classes)
    except ConfigError:
        return True
    images = jax.ShapeDtypeStruct((config.train.eval_batch_size, *dataset.image_shape), np.uint8)
    weights = [jax.eval_shape(each.init, jax.random.key(0)) for each in (model, reference)]
    if _signature(tuple(weights[0])) != _signature(tuple(weights[1])):
        return True
    programs = [jax.jit(make_predict(each)).lower(*weights[1], images).as_text() for each in (model, reference)]
    return programs[0] != programs[1]
