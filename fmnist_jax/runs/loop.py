"""A whole run: the checks before it, the training, and what it leaves behind; in one process or several."""

import signal
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
from fmnist_jax.config.validation import validate
from fmnist_jax.data.dataset import Splits, digest
from fmnist_jax.data.resolution import with_splits
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.keys import root_key
from fmnist_jax.functional.recipe import MakeRecipe, make_recipe
from fmnist_jax.functional.state import TrainState, param_count
from fmnist_jax.runs import (
    agreement,
    checkpoint,
    dataset_record,
    interruption,
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
from fmnist_jax.runs.inputs import Inputs, load_inputs
from fmnist_jax.runs.program import Program, prepare
from fmnist_jax.runs.results import Scores
from fmnist_jax.runs.summary import print_summary
from fmnist_jax.runs.training import Session, steps_taken, train
from fmnist_jax.system import backend, environment, lock, output
from fmnist_jax.system.compilation import explain_out_of_memory


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
        custom_recipe = recipe_record.custom_recipe_name(make_recipe)
        summary = processes.run_on_first(
            lambda: _finished_summary(RunDirectory(path), config, user_splits, custom_recipe)
        )
        if summary is not None:
            output.say(f"{path} holds a finished run: nothing was trained; for a new run choose another directory")
        else:
            path, summary = _start(config, path, user_splits, make_recipe)
        print_summary(path, summary, config.data)
        return summary


def _finished_summary(
    directory: RunDirectory, config: Config, user_splits: Splits | None, custom_recipe: str | None
) -> dict[str, Any] | None:
    """The summary of the run in a directory if it has ended, else None."""
    directory.refuse_unwritable()
    if config.run.dir is None:
        return None
    resumption.refuse_other_run(directory, config)
    if directory.read_config() is not None:
        recipe_record.refuse_other(directory.path, custom_recipe)
    summary = directory.read_summary()
    if summary is not None and user_splits is not None:
        recorded, found = summary["dataset_digest"], digest(user_splits)
        resumption.refuse_other_images(directory.path, recorded, found, resumption.START_OVER_HINT)
    return summary


def _start(
    config: Config, path: Path, user_splits: Splits | None, make_recipe: MakeRecipe
) -> tuple[Path, dict[str, Any]]:
    """Checks everything that can be checked before the run directory is made, then trains in it."""
    backend.refuse_without_compilation()
    layout = processes.run_on_all(lambda: parallel.choose_layout(config))
    _warn_if_slow(config)
    named = config.run.dir is not None  # a directory of the default name is another run's, started just now
    resumes = named and processes.run_on_first(lambda: bool(checkpoint.steps(RunDirectory(path).checkpoints)))
    inputs = load_inputs(config, path, layout, user_splits, make_recipe, resumes=resumes)
    if not named:
        path = Path(processes.run_on_first(lambda: str(create_unique(path))))
    return path, _run_in(path, inputs)


def _warn_if_slow(config: Config) -> None:
    if processes.is_first() and jax.default_backend() == "cpu" and meant_for_accelerators(config):
        output.warn(
            f"note: the network of the preset {config.preset} is meant for a GPU or TPU, and may take a CPU hours or "
            "days; --preset fast and --preset standard are for a CPU; for an NVIDIA GPU: pip install 'jax[cuda13]'"
        )


def _run_in(path: Path, inputs: Inputs) -> dict[str, Any]:
    """Makes the run directory and trains in it, unless another process has finished the run meanwhile."""
    config, directory = replace(inputs.config, run=replace(inputs.config.run, dir=path)), RunDirectory(path)
    with ExitStack() as stack:
        summary = processes.run_on_first(lambda: _lock(directory, stack, config, inputs.setup.custom_recipe))
        if summary is None:
            summary = _train_and_score(inputs._replace(config=config), directory)
    return summary


def _lock(
    directory: RunDirectory, stack: ExitStack, config: Config, custom_recipe: str | None
) -> dict[str, Any] | None:
    """Makes and locks the directory; returns the summary if another process has finished the run meanwhile."""
    directory.create()
    stack.enter_context(lock.exclusive(directory.path))
    # Another run may have started or finished here while this one loaded the data.
    resumption.refuse_other_run(directory, config)
    if directory.read_config() is not None:
        recipe_record.refuse_other(directory.path, custom_recipe)
    directory.remove_unfinished()
    return directory.read_summary()


def _train_and_score(inputs: Inputs, directory: RunDirectory) -> dict[str, Any]:
    config, layout = inputs.config, inputs.layout
    with explain_out_of_memory(
        f"choose less than --train.batch-size {config.train.batch_size}, smaller --model.widths, or hold out "
        "fewer images with --data.validation-size, with another --run.dir; earlier checkpoints are intact"
    ):
        # Once the last state is saved, a signal may end the process at once.
        with interruption.record_signals() as stop_request:
            session = Session(inputs, directory, stop_request)
            state, program = _train(session)
        if stop_request.received is not None:  # too late for training to stop
            signal.raise_signal(stop_request.received)
        scores = results.score(
            program.predict,
            weights_to_score(state),
            inputs.splits,
            layout.padded_batch_size(config.train.eval_batch_size),
            average_mirrors=config.train.eval_mirror,
        )
        state = parallel.gather(state, layout)
    return processes.run_on_first(lambda: _write_results(session, state, scores, program.compile_seconds))


def _write_run_records(session: Session, origin: Mapping[str, Any]) -> None:
    """Records what a new run is, and refuses what a run cannot be resumed with, before anything is compiled."""
    config, directory, setup = session.inputs.config, session.directory, session.inputs.setup
    dataset = session.inputs.dataset
    if setup.record is not None and not setup.resumes:
        directory.write_json(warm_start.TRANSFER_FILE, setup.record)
    if directory.read_config() is None:
        directory.write_json("environment.json", origin["environment"])
        directory.write_json(dataset_record.DATASET_FILE, dataset_record.to_dict(dataset))
        recipe_record.write(directory, setup.custom_recipe, setup.custom_network)
        directory.write_json("config.json", origin["config"])  # last, because it marks the run as started
    recipe_record.refuse_other_network(directory, setup.custom_recipe, setup.custom_network)
    dataset_record.refuse_other(directory.path, config, dataset)
    resumption.quarantine_and_warn(directory, config)
    warm_start.refuse_lost_checkpoints(setup, directory.path)
    for step in checkpoint.steps(directory.checkpoints)[-1:]:
        recorded, found = resumption.recorded_digest(directory.checkpoints, step), session.inputs.dataset_digest
        resumption.refuse_other_data(directory.checkpoints, step, recorded, found, resumption.START_OVER_HINT)


def _train(session: Session) -> tuple[TrainState, Program]:
    """Compiles, and trains from the newest checkpoint to the last step."""
    inputs, directory = session.inputs, session.directory
    config, layout, setup = inputs.config, inputs.layout, inputs.setup
    environment_record = {**environment.describe_environment(), **parallel.describe(layout)}
    origin = {"config": to_dict(config), "dataset_digest": inputs.dataset_digest, "environment": environment_record}
    if setup.record is not None:
        origin["transfer"] = setup.record
    processes.run_on_first(lambda: _write_run_records(session, origin))
    with _open_writer(directory) as writer:
        state, program = prepare(setup.recipe, config, layout, inputs.train_data, inputs.splits)
        state = resumption.restore_newest(directory.checkpoints, state, layout, config.total_steps)
        step = steps_taken(state, layout)
        _report_start(session, program, step, environment_record)
        if config.run.profile:
            step_counts = profiling.chunk_sizes(config.run.profile, config.run.log_every)
            profiling.trace(program.chunk, state, inputs.train_data, step_counts, directory.path / "profile")
        return train(session, program, state, writer, origin), program


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
    inputs, directory = session.inputs, session.directory
    config, setup, members = inputs.config, inputs.setup, inputs.config.population.seeds
    parameters = param_count(jax.eval_shape(setup.recipe.init, root_key(0)).params)
    output.say(
        f"{parameters:,} parameters{f' in each of {members} members' if members > 1 else ''}, "
        f"{len(inputs.splits.train):,} training images, {config.total_steps:,} steps on "
        f"{parallel.to_text(inputs.layout)}; compiled in {program.compile_seconds:.1f} s; writing {directory.path}"
    )
    if setup.record is not None and step == 0:
        output.say(warm_start.to_text(setup.record))
    if processes.is_first():
        settings = to_dict(config)
        settings_record = {"run": settings["run"], "parallel": settings["parallel"]}
        directory.append_session({"step": step, **settings_record, **environment_record})


def _write_results(session: Session, state: TrainState, scores: Scores, compile_seconds: float) -> dict[str, Any]:
    """Writes predictions, figures, report and, last of all, the summary, which marks the run as ended."""
    inputs, directory = session.inputs, session.directory
    config, test = inputs.config, inputs.splits.test
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
        "dataset_digest": inputs.dataset_digest,
        "compile_seconds": round(compile_seconds, 3),
        **{name: value for name, value in parallel.describe(inputs.layout).items() if name != "devices_seen"},
    }
    predictions = results.Predictions(scores.logits, scores.member_logits)
    results.write_report(directory.path, config, config.total_steps, test, predictions, summary=summary)
    directory.write_json("summary.json", summary)
    return summary
