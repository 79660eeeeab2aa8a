"""The learning-rate schedule and the optimiser, composed of optax parts.

Every float of the configuration may be traced, so that a sweep is one `jax.vmap`: a part whose number is a plain 0 is
left out; one whose number is a traced 0 stays and does nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fmnist_jax.config.schema import OptimConfig
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional.muon import orthogonalize_kernels

# Added under Adam's square root: its derivative at a gradient of 0 would be NaN, and so that of the whole training.
_EPS_ROOT = 1e-30


Mask = Callable[[optax.Params], Any]
"""`params -> pytree of bool`, of the same structure: which of the parameters to act on.

Write it with `jax.tree.map`, which skips the `optax.MaskedNode`s that stand for parameters moved by another optimiser.
"""


def has_axes(least: int) -> Mask:
    """Makes the mask of the parameters that have at least `least` axes."""
    return lambda params: jax.tree.map(lambda leaf: leaf.ndim >= least, params)


_KERNELS, _CONVOLUTIONS = has_axes(2), has_axes(3)


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Maps a step in [0, total_steps] to a learning rate.

    The one-cycle schedule is the triangle of Smith 2018 (arXiv:1803.09820) without its momentum cycle. A traced warm-up
    is rounded to whole steps in float32.

    Raises:
      ConfigError: the schedule is not one that `OptimConfig` lists.

    Examples:
      >>> schedule = fj.make_schedule(fj.OptimConfig(peak_lr=0.2, warmup=0.25), total_steps=100)
      >>> [round(float(schedule(step)), 3) for step in (0, 25, 100)]
      [0.0, 0.2, 0.0]
    """
    peak, final = config.peak_lr, config.peak_lr * config.final_lr
    warmup_steps = _round_steps(config.warmup * total_steps)
    match config.schedule:
        case "constant":
            return optax.constant_schedule(peak)
        case "step":
            levels = [optax.constant_schedule(peak * factor) for factor in (1.0, 0.1, 0.01)]
            return optax.join_schedules(levels, [-(-total_steps // 2), -(-total_steps * 3 // 4)])
        case "one_cycle":
            decay = _linear(peak, final, total_steps - warmup_steps)
        case "cosine":
            decay = _cosine(peak, config.final_lr, total_steps - warmup_steps)
        case _:
            raise ConfigError(
                f"the schedule is {config.schedule!r}: choose one_cycle, cosine, constant or step, or pass "
                "an optax schedule to make_optimizer"
            )
    if is_static_zero(warmup_steps):
        return decay
    return optax.join_schedules([_linear(0.0, peak, warmup_steps), decay], [warmup_steps])


def make_optimizer(
    config: OptimConfig,
    schedule: optax.Schedule,
    *,
    decayed: Mask = _KERNELS,
    orthogonal: Mask = _CONVOLUTIONS,
) -> optax.GradientTransformation:
    """Chains clipping, the optimiser's direction, decoupled weight decay and the schedule.

    The defaults suit the networks here, whose kernels are [..., C_in, C_out] and whose norms and biases have one axis.

    Args:
      config: the configuration of the optimiser.
      schedule: the learning rate of each step; with muon that of the kernels, and the other parameters' is the
        schedule times `rest_lr / peak_lr`.
      decayed: which parameters weight decay (Loshchilov & Hutter, arXiv:1711.05101) acts on; by default kernels,
        because norms and biases are to keep their scale.
      orthogonal: which parameters Muon moves, each by `orthogonalize_kernels`; by default convolution kernels, because
        a dense head maps to classes, each of which is to move independently. AdamW moves the others.

    Raises:
      ConfigError: the optimiser is not one that `OptimConfig` lists.
    """
    match config.name:
        case "sgd":
            parts = _momentum_parts(config, schedule, decayed)
        case "adam" | "adamw":
            parts = _adam_parts(config, schedule, decayed)
        case "muon":
            share = config.rest_lr / config.peak_lr
            kernels = _momentum_parts(config, schedule, decayed, orthogonalize_kernels(config.ortho_steps))
            rest = _adam_parts(config, lambda count: share * schedule(count), decayed)
            transforms = {"kernels": optax.chain(*kernels), "rest": optax.chain(*rest)}
            parts = [optax.partition(transforms, lambda params: jax.tree.map(_label, orthogonal(params)))]
        case _:
            raise ConfigError(
                f"the optimiser is {config.name!r}: choose sgd, adam, adamw or muon, or pass an optax "
                "optimiser to make_train_step"
            )
    optimizer = optax.chain(*_clipping(config), *parts)
    momentum: float | Array = config.momentum
    return _with_constant_dtypes(optimizer) if isinstance(momentum, Array) else optimizer


def _with_constant_dtypes(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Keeps the dtypes of the state, which a traced momentum of a wider one would change, as no loop allows."""

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        updates, new_state = optimizer.update(updates, state, params, **extra_args)
        return updates, jax.tree.map(lambda new, old: new.astype(old.dtype), new_state, state)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _label(orthogonal: bool) -> str:
    return "kernels" if orthogonal else "rest"


def _momentum_parts(
    config: OptimConfig, schedule: optax.Schedule, decayed: Mask, *direction: optax.GradientTransformation
) -> list[optax.GradientTransformation]:
    """Nesterov momentum, transformed by `direction` if one is given."""
    momentum = optax.trace(decay=config.momentum, nesterov=True)
    return [momentum, *direction, *_decay(config, decayed), optax.scale_by_learning_rate(schedule)]


def _adam_parts(config: OptimConfig, schedule: optax.Schedule, decayed: Mask) -> list[optax.GradientTransformation]:
    decay = [] if config.name == "adam" else _decay(config, decayed)
    moments = optax.scale_by_adam(b1=config.momentum, eps_root=_EPS_ROOT)
    return [moments, *decay, optax.scale_by_learning_rate(schedule)]


def _clipping(config: OptimConfig) -> list[optax.GradientTransformation]:
    limit: float | Array = config.clip_norm
    if is_static_zero(limit):
        return []
    if isinstance(limit, Array):
        return [optax.stateless(lambda updates, _: _clip_to_traced_norm(updates, limit))]
    return [optax.clip_by_global_norm(limit)]


def _clip_to_traced_norm(updates: Any, limit: Array) -> Any:
    """`optax.clip_by_global_norm`, but also for a traced limit of another dtype; one of 0 clips nothing."""
    norm = optax.tree.norm(updates)
    is_within = (norm < limit) | (limit <= 0)
    # Both are 1 where nothing is clipped, so that no branch that is not taken has an infinite derivative.
    divisor, factor = (jnp.where(is_within, 1, value) for value in (norm, limit))
    return jax.tree.map(lambda leaf: leaf / divisor.astype(leaf.dtype) * factor.astype(leaf.dtype), updates)


def _decay(config: OptimConfig, decayed: Mask) -> list[optax.GradientTransformation]:
    if is_static_zero(config.weight_decay):
        return []
    return [optax.add_decayed_weights(config.weight_decay, mask=decayed)]


def _round_steps(steps: float | Array) -> int | Array:
    return jnp.round(steps).astype(jnp.int32) if isinstance(steps, Array) else round(steps)


def _linear(start: float, end: float, steps: int | Array) -> optax.Schedule:
    """`optax.linear_schedule`, but also for a traced number of steps, which optax's own compares with 0."""
    if isinstance(steps, int):
        return optax.linear_schedule(start, end, steps)
    return lambda count: start + (end - start) * jnp.where(steps > 0, _progress(count, steps), 0.0)


def _cosine(peak: float, final_share: float, steps: int | Array) -> optax.Schedule:
    """`optax.cosine_decay_schedule`, but also for a traced number of steps and where promotion is strict."""
    return lambda count: peak * (final_share + (1 - final_share) * (1 + jnp.cos(jnp.pi * _progress(count, steps))) / 2)


def _progress(count: Array | int, steps: int | Array) -> Array:
    return jnp.clip(count / jnp.maximum(steps, 1), 0.0, 1.0)
