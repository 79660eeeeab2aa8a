"""The training loop: compiled chunks, one after another, with logging, evaluation and saving at their ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from fmnist_jax.config.schema import Config
from fmnist_jax.functional import metrics
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import checkpoint, display, interruption, numbering, parallel, processes, tensorboard_log
from fmnist_jax.runs.command_lines import how_to_resume
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.inputs import Inputs
from fmnist_jax.runs.metrics_log import MetricsLog
from fmnist_jax.runs.program import Program
from fmnist_jax.runs.stops import Stop, stops
from fmnist_jax.runs.voting import Vote


@dataclass(frozen=True)
class Session:
    """Everything that one start of a run works with, besides the state."""

    inputs: Inputs
    directory: RunDirectory
    stop_request: interruption.StopRequest


def planned_stops(config: Config, start: int) -> Iterator[Stop]:
    """Where the chunks of a run end, from a given step on."""
    train, run = config.train, config.run
    eval_epochs = range(train.eval_every, train.epochs + 1, train.eval_every)
    return stops(
        start,
        config.total_steps,
        [config.steps(epoch) for epoch in eval_epochs],
        log_every=run.log_every,
        save_every=run.checkpoint_every,
    )


def steps_taken(state: TrainState, layout: parallel.Layout) -> int:
    """The number of steps that a model, or each member of a population, has taken."""
    return int(np.max(jax.device_get(parallel.gather(state.step, layout))))


def train(
    session: Session,
    program: Program,
    state: TrainState,
    writer: checkpoint.Writer | None,
    origin: Mapping[str, Any],
) -> TrainState:
    """Runs the chunks; logs, evaluates and saves at their ends. When this returns, the last state is on the disk.

    Args:
      session: what this start of the run works with.
      program: the compiled functions.
      state: the state to start from.
      writer: saves checkpoints, in the first process; None in the others, which log nothing either.
      origin: JSON values that say where the state comes from, kept with each checkpoint.

    Raises:
      InterruptionError: a signal asked the run to stop, and the state has been saved.
      CheckpointError: the last state cannot be saved.
    """
    inputs = session.inputs
    config, layout = inputs.config, inputs.layout
    step = steps_taken(state, layout)
    vote = Vote(layout, session.stop_request)
    stop_signal = None
    # Transfers between host and device in the loop must be explicit (device_put, device_get); others are errors.
    with _log(session, program, step, writer) as log, jax.transfer_guard("disallow"):
        for stop in planned_stops(config, step):
            start_time = time.perf_counter()
            state, rows = program.chunk(state, inputs.train_data, np.int32(stop.step - step))
            # The previous chunk's metrics are awaited and read while this one runs, so the device never waits.
            log.add_chunk(step, stop.step, rows, start_time)
            step = stop.step
            stop_signal = vote.poll()
            if not stop.save and not stop_signal:
                continue
            log.flush()
            accuracy = numbering.UNSCORED
            if stop.evaluate and program.validate is not None:
                results = metrics.summarize_members(jax.device_get(program.validate(weights_to_score(state))))
                log.log_evaluation(step, results)
                accuracy = float(np.mean([result.accuracy for result in results]))
            gathered_state = parallel.gather(state, layout)
            # Not the optimiser's state, which may start at infinity.
            checkpoint.check_finite(replace(gathered_state, opt_state=()), step)
            if writer is not None:
                writer.save(gathered_state, accuracy, step=step, origin=origin)
            if stop_signal:
                break
    if writer is not None:
        writer.wait()
    processes.run_on_all(lambda: None)  # the others wait until it is on the disk
    # One may have come while the last state was being saved. With several processes, the first answer is the vote held
    # before that, and the second the one that the first call starts.
    if stop_signal := stop_signal or vote.poll() or vote.poll():
        saved = f"{stop_signal.name} at step {step} of {config.total_steps}; its state is saved; resume with: "
        how = how_to_resume(config, session.directory.read_config(), inputs.setup.custom_recipe)
        raise interruption.InterruptionError(stop_signal, saved + how)
    return state


@contextmanager
def _log(session: Session, program: Program, step: int, writer: checkpoint.Writer | None) -> Iterator[MetricsLog]:
    """Opens the log that writes and shows the metrics lines, from a given step on."""
    config = session.inputs.config
    epochs_per_step = config.train.batch_size / len(session.inputs.splits.train)
    with ExitStack() as stack:
        shown: display.Display = display.NullDisplay()
        if writer is not None:
            shown = stack.enter_context(display.display(config.run.progress, config.total_steps, step))
        if writer is not None and config.run.tensorboard:
            shown = stack.enter_context(tensorboard_log.tee_to_tensorboard(shown, session.directory.path, step))
        directory = None if writer is None else session.directory
        yield MetricsLog(directory, shown, program.learning_rates, epochs_per_step, step)
