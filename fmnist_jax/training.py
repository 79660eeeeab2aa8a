"""A training run: the loop around the compiled chunk, which logs, evaluates, saves, and goes on where it was."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fmnist_jax import (
    checkpoint,
    compilation,
    data,
    display,
    environment,
    interruption,
    lock,
    metrics,
    profiling,
    results,
    resumption,
    runlog,
    tensorboard_log,
)
from fmnist_jax.averaging import weights_to_score
from fmnist_jax.config import Config, to_dict
from fmnist_jax.errors import DeviceMemoryError
from fmnist_jax.eval_step import (
    EvalStep,
    Predict,
    evaluate_batches,
    make_eval_step,
    make_mirrored_predict,
    make_predict,
)
from fmnist_jax.metrics_log import MetricsLog
from fmnist_jax.recipe import Recipe, make_recipe
from fmnist_jax.state import TrainState, param_count
from fmnist_jax.stops import stops
from fmnist_jax.train_step import Batch, TrainChunk, make_train_chunk

_CHECKPOINTS_ON_DISK = 4  # the two latest, the best, and one being written
_OTHER_FILES = 20_000_000  # bytes; logs, figures and predictions


class Program(NamedTuple):
    """The compiled functions of a run, and the training images on the device."""

    train_data: Batch
    chunk: TrainChunk
    eval_step: EvalStep
    predict: Predict
    compile_seconds: float


@dataclass(frozen=True)
class Session:
    """What one start of a run has at hand, besides the state."""

    config: Config
    splits: data.Splits
    directory: runlog.RunDirectory
    recipe: Recipe
    requests: interruption.Requests


def run(config: Config) -> dict[str, Any]:
    """Trains as configured, or goes on with the run in `config.run.dir`; returns its summary."""
    path = config.run.dir or Path("runs") / f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    config = replace(config, run=replace(config.run, dir=path))
    directory = runlog.RunDirectory(path)
    resumption.refuse_other_run(directory, config)
    if (summary := directory.read_json("summary.json")) is None:
        recipe = make_recipe(config)
        splits = data.load(config.data)
        directory.make(_bytes_needed(recipe))
        with lock.exclusive(directory.path), interruption.listen() as requests:
            # Another process may have ended the run while this one loaded the data.
            summary = directory.read_json("summary.json")
            if summary is None:
                summary = _train_and_score(Session(config, splits, directory, recipe, requests))
    results.print_summary(directory, summary)
    return summary


def _bytes_needed(recipe: Recipe) -> int:
    leaves = jax.tree.leaves(jax.eval_shape(recipe.init, jax.random.key(0)))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return _CHECKPOINTS_ON_DISK * state + _OTHER_FILES


def _train_and_score(session: Session) -> dict[str, Any]:
    config, directory = session.config, session.directory
    described = environment.describe()
    if directory.read_config() is None:
        directory.write_json("environment.json", described)
        directory.write_json("config.json", to_dict(config))
    settings, dataset_digest = to_dict(config), data.digest(session.splits)
    origin = {"config": settings, "dataset_digest": dataset_digest, "environment": described}
    resumption.warn_of_damage(directory, config)
    try:
        with checkpoint.writing(directory.checkpoints) as manager:
            state, program = _prepare(session)
            state = resumption.restore_latest(directory.checkpoints, state, config.total_steps, dataset_digest)
            print(
                f"{param_count(state.params):,} parameters, {len(session.splits.train):,} training images, "
                f"{config.total_steps:,} steps; compiled in {program.compile_seconds:.1f} s; writing {directory.path}",
                flush=True,
            )
            directory.append_session({"step": int(state.step), "run": settings["run"], **described})
            if config.run.profile:
                steps = profiling.parts(config.run.profile, config.run.log_every)
                profiling.trace(program.chunk, state, program.train_data, steps, directory.path / "profile")
            state = _train(session, program, state, manager, origin)
            checkpoint.wait(manager, state)
        scores = results.score(
            program.predict,
            weights_to_score(state),
            session.splits,
            config.train.eval_batch_size,
            mirrored_predict=make_mirrored_predict(program.predict) if config.train.eval_mirror else None,
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DeviceMemoryError(
            f"the device is out of memory at --train.batch-size {config.train.batch_size}: choose a smaller one, or "
            f"smaller --model.widths, with another --run.dir; earlier checkpoints are whole"
        ) from error
    summary = results.write(config, directory, state, session.splits, scores)
    summary["compile_seconds"] = round(program.compile_seconds, 3)
    directory.write_json("summary.json", summary)
    return summary


def _prepare(session: Session) -> tuple[TrainState, Program]:
    """Puts the training images on the device, initialises the state, and compiles."""
    config, splits, recipe = session.config, session.splits, session.recipe
    chunk = make_train_chunk(recipe.step, config.train.batch_size, config.run.log_every, sample=recipe.sample)
    predict = make_predict(recipe.model)
    start = time.perf_counter()
    key = jax.random.key(config.train.seed)
    train_data = jax.device_put(Batch(splits.train.images, splits.train.labels))
    eval_batch = next(data.padded_batches(splits.test, config.train.eval_batch_size))
    init = jax.jit(recipe.init).lower(key)
    state = init.compile(compiler_options={**compilation.FOR_ONE_CALL})(key)
    weights, options = weights_to_score(state), compilation.compiler_options()
    program = Program(
        train_data=train_data,
        chunk=jax.jit(chunk, donate_argnums=0).lower(state, train_data, jnp.int32(0)).compile(options),
        eval_step=jax.jit(make_eval_step(predict)).lower(*weights, eval_batch).compile(options),
        predict=jax.jit(predict).lower(*weights, eval_batch.images).compile(options),
        compile_seconds=0.0,
    )
    return state, program._replace(compile_seconds=time.perf_counter() - start)


def _train(
    session: Session,
    program: Program,
    state: TrainState,
    manager: ocp.CheckpointManager,
    origin: Mapping[str, Any],
) -> TrainState:
    """Runs the chunks; logs, evaluates and saves at their ends.

    Raises:
      InterruptionError: a signal asked the run to stop, and the state has been saved.
    """
    config, requests = session.config, session.requests
    step = int(state.step)
    shown = display.display(config.run.progress, config.total_steps, step)
    # What crosses between host and device in the loop does so by name (device_put, device_get), or not at all.
    with (
        shown as screen,
        tensorboard_log.beside(screen, config.run, session.directory.path, step) as told,
        jax.transfer_guard("disallow"),
    ):
        log = MetricsLog(config, session.directory, told, step)
        for stop in stops(config, step):
            state, rows = program.chunk(state, program.train_data, jax.device_put(np.int32(stop.step - step)))
            # The previous chunk's numbers are waited for and read while this one runs, so the device never waits.
            log.dispatched(step, stop.step, rows)
            step = stop.step
            if not stop.save and not requests.received:
                continue
            log.flush()
            accuracy = checkpoint.UNSCORED
            if stop.evaluate:
                batches = data.padded_batches(session.splits.validation, config.train.eval_batch_size)
                on_device = map(jax.device_put, batches)
                total = evaluate_batches(program.eval_step, *weights_to_score(state), on_device)
                result = metrics.summarize(jax.device_get(total))
                log.evaluated(step, result)
                accuracy = result.accuracy
            checkpoint.save(manager, state, accuracy, origin)
            if requests.received:
                checkpoint.wait(manager, state)
                raise interruption.InterruptionError(
                    requests.received,
                    f"{requests.received.name} at step {step} of {config.total_steps}, which is saved; "
                    f"go on with: python -m fmnist_jax.train --run.dir {config.run.dir}",
                )
    return state
