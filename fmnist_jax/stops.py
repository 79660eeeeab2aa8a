"""Where a run stops to log, evaluate and save: a pure function of its configuration and the step."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from fmnist_jax.config import Config


class Stop(NamedTuple):
    """Where a chunk of training ends, and what happens there."""

    step: int
    evaluate: bool
    save: bool


def stops(config: Config, start: int) -> Iterator[Stop]:
    """Divides a run into chunks that end at fixed steps, so that a resumed run divides it alike.

    Args:
      config: of the run.
      start: steps already taken.

    Yields:
      The stops after `start`, the last of them at `config.total_steps`.
    """
    train, log_every, save_every = config.train, config.run.log_every, config.run.checkpoint_every
    epochs = range(train.eval_every, train.epochs + 1, train.eval_every)
    eval_steps = {ceil(epoch * config.data.train_size / train.batch_size) for epoch in epochs} | {config.total_steps}
    step = start
    while step < config.total_steps:
        end = min((step // log_every + 1) * log_every, *(at for at in eval_steps if at > step))
        evaluate = end in eval_steps and config.data.validation_size > 0
        yield Stop(end, evaluate, save=end in eval_steps or end // save_every > step // save_every)
        step = end
