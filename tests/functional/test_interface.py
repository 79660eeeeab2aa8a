"""The interface of a model: any pair of functions will do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from fmnist_jax import Batch, init_state, make_model, make_train_step
from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.interface import BatchStats, Model, Params


def test_model_wrapping_another_trains_like_the_inner_one_on_transformed_images(batch: Batch, key: Array) -> None:
    inner = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,)))

    def apply(
        params: Params, batch_stats: BatchStats, images: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Array, BatchStats]:
        logits, new_stats = inner.apply(params, batch_stats, 1.0 - images, train=train, key=key)
        return logits, new_stats

    optimizer = optax.sgd(0.1)
    inverted = batch._replace(images=255 - np.asarray(batch.images))
    compiled_init = jax.jit(init_state, static_argnums=(0, 1))
    states = []
    for model, data in ((Model(inner.init, apply), batch), (inner, inverted)):
        step = jax.jit(make_train_step(model, optimizer))
        states.append(step(compiled_init(model, optimizer, key), data)[0])
    for ours, theirs in zip(*(jax.tree.leaves(state.params) for state in states), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    before = compiled_init(inner, optimizer, key)
    assert jnp.any(states[0].params["Conv_0"]["kernel"] != before.params["Conv_0"]["kernel"])
