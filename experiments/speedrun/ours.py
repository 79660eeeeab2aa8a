"""This project's side of the speedrun: the whole training as one compiled loop over data on the device."""

import time

import jax
import jax.numpy as jnp

from experiments.speedrun.entrant import Entrant
from fmnist_jax import (
    FOR_ONE_CALL,
    Batch,
    Config,
    Weights,
    compiler_options,
    evaluate_batches,
    load,
    make_eval_step,
    make_mirrored_predict,
    make_predict,
    make_recipe,
    make_train_chunk,
    padded_batches,
    summarize,
    weights_to_score,
)

_WARM_UP_STEPS = 3


def prepare(config: Config) -> Entrant:
    """Puts the data on the device, compiles, and takes a few warm-up steps."""
    images, validation, test = load(config.data)
    scored_data = validation if len(validation) else test
    recipe = make_recipe(config, image_shape=images.image_shape, num_classes=images.num_classes)
    data = jax.block_until_ready(jax.device_put(Batch(images.images, images.labels)))
    chunk_fn = make_train_chunk(recipe.step, config.train.batch_size, config.total_steps, sample=recipe.sample)
    start = time.perf_counter()
    init = jax.jit(recipe.init, compiler_options=dict(FOR_ONE_CALL)).lower(jax.random.key(0)).compile()
    jitted_chunk = jax.jit(chunk_fn, donate_argnums=0, compiler_options=compiler_options())
    chunk = jitted_chunk.lower(init(jax.random.key(0)), data, jnp.int32(0)).compile()
    compile_seconds = time.perf_counter() - start

    def train_from_seed(seed: int, steps: int) -> Weights:
        state, _ = chunk(init(jax.random.key(seed)), data, jnp.int32(steps))
        return jax.block_until_ready(weights_to_score(state))

    predict = make_predict(recipe.model)
    scored_predict = make_mirrored_predict(predict) if config.train.eval_mirror else predict
    eval_step = jax.jit(make_eval_step(scored_predict), compiler_options=compiler_options())

    def accuracy(weights: Weights) -> float:
        batches = padded_batches(scored_data, config.train.eval_batch_size)
        return summarize(evaluate_batches(eval_step, *weights, batches)).accuracy

    train_from_seed(0, min(_WARM_UP_STEPS, config.total_steps))
    return Entrant(lambda seed: train_from_seed(seed, config.total_steps), accuracy, compile_seconds, {})
