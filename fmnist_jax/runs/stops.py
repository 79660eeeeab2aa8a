"""Where a run stops to log, evaluate and save: a pure function of the step."""

from collections.abc import Collection, Iterator
from typing import NamedTuple


class Stop(NamedTuple):
    """Where a chunk of training ends, and what happens there."""

    step: int
    evaluate: bool
    save: bool


def stops(
    start: int, total_steps: int, eval_steps: Collection[int], *, log_every: int, save_every: int
) -> Iterator[Stop]:
    """Divides a run into chunks that end at fixed steps, so that a resumed run is divided in the same way.

    Args:
      start: steps already taken.
      total_steps: of the whole run.
      eval_steps: where to evaluate and save, besides the last step.
      log_every: the most steps in a chunk.
      save_every: steps between the other saves, each at the end of a chunk.

    Yields:
      The stops after `start`, the last of them at `total_steps`.
    """
    fixed_steps = {*eval_steps, total_steps}
    step = start
    while step < total_steps:
        end = min((step // log_every + 1) * log_every, *(later for later in fixed_steps if later > step))
        yield Stop(end, evaluate=end in fixed_steps, save=end in fixed_steps or end // save_every > step // save_every)
        step = end
