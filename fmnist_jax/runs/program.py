"""The compiled functions of a run, for one model or many, on one device or many."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from fmnist_jax.config.schema import Config
from fmnist_jax.data.batching import padded_batches, stacked_batches
from fmnist_jax.data.dataset import Splits
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import EvalStep, Evaluate, Predict, make_eval_step, make_evaluate, make_predict
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.keys import root_key
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.parallel import (
    make_parallel_chunk,
    make_parallel_eval_step,
    make_parallel_predict,
    over_mesh,
)
from fmnist_jax.functional.population import members_map
from fmnist_jax.functional.recipe import Recipe
from fmnist_jax.functional.state import TrainState, Weights
from fmnist_jax.functional.train_step import TrainChunk, make_train_chunk
from fmnist_jax.runs.parallel import Layout, place
from fmnist_jax.system.compilation import FOR_ONE_CALL, compiler_options


class StepFunctions(NamedTuple):
    """The functions to compile: for one model, or with a leading axis of members."""

    chunk: TrainChunk
    eval_step: EvalStep
    predict: Predict


class Program(NamedTuple):
    """Everything that a run computes with."""

    learning_rates: np.ndarray
    """f32[total_steps]."""
    chunk: TrainChunk
    validate: Callable[[Weights], Any] | None
    """Metrics on the validation images; None if there are no such images."""
    predict: Predict
    """Logits, on every process."""
    compile_seconds: float


def make_step_functions(recipe: Recipe, config: Config, mesh: Mesh) -> StepFunctions:
    """Composes the functions of a run, without compiling them.

    Args:
      recipe: the recipe of one model.
      config: gives the axis, the number of members, the batch size and the longest chunk.
      mesh: has one axis: `data`, over which the rows of each batch are spread, or `member`.
    """
    batch_size, max_steps = config.train.batch_size, config.run.log_every
    predict = make_predict(recipe.model)
    eval_step = make_eval_step(predict)
    if config.parallel.axis == "data":
        chunk = make_parallel_chunk(recipe.step, batch_size, max_steps, mesh, sample=recipe.sample)
        parts = StepFunctions(chunk, make_parallel_eval_step(eval_step, mesh), make_parallel_predict(predict, mesh))
        return parts if config.population.seeds == 1 else _map_over_members(parts)
    chunk = make_train_chunk(recipe.step, batch_size, max_steps, sample=recipe.sample)
    parts = _map_over_members(StepFunctions(chunk, eval_step, predict))
    own, shared = PartitionSpec("member"), PartitionSpec()
    return StepFunctions(
        over_mesh(parts.chunk, mesh, (own, shared, shared), own),
        over_mesh(parts.eval_step, mesh, (own, own, shared), own),
        over_mesh(parts.predict, mesh, (own, own, shared), own),
    )


def _map_over_members(one: StepFunctions) -> StepFunctions:
    """Maps the functions of one model over members."""
    over_members = members_map(jax.default_backend())
    return StepFunctions(
        over_members(one.chunk, (0, None, None)),
        over_members(one.eval_step, (0, 0, None)),
        over_members(one.predict, (0, 0, None)),
    )


def prepare(
    recipe: Recipe, config: Config, layout: Layout, train_data: Batch, splits: Splits
) -> tuple[TrainState, Program]:
    """Initialises the state and compiles the functions of a run.

    Args:
      recipe: what to train.
      config: the configuration of the run.
      layout: the devices.
      train_data: all training images, on every device.
      splits: the data, whose validation and test images are evaluated.
    """
    parts = make_step_functions(recipe, config, layout.mesh)
    start = time.perf_counter()
    eval_batch_size = layout.padded_batch_size(config.train.eval_batch_size)
    images = place(next(padded_batches(splits.test, eval_batch_size)).images, layout.batch_sharding)
    state = place(_initial_state(recipe, config), layout.member_sharding)
    weights = weights_to_score(state)
    options = compiler_options()
    chunk = jax.jit(parts.chunk, donate_argnums=0, out_shardings=(layout.member_sharding, layout.replicated))
    evaluate = jax.jit(make_evaluate(parts.eval_step), out_shardings=layout.replicated)
    predict = jax.jit(parts.predict, out_shardings=layout.replicated)
    steps = place(np.int32(0), layout.replicated)
    # All computed now, because a computation in the loop would wait for the running chunk.
    learning_rates = np.asarray(jax.vmap(recipe.schedule)(np.arange(config.total_steps)))
    compiled_chunk = _with_steps_placed(chunk.lower(state, train_data, steps).compile(options), layout)
    compiled_predict = _with_images_placed(predict.lower(*weights, images).compile(options), layout)
    validate = None
    if len(splits.validation):
        batches = place(stacked_batches(splits.validation, eval_batch_size), layout.stacked_batch_sharding)
        validate = _with_batches(evaluate.lower(*weights, batches).compile(options), batches)
    return state, Program(learning_rates, compiled_chunk, validate, compiled_predict, time.perf_counter() - start)


def _initial_state(recipe: Recipe, config: Config) -> TrainState:
    """The state before the first step; members are initialised one by one, so that each starts as it would alone."""
    keys = [root_key(config.train.seed + member) for member in range(config.population.seeds)]
    init = jax.jit(recipe.init).lower(keys[0]).compile(compiler_options={**FOR_ONE_CALL})
    states = [init(key) for key in keys]
    return states[0] if len(states) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _with_steps_placed(chunk: TrainChunk, layout: Layout) -> TrainChunk:
    def placed(state: TrainState, data: Batch, num_steps: Array | np.integer[Any]) -> tuple[TrainState, Any]:
        return chunk(state, data, place(num_steps, layout.replicated))

    return placed


def _with_batches(evaluate: Evaluate, batches: Batch) -> Callable[[Weights], Any]:
    return lambda weights: evaluate(*weights, batches)


def _with_images_placed(predict: Predict, layout: Layout) -> Predict:
    def placed(params: Params, batch_stats: BatchStats, images: Array | np.ndarray) -> Array:
        return predict(params, batch_stats, place(images, layout.batch_sharding))

    return placed
