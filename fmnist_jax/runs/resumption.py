"""Whether and from where a run resumes: what must be the same, what is damaged, and the newest checkpoint."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import jax

from fmnist_jax.config.record import diff
from fmnist_jax.config.schema import NON_TRAINING_SECTIONS, Config, RunConfig
from fmnist_jax.data.resolution import with_absolute_source
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import checkpoint, damage, parallel, processes
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.leaves import rebuild, snapshot
from fmnist_jax.runs.parallel import Layout
from fmnist_jax.runs.training import planned_stops
from fmnist_jax.system import output

_RUN_FILES = ("summary.json", "metrics.jsonl", "sessions.jsonl", "predictions.npz", "report.html", "figures")
"""What a new run would take for its own and replace; none of it is written before `config.json`."""

_EARLY_FILES = {
    "environment.json": "packages",
    "dataset.json": "image_shape",
    "recipe.json": "make_recipe",
    "transfer.json": "digest",
}
"""Files that a run writes before `config.json`, so that one killed meanwhile leaves them, and a key of each."""


def refuse_other_run(directory: RunDirectory, config: Config) -> None:
    """Checks that a directory is free, or holds a run of this configuration.

    Raises:
      CheckpointError: it holds another run, or the remains of one.
    """
    started = directory.read_config()
    if started is None:
        found = ["checkpoints"] if checkpoint.steps(directory.checkpoints) else []
        found += [name for name in _RUN_FILES if (directory.path / name).exists()]
        found += [name for name, key in _EARLY_FILES.items() if _is_foreign(directory, name, key)]
        if found:
            raise CheckpointError(f"{directory.path} has {found[0]} but no config.json: choose another --run.dir")
        return
    # Where the data are and settings outside training may change; what is trained may not.
    data, old = config.data, started.data
    # The number of images is recorded once they have been counted.
    total = data.total or old.total
    data_config = replace(data, dir=old.dir, raw_dir=old.raw_dir, file=old.file, total=total)
    untrained = {section: getattr(started, section) for section in NON_TRAINING_SECTIONS}
    new = replace(config, preset=started.preset, data=data_config, **untrained)
    changed = diff(with_absolute_source(started), with_absolute_source(new))
    if changed:
        raise CheckpointError(
            f"{directory.path} holds a run with a different configuration ({'; '.join(changed)}): "
            f"use the old values, or another --run.dir"
        )


def _is_foreign(directory: RunDirectory, name: str, key: str) -> bool:
    """Whether there is a JSON file of that name which no run has written."""
    try:
        values = directory.read_json(name)
    except FmnistError:  # it is no JSON object
        return True
    return values is not None and key not in values


def quarantine_and_warn(directory: RunDirectory, config: Config) -> None:
    """Moves damaged checkpoints out of the way, and warns of each.

    Args:
      directory: the run directory.
      config: the configuration of the run.

    Raises:
      CheckpointError: no checkpoint is left, though the run must have written one, or a damaged one cannot be moved.
    """
    for problem in damage.quarantine_damaged(directory.checkpoints):
        output.warn(f"warning: {problem}; moved to {directory.path / 'damaged'}")
    records = directory.records()
    # By the second save the first one is on the disk; a run that has logged more but has none has lost its checkpoints.
    lost = records and records[-1]["step"] > _second_save(directory, config)
    if lost and not checkpoint.steps(directory.checkpoints):
        raise CheckpointError(
            f"{directory.checkpoints} is empty although the run has reached step {records[-1]['step']}: "
            f"restore the checkpoints, or start anew with another --run.dir"
        )


def _second_save(directory: RunDirectory, config: Config) -> int:
    """The step by which a run has saved twice, at the slowest rate that any of its starts from step 0 was given."""
    current = {name: getattr(config.run, name) for name in ("log_every", "checkpoint_every")}
    starts = [session.get("run", {}) for session in directory.sessions() if session["step"] == 0]
    run_configs = [
        replace(config.run, **{name: start.get(name, current[name]) for name in current})
        for start in starts or [current]
    ]

    def second_save(run: RunConfig) -> int:
        saves = (stop.step for stop in planned_stops(replace(config, run=run), 0) if stop.save)
        return next(islice(saves, 1, None), config.total_steps)

    return max(map(second_save, run_configs))


def restore_newest(directory: Path, state: TrainState, layout: Layout, total_steps: int) -> TrainState:
    """Restores the newest checkpoint in a directory, or returns the given state if there is none.

    Only the first process reads it; the others are given its bytes.

    Args:
      directory: where the checkpoints are kept.
      state: the state that a new run starts from.
      layout: the devices.
      total_steps: steps of the whole run.

    Raises:
      CheckpointError: it is damaged, or belongs to another model or optimiser.
    """
    like = jax.eval_shape(lambda: state)
    latest = processes.run_on_first(lambda: checkpoint.steps(directory)[-1:])
    if not latest:
        return state
    output.say(f"resuming from step {latest[0]} of {total_steps}")
    restored = processes.run_on_all(
        lambda: checkpoint.restore(directory, latest[0], like) if processes.is_first() else None
    )
    saved = processes.broadcast_snapshot(None if restored is None else snapshot(restored))
    return parallel.place(rebuild(saved, like), layout.member_sharding)


START_OVER_HINT = "start anew with another --run.dir"
LOCATE_DATA_HINT = "say where it is with --data.file, --data.raw-dir or --data.dir"


def recorded_digest(directory: Path, step: int) -> str | None:
    """The digest of the images that a checkpoint was trained on, if it records one.

    Raises:
      CheckpointError: there is no such checkpoint, or it is damaged.
    """
    digest = checkpoint.read_manifest(directory, step)["origin"].get("dataset_digest")
    return None if digest is None else str(digest)


def refuse_other_data(
    directory: Path, step: int, recorded_digest: str | None, found_digest: str, remedy: str = LOCATE_DATA_HINT
) -> None:
    """Checks that a checkpoint was trained on the images at hand, whose split is then the same too.

    Args:
      directory: where the checkpoints are kept.
      step: that of the checkpoint.
      recorded_digest: the result of the function of that name.
      found_digest: the digest of the images at hand.
      remedy: what to do if the earlier ones cannot be brought back.

    Raises:
      CheckpointError: it was not.
    """
    refuse_other_images(f"checkpoint {step} in {directory}", recorded_digest, found_digest, remedy)


def refuse_other_images(subject: object, recorded_digest: str | None, found_digest: str, remedy: str) -> None:
    """Checks that two digests of images and labels are the same.

    Args:
      subject: what was trained on the earlier images, for the message.
      recorded_digest: the digest of those.
      found_digest: the digest of those at hand.
      remedy: what to do if the earlier ones cannot be brought back.

    Raises:
      CheckpointError: they differ.
    """
    if recorded_digest != found_digest:
        raise CheckpointError(
            f"{subject} was trained on images with digest {recorded_digest}, and those found have "
            f"{found_digest}: restore the original data set, or {remedy}"
        )
