"""A training run: the loop around the compiled chunk, which logs, evaluates, saves, and goes on where it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fmnist_jax.config.schema import Config, to_dict
from fmnist_jax.config.validation import validate
from fmnist_jax.data.dataset import Splits, digest, load, padded_batches
from fmnist_jax.data.resolution import resolved, with_splits
from fmnist_jax.errors import DeviceMemoryError
from fmnist_jax.functional import metrics
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.eval_step import evaluate_batches, make_mirrored_predict
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import Recipe, make_recipe
from fmnist_jax.functional.state import TrainState, param_count
from fmnist_jax.runs import (
    checkpoint,
    dataset_record,
    display,
    interruption,
    profiling,
    results,
    resumption,
    tensorboard_log,
)
from fmnist_jax.runs.directory import RunDirectory, claim
from fmnist_jax.runs.metrics_log import MetricsLog
from fmnist_jax.runs.program import Program, prepare
from fmnist_jax.runs.stops import Stop, stops
from fmnist_jax.system import backend, environment, lock, output

_CHECKPOINTS_ON_DISK = 4  # the two latest, the best, and one being written
_OTHER_FILES = 20_000_000  # bytes; logs, figures and predictions


@dataclass(frozen=True)
class Session:
    """What one start of a run has at hand, besides the state."""

    config: Config
    splits: Splits
    train_data: Batch
    """All training images, on the device."""
    directory: RunDirectory
    recipe: Recipe
    requests: interruption.Requests


def run(config: Config, own: Splits | None = None) -> dict[str, Any]:
    """Trains as configured, or goes on with the run in `config.run.dir`; returns its summary.

    Args:
      config: of the run.
      own: what to train on instead of the data that the configuration names.
    """
    if own is not None:
        config = with_splits(config, own)
        validate(config)
    path = config.run.dir or Path("runs") / f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    directory, summary = RunDirectory(path), None
    if config.run.dir is not None:
        resumption.refuse_other_run(directory, config)
        summary = directory.read_json("summary.json")
        if summary is not None and own is not None:
            resumption.refuse_other_images(directory.path, summary["dataset_digest"], digest(own))
    if summary is None:
        backend.refuse_without_compilation()
        directory.refuse_full_disk(_OTHER_FILES)
        checkpoint.refuse_unusable(directory.checkpoints)
        splits = load(config.data) if own is None else own
        config = resolved(config, splits)
        validate(config)
        recipe = make_recipe(config, image_shape=splits.train.image_shape, num_classes=splits.train.num_classes)
        directory.refuse_full_disk(_bytes_needed(recipe))
        with _blaming_memory("free it of other processes, or set JAX_PLATFORMS to another"):
            train_data = jax.block_until_ready(jax.device_put(Batch(splits.train.images, splits.train.labels)))
        if config.run.dir is None:
            path = claim(path)
        config = replace(config, run=replace(config.run, dir=path))
        directory = RunDirectory(path)
        directory.make()
        with lock.exclusive(directory.path), interruption.listen() as requests:
            # Another process may have ended the run while this one loaded the data.
            summary = directory.read_json("summary.json")
            if summary is None:
                summary = _train_and_score(Session(config, splits, train_data, directory, recipe, requests))
    results.print_summary(directory.path, summary)
    return summary


def _bytes_needed(recipe: Recipe) -> int:
    leaves = jax.tree.leaves(jax.eval_shape(recipe.init, jax.random.key(0)))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return _CHECKPOINTS_ON_DISK * state + _OTHER_FILES


def _train_and_score(session: Session) -> dict[str, Any]:
    config, directory = session.config, session.directory
    described, settings, dataset_digest = environment.describe(), to_dict(config), digest(session.splits)
    record = dataset_record.describe(session.splits.train)
    if directory.read_config() is None:
        directory.write_json("environment.json", described)
        directory.write_json(dataset_record.FILE, dataset_record.to_dict(record))
        directory.write_json("config.json", settings)  # the last of them, because it says that the run has started
    dataset_record.refuse_other(directory.path, config, record)
    origin = {"config": settings, "dataset_digest": dataset_digest, "environment": described}
    resumption.warn_of_damage(directory, (stop.step for stop in _stops(config, 0) if stop.save))
    for step in checkpoint.steps(directory.checkpoints)[-1:]:  # before anything is compiled for other images
        resumption.refuse_other_data(directory.checkpoints, step, dataset_digest)
    with _blaming_memory(
        f"choose less than --train.batch-size {config.train.batch_size}, or smaller --model.widths, with another "
        f"--run.dir; earlier checkpoints are whole"
    ):
        with checkpoint.writing(directory.checkpoints) as writer:
            state, program = prepare(
                session.recipe,
                session.train_data,
                session.splits.test,
                config.train,
                max_steps=config.run.log_every,
                total_steps=config.total_steps,
            )
            state = resumption.restore_latest(directory.checkpoints, state, config.total_steps, dataset_digest)
            output.say(
                f"{param_count(state.params):,} parameters, {len(session.splits.train):,} training images, "
                f"{config.total_steps:,} steps; compiled in {program.compile_seconds:.1f} s; writing {directory.path}"
            )
            directory.append_session({"step": int(state.step), "run": settings["run"], **described})
            if config.run.profile:
                steps = profiling.parts(config.run.profile, config.run.log_every)
                profiling.trace(program.chunk, state, session.train_data, steps, directory.path / "profile")
            state = _train(session, program, state, writer, origin)
            writer.wait()
        scores = results.score(
            program.predict,
            weights_to_score(state),
            session.splits,
            config.train.eval_batch_size,
            mirrored_predict=make_mirrored_predict(program.predict) if config.train.eval_mirror else None,
        )
    return _leave(session, state, scores, dataset_digest, program.compile_seconds)


@contextmanager
def _blaming_memory(remedy: str) -> Iterator[None]:
    """Turns XLA's word for a full device into an error that says what to do."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DeviceMemoryError(f"the device is out of memory: {remedy}") from error


def _stops(config: Config, start: int) -> Iterator[Stop]:
    train, run = config.train, config.run
    scored = range(train.eval_every, train.epochs + 1, train.eval_every)
    return stops(
        start,
        config.total_steps,
        [config.steps(epoch) for epoch in scored],
        log_every=run.log_every,
        save_every=run.checkpoint_every,
    )


def _train(
    session: Session,
    program: Program,
    state: TrainState,
    writer: checkpoint.Writer,
    origin: Mapping[str, Any],
) -> TrainState:
    """Runs the chunks; logs, evaluates and saves at their ends.

    Raises:
      InterruptionError: a signal asked the run to stop, and the state has been saved.
    """
    config, requests = session.config, session.requests
    step = int(state.step)
    # What crosses between host and device in the loop does so by name (device_put, device_get), or not at all.
    with _shown(session, step) as shown, jax.transfer_guard("disallow"):
        epochs_per_step = config.train.batch_size / len(session.splits.train)
        log = MetricsLog(session.directory, shown, program.learning_rates, epochs_per_step, step)
        for stop in _stops(config, step):
            state, rows = program.chunk(state, session.train_data, jax.device_put(np.int32(stop.step - step)))
            # The previous chunk's numbers are waited for and read while this one runs, so the device never waits.
            log.dispatched(step, stop.step, rows)
            step = stop.step
            if not stop.save and not requests.received:
                continue
            log.flush()
            accuracy = checkpoint.UNSCORED
            if stop.evaluate and len(session.splits.validation):
                result = _validate(session, program, state)
                log.evaluated(step, result)
                accuracy = result.accuracy
            checkpoint.check_finite(replace(state, opt_state=()), step)  # which may start at infinity
            writer.save(state, accuracy, origin=origin)
            if requests.received:
                writer.wait()
                raise interruption.InterruptionError(
                    requests.received,
                    f"{requests.received.name} at step {step} of {config.total_steps}, which is saved; "
                    f"go on with: python -m fmnist_jax.train --run.dir {config.run.dir}",
                )
    return state


@contextmanager
def _shown(session: Session, step: int) -> Iterator[display.Display]:
    """Opens what the metrics lines are shown on, from a step on."""
    config = session.config
    with display.display(config.run.progress, config.total_steps, step) as screen:
        if not config.run.tensorboard:
            yield screen
            return
        with tensorboard_log.beside(screen, session.directory.path, step) as both:
            yield both


def _validate(session: Session, program: Program, state: TrainState) -> metrics.Summary:
    batches = padded_batches(session.splits.validation, session.config.train.eval_batch_size)
    total = evaluate_batches(program.eval_step, *weights_to_score(state), map(jax.device_put, batches))
    return metrics.summarize(jax.device_get(total))


def _leave(
    session: Session, state: TrainState, scores: results.Scores, dataset_digest: str, compile_seconds: float
) -> dict[str, Any]:
    """Writes predictions, figures, report and, last of all, the summary, which says that the run has ended."""
    config, directory, test = session.config, session.directory, session.splits.test
    records, step = directory.records(), int(state.step)
    results.save_predictions(directory, scores)
    figures = results.draw(records, scores, test.class_names)
    for name, figure in figures.items():
        directory.save_figure(name, figure)
    if config.run.tensorboard:
        tensorboard_log.write_figures(directory.path, step, figures)
    summary = {
        "preset": config.preset,
        **results.summarize(records, state, scores, config.train, test.class_names),
        "dataset": config.data.name,
        "dataset_digest": dataset_digest,
        "compile_seconds": round(compile_seconds, 3),
    }
    results.write_report(directory.path, config, step, test, scores.logits, summary=summary)
    directory.write_json("summary.json", summary)
    return summary
