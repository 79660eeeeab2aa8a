"""A whole run: the checks before it, the training, and what it leaves behind; in one process or several."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from fmnist_jax.config.presets import meant_for_accelerators
from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config
from fmnist_jax.config.validation import check_pixels, validate
from fmnist_jax.data.dataset import Splits, digest, load
from fmnist_jax.data.resolution import resolve, with_splits
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.keys import root_key
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import MakeRecipe, Recipe, make_recipe
from fmnist_jax.functional.state import TrainState, param_count
from fmnist_jax.runs import (
    agreement,
    checkpoint,
    dataset_record,
    interruption,
    own_recipe,
    parallel,
    processes,
    profiling,
    recipe_record,
    results,
    resumption,
    tensorboard_log,
    warm_start,
)
from fmnist_jax.runs.directory import RunDirectory, create_unique
from fmnist_jax.runs.program import Program, prepare
from fmnist_jax.runs.results import Scores
from fmnist_jax.runs.summary import print_summary
from fmnist_jax.runs.training import Session, steps_taken, train
from fmnist_jax.system import backend, environment, lock, output
from fmnist_jax.system.compilation import explain_out_of_memory

_CHECKPOINTS_ON_DISK = 4  # the two latest, the best, and one being written
_OTHER_FILES = 20_000_000  # bytes; logs, figures and predictions


def run(config: Config, user_splits: Splits | None = None, make_recipe: MakeRecipe = make_recipe) -> dict[str, Any]:
    """Trains as configured, or resumes the run in `config.run.dir`; returns its summary.

    Args:
      config: the configuration of the run.
      user_splits: data to use instead of the data set named in the configuration.
      make_recipe: composes the recipe to train.
    """
    if user_splits is not None:
        config = with_splits(config, user_splits)
        validate(config)
    with processes.fail_together(config.parallel):
        config = agreement.adopt_first_config(config)
        default = f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
        path = Path(processes.run_on_first(lambda: str(config.run.dir or Path("runs") / default)))
        recipe = recipe_record.custom_recipe_name(make_recipe)
        summary = processes.run_on_first(lambda: _finished_summary(RunDirectory(path), config, user_splits, recipe))
        if summary is not None:
            output.say(f"{path} holds a finished run: nothing was trained; for a new run choose another directory")
        else:
            path, summary = _start(config, path, user_splits, make_recipe)
        print_summary(path, summary)
        return summary


def _finished_summary(
    directory: RunDirectory, config: Config, own: Splits | None, recipe: str | None
) -> dict[str, Any] | None:
    """The summary of the run in a directory if it has ended, else None."""
    if config.run.dir is None:
        return None
    resumption.refuse_other_run(directory, config)
    if directory.read_config() is not None:
        recipe_record.refuse_other(directory.path, recipe)
    summary = directory.read_summary()
    if summary is not None and own is not None:
        recorded_digest = summary["dataset_digest"]
        resumption.refuse_other_images(directory.path, recorded_digest, digest(own), resumption.START_OVER_HINT)
    return summary


def _start(config: Config, path: Path, own: Splits | None, make_recipe: MakeRecipe) -> tuple[Path, dict[str, Any]]:
    """Checks everything that can be checked before the run directory is made, then trains in it."""
    backend.refuse_without_compilation()
    layout = processes.run_on_all(lambda: parallel.choose_layout(config))
    if processes.is_first() and jax.default_backend() == "cpu" and meant_for_accelerators(config):
        output.warn(
            f"note: the network of the preset {config.preset} is meant for a GPU or TPU, and may take a CPU hours or "
            "days; --preset fast and --preset standard are for a CPU; for an NVIDIA GPU: pip install 'jax[cuda13]'"
        )
    named = config.run.dir is not None  # a directory of the default name is another run's, started just now
    resumes = named and processes.run_on_first(lambda: bool(checkpoint.steps(RunDirectory(path).checkpoints)))
    processes.run_on_first(lambda: _refuse_unusable(RunDirectory(path)))
    processes.run_on_first(lambda: warm_start.refuse_unusable(config, path, resumes=resumes))
    splits = processes.run_on_all(lambda: load(config.data) if own is None else own)
    dataset_digest = digest(splits)
    agreement.refuse_disagreement("images", dataset_digest, "data set")
    config = resolve(config, splits)
    validate(config)
    record = dataset_record.describe(splits.train)
    if not resumes:
        check_pixels(config.augment, record.image_shape)
    setup = processes.run_on_all(
        lambda: warm_start.make_setup(config, path, record, resumes=resumes, make_recipe=make_recipe)
    )
    if setup.record is not None and not resumes:
        agreement.refuse_disagreement("weights to start from", setup.record["digest"], "--init.from")
    recipe = setup.recipe
    processes.run_on_first(lambda: RunDirectory(path).refuse_full_disk(_bytes_needed(recipe, config.population.seeds)))
    with explain_out_of_memory("free it of other processes, or set JAX_PLATFORMS to another"):
        images = Batch(splits.train.images, splits.train.labels)
        train_data = jax.block_until_ready(parallel.place(images, layout.replicated))
    if setup.custom_recipe is not None:
        own_recipe.refuse_unfit(recipe, setup.custom_recipe, config, layout, train_data, num_classes=record.num_classes)
    if not named:
        path = Path(processes.run_on_first(lambda: str(create_unique(path))))
    config = replace(config, run=replace(config.run, dir=path))
    with ExitStack() as stack, interruption.record_signals() as requests:
        directory = RunDirectory(path)
        summary = processes.run_on_first(lambda: _lock(directory, stack, config, setup.custom_recipe))
        if summary is None:
            session = Session(config, splits, dataset_digest, train_data, directory, layout, requests, setup)
            summary = _train_and_score(session)
    return path, summary


def _refuse_unusable(directory: RunDirectory) -> None:
    directory.refuse_full_disk(_OTHER_FILES)
    checkpoint.refuse_unusable(directory.checkpoints)


def _bytes_needed(recipe: Recipe, members: int) -> int:
    leaves = jax.tree.leaves(jax.eval_shape(recipe.init, root_key(0)))
    state = members * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return _CHECKPOINTS_ON_DISK * state + _OTHER_FILES


def _lock(directory: RunDirectory, stack: ExitStack, config: Config, recipe_name: str | None) -> dict[str, Any] | None:
    """Makes and locks the directory; returns the summary if another process has finished the run meanwhile."""
    directory.create()
    stack.enter_context(lock.exclusive(directory.path))
    # Another run may have started or finished here while this one loaded the data.
    resumption.refuse_other_run(directory, config)
    if directory.read_config() is not None:
        recipe_record.refuse_other(directory.path, recipe_name)
    directory.remove_unfinished()
    return directory.read_summary()


def _train_and_score(session: Session) -> dict[str, Any]:
    config, directory, layout = session.config, session.directory, session.layout
    environment_record = {**environment.describe_environment(), **parallel.describe(layout)}
    origin = {"config": to_dict(config), "dataset_digest": session.dataset_digest, "environment": environment_record}
    if session.setup.record is not None:
        origin["transfer"] = session.setup.record
    processes.run_on_first(lambda: _write_run_records(session, origin))
    with explain_out_of_memory(
        f"choose less than --train.batch-size {config.train.batch_size}, smaller --model.widths, or hold out "
        "fewer images with --data.validation-size, with another --run.dir; earlier checkpoints are intact"
    ):
        with _open_writer(directory) as writer:
            state, program = prepare(session.setup.recipe, config, layout, session.train_data, session.splits)
            state = resumption.restore_newest(directory.checkpoints, state, layout, config.total_steps)
            step = steps_taken(state, layout)
            _report_start(session, program, step, environment_record)
            if config.run.profile:
                steps = profiling.chunk_sizes(config.run.profile, config.run.log_every)
                profiling.trace(program.chunk, state, session.train_data, steps, directory.path / "profile")
            state = train(session, program, state, writer, origin)
            if writer is not None:
                writer.wait()
        scores = results.score(
            program.predict,
            weights_to_score(state),
            session.splits,
            layout.padded_batch_size(config.train.eval_batch_size),
            average_mirrors=config.train.eval_mirror,
        )
        state = parallel.gather(state, layout)
    return processes.run_on_first(lambda: _write_results(session, state, scores, program.compile_seconds))


def _write_run_records(session: Session, origin: Mapping[str, Any]) -> None:
    """Records what a new run is, and refuses what a run cannot be resumed with, before anything is compiled."""
    config, directory, setup = session.config, session.directory, session.setup
    record = dataset_record.describe(session.splits.train)
    if setup.record is not None and not setup.resumes:
        directory.write_json(warm_start.TRANSFER_FILE, setup.record)
    if directory.read_config() is None:
        directory.write_json("environment.json", origin["environment"])
        directory.write_json(dataset_record.DATASET_FILE, dataset_record.to_dict(record))
        recipe_record.write(directory, setup.custom_recipe, setup.custom_network)
        directory.write_json("config.json", origin["config"])  # last, because it marks the run as started
    recipe_record.refuse_other_network(directory, setup.custom_recipe, setup.custom_network)
    dataset_record.refuse_other(directory.path, config, record)
    resumption.quarantine_and_warn(directory, config)
    warm_start.refuse_lost_start(setup, directory.path)
    for step in checkpoint.steps(directory.checkpoints)[-1:]:
        recorded_digest, remedy = resumption.recorded_digest(directory.checkpoints, step), resumption.START_OVER_HINT
        resumption.refuse_other_data(directory.checkpoints, step, recorded_digest, origin["dataset_digest"], remedy)


@contextmanager
def _open_writer(directory: RunDirectory) -> Iterator[checkpoint.Writer | None]:
    """Opens the checkpoints for writing, in the first process only."""
    if not processes.is_first():
        yield None
        return
    with checkpoint.writing(directory.checkpoints) as writer:
        yield writer


def _report_start(session: Session, program: Program, step: int, environment_record: Mapping[str, Any]) -> None:
    """Prints and records what starts, and from which step."""
    config, directory, members = session.config, session.directory, session.config.population.seeds
    parameters = param_count(jax.eval_shape(session.setup.recipe.init, root_key(0)).params)
    output.say(
        f"{parameters:,} parameters{f' in each of {members} members' if members > 1 else ''}, "
        f"{len(session.splits.train):,} training images, {config.total_steps:,} steps on "
        f"{parallel.to_text(session.layout)}; compiled in {program.compile_seconds:.1f} s; writing {directory.path}"
    )
    if session.setup.record is not None and step == 0:
        output.say(warm_start.to_text(session.setup.record))
    if processes.is_first():
        settings = to_dict(config)
        settings_record = {"run": settings["run"], "parallel": settings["parallel"]}
        directory.append_session({"step": step, **settings_record, **environment_record})


def _write_results(session: Session, state: TrainState, scores: Scores, compile_seconds: float) -> dict[str, Any]:
    """Writes predictions, figures, report and, last of all, the summary, which marks the run as ended."""
    config, directory, test = session.config, session.directory, session.splits.test
    records = directory.records()
    results.save_predictions(directory, scores)
    figures = results.make_figures(records, scores, test.class_names)
    for name, figure in figures.items():
        directory.save_figure(name, figure)
    if config.run.tensorboard:
        tensorboard_log.write_figures(directory.path, config.total_steps, figures)
    summary = {
        "preset": config.preset,
        **results.make_summary(records, state, scores, config, test.class_names),
        "dataset": config.data.name,
        "dataset_digest": session.dataset_digest,
        "compile_seconds": round(compile_seconds, 3),
        **{name: value for name, value in parallel.describe(session.layout).items() if name != "devices_seen"},
    }
    predictions = results.Predictions(scores.logits, scores.member_logits)
    results.write_report(directory.path, config, config.total_steps, test, predictions, summary=summary)
    directory.write_json("summary.json", summary)
    return summary
