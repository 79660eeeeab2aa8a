"""The learning-rate schedule and the optimiser, composed of optax parts."""

import jax
import optax

from fmnist_jax.config.schema import OptimConfig


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Maps a step in [0, total_steps] to a learning rate.

    The one-cycle schedule is the triangle of Smith 2018 (arXiv:1803.09820) without its momentum cycle.
    """
    peak, final = config.peak_lr, config.peak_lr * config.final_lr
    warmup_steps = round(config.warmup * total_steps)
    match config.schedule:
        case "constant":
            return optax.constant_schedule(peak)
        case "step":
            stairs = [optax.constant_schedule(peak * factor) for factor in (1.0, 0.1, 0.01)]
            return optax.join_schedules(stairs, [total_steps // 2, total_steps * 3 // 4])
        case "one_cycle":
            fall = optax.linear_schedule(peak, final, total_steps - warmup_steps)
        case "cosine":
            fall = optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1), alpha=config.final_lr)
    if not warmup_steps:
        return fall
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), fall], [warmup_steps])


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Chains clipping, the optimiser's direction, decoupled weight decay and the schedule.

    Weight decay (Loshchilov & Hutter, arXiv:1711.05101) acts on kernels alone: norms and biases keep
    their scale.
    """
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.name == "sgd":
        parts.append(optax.trace(decay=config.momentum, nesterov=True))
    else:
        parts.append(optax.scale_by_adam(b1=config.momentum))
    if config.weight_decay and config.name != "adam":
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=_is_kernel))
    parts.append(optax.scale_by_learning_rate(schedule))
    return optax.chain(*parts)


def _is_kernel(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
