"""A training run: the loop around the compiled chunk, and everything that it writes."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fmnist_jax import checkpoint, data, display, figures, metrics, runlog
from fmnist_jax.augment import make_augment
from fmnist_jax.config import Config, diff, to_dict
from fmnist_jax.errors import CheckpointError
from fmnist_jax.eval_step import EvalStep, Predict, evaluate_batches, make_eval_step, make_predict
from fmnist_jax.model import make_model
from fmnist_jax.optim import make_optimizer, make_schedule
from fmnist_jax.state import TrainState, init_state, param_count
from fmnist_jax.train_step import Batch, TrainChunk, make_train_chunk, make_train_step


class Program(NamedTuple):
    """The compiled functions of a run, and the training images on the device."""

    train_data: Batch
    chunk: TrainChunk
    eval_step: EvalStep
    predict: Predict
    compile_seconds: float


class Session(NamedTuple):
    """What a run has at hand, besides the state."""

    config: Config
    splits: data.Splits
    program: Program
    directory: runlog.RunDirectory
    manager: ocp.CheckpointManager


class Stop(NamedTuple):
    """Where a chunk of training ends, and what happens there."""

    step: int
    evaluate: bool
    save: bool


def run(config: Config) -> dict[str, Any]:
    """Trains as configured, or goes on with the run in `config.run.dir`; returns its summary."""
    path = config.run.dir or Path("runs") / f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    config = replace(config, run=replace(config.run, dir=path))
    directory = runlog.RunDirectory(path)
    _refuse_other_run(directory, config)
    if (summary := directory.read_json("summary.json")) is not None:
        _print_summary(directory, summary)
        return summary
    splits = data.load(config.data)
    directory.write_json("config.json", to_dict(config))
    directory.write_json("environment.json", runlog.environment())
    with checkpoint.open_manager(directory.checkpoints) as manager:
        state, program = _prepare(config, splits)
        session = Session(config, splits, program, directory, manager)
        if (latest := manager.latest_step()) is not None:
            state = checkpoint.restore(manager, latest, like=state)
            print(f"going on from step {latest} of {config.total_steps}")
        state = _train(session, state)
    summary = _finish(session, state)
    _print_summary(directory, summary)
    return summary


def stops(config: Config, start: int) -> Iterator[Stop]:
    """Divides a run into chunks that end at fixed steps, so that a resumed run divides it alike.

    Args:
      config: of the run.
      start: steps already taken, itself 0 or the step of a stop.

    Yields:
      The stops after `start`, the last of them at `config.total_steps`.
    """
    train, log_every, save_every = config.train, config.run.log_every, config.run.checkpoint_every
    ends = range(train.eval_every, train.epochs + 1, train.eval_every)
    eval_steps = {math.ceil(epoch * config.data.train_size / train.batch_size) for epoch in ends}
    eval_steps.add(config.total_steps)
    step = start
    while step < config.total_steps:
        end = min((step // log_every + 1) * log_every, *(at for at in eval_steps if at > step))
        due = end in eval_steps
        yield Stop(
            end, evaluate=due and config.data.validation_size > 0, save=due or end // save_every > step // save_every
        )
        step = end


def _refuse_other_run(directory: runlog.RunDirectory, config: Config) -> None:
    started = directory.read_config()
    if started is None:
        return
    # Where the data lie and what is told of the run may change; what is trained may not.
    data_config = replace(config.data, dir=started.data.dir, raw_dir=started.data.raw_dir)
    changed = diff(started, replace(config, preset=started.preset, data=data_config, run=started.run))
    if changed:
        raise CheckpointError(
            f"{directory.path} holds a run of another configuration ({'; '.join(changed)}): "
            f"give the old values, or another --run.dir"
        )


def _prepare(config: Config, splits: data.Splits) -> tuple[TrainState, Program]:
    """Puts the training images on the device, initialises the state, and compiles."""
    model = make_model(config.model)
    optimizer = make_optimizer(config.optim, make_schedule(config.optim, config.total_steps))
    step = make_train_step(
        model,
        optimizer,
        loss_fn=metrics.make_cross_entropy(config.train.label_smoothing),
        augment=make_augment(flip=config.train.flip, crop_padding=config.train.crop_padding),
    )
    chunk = make_train_chunk(step, config.train.batch_size, config.run.log_every)
    predict = make_predict(model)
    state = jax.jit(lambda key: init_state(model, optimizer, key))(jax.random.key(config.train.seed))
    train_data = jax.device_put(Batch(splits.train.images, splits.train.labels))
    start = time.perf_counter()
    eval_batch = next(data.padded_batches(splits.test, config.train.eval_batch_size))
    variables = (state.params, state.batch_stats)
    program = Program(
        train_data=train_data,
        chunk=jax.jit(chunk, donate_argnums=0).lower(state, train_data, jnp.int32(0)).compile(),
        eval_step=jax.jit(make_eval_step(predict)).lower(*variables, eval_batch).compile(),
        predict=jax.jit(predict).lower(*variables, eval_batch.images).compile(),
        compile_seconds=0.0,
    )
    return state, program._replace(compile_seconds=time.perf_counter() - start)


def _train(session: Session, state: TrainState) -> TrainState:
    """Runs the chunks; logs, evaluates and saves at their ends."""
    config, _, program, directory, manager = session
    start = int(state.step)
    log = runlog.MetricsLog(config, directory, start)
    with display.display(config.run.progress, config.total_steps, start) as shown:
        for stop in stops(config, start):
            state, rows = program.chunk(state, program.train_data, jnp.int32(stop.step - log.dispatched))
            # The previous chunk's numbers are read while this one runs, so that the device never waits.
            for record in log.chunk(stop.step, rows, wait=stop.save):
                shown.update(record)
            if not stop.save:
                continue
            accuracy = checkpoint.UNSCORED
            if stop.evaluate:
                batches = data.padded_batches(session.splits.validation, config.train.eval_batch_size)
                result = evaluate_batches(program.eval_step, state.params, state.batch_stats, batches)
                record = log.evaluation(stop.step, metrics.summarize(result))
                shown.update(record)
                accuracy = record["val_accuracy"]
            checkpoint.save(manager, state, accuracy)
    return state


def _finish(session: Session, state: TrainState) -> dict[str, Any]:
    """Scores the final state on the test images, once, and writes what a run leaves behind."""
    config, splits, program, directory, _ = session
    batch_size, test = config.train.eval_batch_size, splits.test
    variables = (state.params, state.batch_stats)
    result = evaluate_batches(program.eval_step, *variables, data.padded_batches(test, batch_size))
    batches = data.padded_batches(test, batch_size)
    logits = np.concatenate([np.asarray(program.predict(*variables, batch.images)) for batch in batches])[: len(test)]
    np.savez(directory.path / "predictions.npz", logits=logits, labels=test.labels)

    records = directory.records()
    confusion = np.asarray(result.confusion)
    figures.curves(records).savefig(directory.path / "figures" / "curves.png", dpi=150)
    figures.confusion_matrix(confusion, test.class_names).savefig(
        directory.path / "figures" / "confusion_matrix.png", dpi=150
    )
    score = metrics.summarize(result)
    recalls = np.asarray(metrics.recall_per_class(confusion))
    seconds = records[-1]["elapsed_seconds"]
    summary = {
        "preset": config.preset,
        "seed": config.train.seed,
        "test_accuracy": score.accuracy,
        "test_loss": score.loss,
        "test_examples": score.examples,
        "val_accuracy": next((r["val_accuracy"] for r in reversed(records) if "val_accuracy" in r), None),
        "weakest_classes": {test.class_names[i]: float(recalls[i]) for i in np.argsort(recalls)[:3]},
        "parameters": param_count(state.params),
        "steps": int(state.step),
        "epochs": config.train.epochs,
        "train_seconds": seconds,
        "compile_seconds": round(program.compile_seconds, 3),
        "images_per_second": round(int(state.step) * config.train.batch_size / seconds, 1),
        "state_digest": checkpoint.state_digest(state),
        "dataset": config.data.name,
        "dataset_digest": data.digest(splits),
    }
    directory.write_json("summary.json", summary)
    return summary


def _print_summary(directory: runlog.RunDirectory, summary: dict[str, Any]) -> None:
    weakest = ", ".join(f"{name} {recall:.1%}" for name, recall in summary["weakest_classes"].items())
    following = {"demo": "--preset fast", "fast": "--preset standard"}.get(summary["preset"], "--train.seed 1")
    print(
        f"test accuracy {summary['test_accuracy']:.2%} on {summary['test_examples']:,} images "
        f"(loss {summary['test_loss']:.4f}) after {summary['epochs']} epochs in {summary['train_seconds']:.0f} s\n"
        f"weakest classes: {weakest}\n"
        f"run directory: {directory.path}\n"
        f"  summary.json, metrics.jsonl, predictions.npz, checkpoints/, figures/curves.png, "
        f"figures/confusion_matrix.png\n"
        f"next: python -m fmnist_jax.train {following}"
    )
