"""The compiled functions of a run, and what they work on."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fmnist_jax.config.schema import TrainConfig
from fmnist_jax.data.dataset import Dataset, padded_batches
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import EvalStep, Predict, make_eval_step, make_predict
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import Recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import TrainChunk, make_train_chunk
from fmnist_jax.system.compilation import FOR_ONE_CALL, compiler_options


class Program(NamedTuple):
    """What a run computes with."""

    learning_rates: np.ndarray
    """f32[total_steps]."""
    chunk: TrainChunk
    eval_step: EvalStep
    predict: Predict
    compile_seconds: float


def prepare(
    recipe: Recipe, train_data: Batch, test: Dataset, train: TrainConfig, *, max_steps: int, total_steps: int
) -> tuple[TrainState, Program]:
    """Initialises the state, and compiles.

    Args:
      recipe: what to train.
      train_data: all training images, on the device.
      test: what is evaluated.
      train: batch sizes and seed.
      max_steps: the longest chunk.
      total_steps: of the run.
    """
    chunk = make_train_chunk(recipe.step, train.batch_size, max_steps, sample=recipe.sample)
    predict = make_predict(recipe.model)
    start = time.perf_counter()
    key = jax.random.key(train.seed)
    eval_batch = next(padded_batches(test, train.eval_batch_size))
    init = jax.jit(recipe.init).lower(key)
    state = init.compile(compiler_options={**FOR_ONE_CALL})(key)
    weights = weights_to_score(state)
    for_training, for_evaluation = compiler_options("training"), compiler_options("evaluation")
    program = Program(
        # All of them now, because a computation in the loop would wait for the chunk that is running.
        learning_rates=np.asarray(jax.vmap(recipe.schedule)(np.arange(total_steps))),
        chunk=jax.jit(chunk, donate_argnums=0).lower(state, train_data, jnp.int32(0)).compile(for_training),
        eval_step=jax.jit(make_eval_step(predict)).lower(*weights, eval_batch).compile(for_evaluation),
        predict=jax.jit(predict).lower(*weights, eval_batch.images).compile(for_evaluation),
        compile_seconds=0.0,
    )
    return state, program._replace(compile_seconds=time.perf_counter() - start)
