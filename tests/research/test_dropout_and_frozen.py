"""Dropout in evaluation, and frozen layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import fmnist_jax as fj


def test_monte_carlo_dropout_spreads_around_the_deterministic_logits(batch: fj.Batch, key: Array) -> None:
    model = fj.make_model(fj.ModelConfig(family="plain", widths=(4, 4), depths=(1, 1), dropout=0.5))
    params, batch_stats = jax.jit(model.init)(key)
    images = fj.normalize(jnp.asarray(batch.images))

    def sample_logits(key: Array) -> Array:
        return model.apply(params, batch_stats, images, train=False, key=key)[0]

    logits = jax.jit(jax.vmap(sample_logits))(jax.random.split(key, 200))
    deterministic, _ = model.apply(params, batch_stats, images, train=False)
    assert logits.std(0).min() > 0
    np.testing.assert_allclose(logits.mean(0), deterministic, atol=0.3)


def test_frozen_backbone_keeps_its_weights_and_statistics(batch: fj.Batch, key: Array) -> None:
    config = fj.ModelConfig(widths=(4, 4), depths=(1, 1))
    model = fj.make_model(config, frozen=lambda path: path.startswith("ResidualBlock"))
    optimizer = optax.multi_transform(
        {"frozen": optax.set_to_zero(), "trained": optax.sgd(0.1)},
        lambda params: {name: "frozen" if name.startswith("Residual") else "trained" for name in params},
    )
    before = fj.init_state(model, optimizer, key)
    after, _ = jax.jit(fj.make_train_step(model, optimizer))(before, batch)
    for old, new in ((before.params, after.params), (before.batch_stats, after.batch_stats)):
        jax.tree.map(np.testing.assert_array_equal, new["ResidualBlock_1"], old["ResidualBlock_1"])
    assert (after.batch_stats["BatchNorm_0"]["mean"] != before.batch_stats["BatchNorm_0"]["mean"]).any()
    assert (after.params["Dense_0"]["kernel"] != before.params["Dense_0"]["kernel"]).any()
