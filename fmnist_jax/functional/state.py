"""The state of training: arrays only, so that it can be jitted, mapped, donated, sharded and saved."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from fmnist_jax.functional.interface import BatchStats, Model, Params


class Weights(NamedTuple):
    """The arrays that a model computes with."""

    params: Params
    batch_stats: BatchStats


@struct.dataclass
class TrainState:
    """Everything that a training step reads and writes."""

    step: Array
    """i32[]: steps taken."""
    params: Params
    batch_stats: BatchStats
    opt_state: optax.OptState
    key: Array
    """The root key of the run, a constant: a step derives its own keys from it and the step number."""
    averages: Weights | None = None
    """The average of the weights over the steps, if one is kept."""


def init_state(model: Model, optimizer: optax.GradientTransformation, key: Array) -> TrainState:
    """Initialises the state before the first step; pure, so `jax.vmap` over keys makes many at once.

    Examples:
      >>> def init(key):
      ...     return {"kernel": jax.random.normal(key, (784, 10)) / 28}, {}
      >>> def apply(params, batch_stats, images, *, train, key=None):
      ...     return images.reshape(len(images), -1) @ params["kernel"], batch_stats
      >>> linear, sgd = fj.Model(init, apply), optax.sgd(0.1)
      >>> states = jax.vmap(lambda key: fj.init_state(linear, sgd, key))(jax.random.split(jax.random.key(0), 8))
      >>> states.params["kernel"].shape, states.step.shape
      ((8, 784, 10), (8,))
    """
    init_key, root_key = jax.random.split(key)
    params, batch_stats = model.init(init_key)
    # Some optimisers (`optax.contrib.prodigy`) keep the arrays they are given, and no buffer can be donated twice.
    opt_state = optimizer.init(jax.tree.map(jnp.copy, params))
    return TrainState(jnp.int32(0), params, batch_stats, opt_state, root_key)


def abstract_state(model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """Describes the state by shapes and dtypes alone (`jax.ShapeDtypeStruct`), computing nothing."""
    return jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0)))


def param_count(params: Params) -> int:
    """Counts the trainable numbers.

    Examples:
      >>> fj.param_count({"kernel": np.zeros((784, 10)), "bias": np.zeros(10)})
      7850
    """
    return sum(leaf.size for leaf in jax.tree.leaves(params))
