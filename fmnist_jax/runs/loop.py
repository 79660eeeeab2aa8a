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
from fmnist_jax.data.resolution import resolved, with_splits
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
from fmnist_jax.runs.directory import RunDirectory, claim
from fmnist_jax.runs.program import Program, prepare
from fmnist_jax.runs.training import Session, steps_taken, train
from fmnist_jax.system import backend, environment, lock, output
from fmnist_jax.system.compilation import blaming_memory

_CHECKPOINTS_ON_DISK = 4  # the two latest, the best, and one being written
_OTHER_FILES = 20_000_000  # bytes; logs, figures and predictions


def run(config: Config, own: Splits | None = None, make_recipe: MakeRecipe = make_recipe) -> dict[str, Any]:
    """Trains as configured, or resumes the run in `config.run.dir`; returns its summary.

    Args:
      config: the configuration of the run.
      own: data to use instead of the data set named in the configuration.
      make_recipe: composes the recipe to train.
    """
    if own is not None:
        config = with_splits(config, own)
        validate(config)
    with processes.bound(config.parallel):
        config = agreement.of_first_process(config)
        default = f"{config.preset}-{datetime.now():%Y%m%d-%H%M%S}"
        path = Path(processes.first_alone(lambda: str(config.run.dir or Path("runs") / default)))
        recipe = recipe_record.name_of(make_recipe)
        summary = processes.first_alone(lambda: _finished_summary(RunDirectory(path), config, own, recipe))
        if summary is not None:
            output.say(f"{path} holds a finished run: nothing was trained; for a new run choose another directory")
        else:
            path, summary = _start(config, path, own, make_recipe)
        results.print_summary(path, summary)
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
        before = summary["dataset_digest"]
        resumption.refuse_other_images(directory.path, before, digest(own), resumption.START_ANEW)
    return summary


def _start(config: Config, path: Path, own: Splits | None, make_recipe: MakeRecipe) -> tuple[Path, dict[str, Any]]:
    """Checks everything that can be checked before the run directory is made, then trains in it."""
    backend.refuse_without_compilation()
    layout = processes.together(lambda: parallel.choose(config))
    if processes.is_first() and jax.default_backend() == "cpu" and meant_for_accelerators(config):
        output.warn(
            f"note: the network of the preset {config.preset} is meant for a GPU or TPU, and may take a CPU hours or "
            "days; --preset fast and --preset standard are for a CPU; for an NVIDIA GPU: pip install 'jax[cuda13]'"
        )
    named = config.run.dir is not None  # a directory of the default name is another run's, started just now
    resumes = named and processes.first_alone(lambda: bool(checkpoint.steps(RunDirectory(path).checkpoints)))
    processes.first_alone(lambda: _refuse_unusable(RunDirectory(path)))
    processes.first_alone(lambda: warm_start.refuse_unusable(config, path, resumes=resumes))
    splits = processes.together(lambda: load(config.data) if own is None else own)
    dataset_digest = digest(splits)
    agreement.refuse_disagreement("images", dataset_digest, "data set")
    config = resolved(config, splits)
    validate(config)
    record = dataset_record.describe(splits.train)
    if not resumes:
        check_pixels(config.augment, record.image_shape)
    beginning = processes.together(
        lambda: warm_start.begin(config, path, record, resumes=resumes, make_recipe=make_recipe)
    )
    if beginning.record is not None and not resumes:
        agreement.refuse_disagreement("weights to start from", beginning.record["digest"], "--init.from")
    recipe = beginning.recipe
    processes.first_alone(lambda: RunDirectory(path).refuse_full_disk(_bytes_needed(recipe, config.population.seeds)))
    with blaming_memory("free it of other processes, or set JAX_PLATFORMS to another"):
        images = Batch(splits.train.images, splits.train.labels)
        train_data = jax.block_until_ready(parallel.place(images, layout.everywhere))
    if beginning.own_recipe is not None:
        own_recipe.refuse_unfit(
            recipe, beginning.own_recipe, config, layout, train_data, num_classes=record.num_classes
        )
    if not named:
        path = Path(processes.first_alone(lambda: str(claim(path))))
    config = replace(config, run=replace(config.run, dir=path))
    with ExitStack() as held, interruption.listen() as requests:
        directory = RunDirectory(path)
        summary = processes.first_alone(lambda: _entered(directory, held, config, beginning.own_recipe))
        if summary is None:
            session = Session(config, splits, dataset_digest, train_data, directory, layout, requests, beginning)
            summary = _train_and_score(session)
    return path, summary


def _refuse_unusable(directory: RunDirectory) -> None:
    directory.refuse_full_disk(_OTHER_FILES)
    checkpoint.refuse_unusable(directory.checkpoints)


def _bytes_needed(recipe: Recipe, members: int) -> int:
    leaves = jax.tree.leaves(jax.eval_shape(recipe.init, root_key(0)))
    state = members * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return _CHECKPOINTS_ON_DISK * state + _OTHER_FILES


def _entered(directory: RunDirectory, held: ExitStack, config: Config, own_recipe: str | None) -> dict[str, Any] | None:
    """Makes and locks the directory; returns the summary if another process has finished the run meanwhile."""
    directory.make()
    held.enter_context(lock.exclusive(directory.path))
    # Another run may have started or finished here while this one loaded the data.
    resumption.refuse_other_run(directory, config)
    if directory.read_config() is not None:
        recipe_record.refuse_other(directory.path, own_recipe)
    directory.remove_unfinished()
    return directory.read_summary()


def _train_and_score(session: Session) -> dict[str, Any]:
    config, directory, layout = session.config, session.directory, session.layout
    described = {**environment.describe_environment(), **parallel.describe(layout)}
    origin = {"config": to_dict(config), "dataset_digest": session.dataset_digest, "environment": described}
    if session.beginning.record is not None:
        origin["transfer"] = session.beginning.record
    processes.first_alone(lambda: _begin(session, origin))
    with blaming_memory(
        f"choose less than --train.batch-size {config.train.batch_size}, smaller --model.widths, or hold out "
        "fewer images with --data.validation-size, with another --run.dir; earlier checkpoints are intact"
    ):
        with _writing(directory) as writer:
            state, program = prepare(session.beginning.recipe, config, layout, session.train_data, session.splits)
            state = resumption.resumed(directory.checkpoints, state, layout, config.total_steps)
            step = steps_taken(state, layout)
            _announce(session, program, step, described)
            if config.run.profile:
                steps = profiling.parts(config.run.profile, config.run.log_every)
                profiling.trace(program.chunk, state, session.train_data, steps, directory.path / "profile")
            state = train(session, program, state, writer, origin)
            if writer is not None:
                writer.wait()
        scores = results.score(
            program.predict,
            weights_to_score(state),
            session.splits,
            layout.filled_up(config.train.eval_batch_size),
            average_mirrors=config.train.eval_mirror,
        )
        state = parallel.gathered(state, layout)
    return processes.first_alone(lambda: _leave(session, state, scores, program.compile_seconds))


def _begin(session: Session, origin: Mapping[str, Any]) -> None:
    """Records what a new run is, and refuses what a run cannot be resumed with, before anything is compiled."""
    config, directory, beginning = session.config, session.directory, session.beginning
    record = dataset_record.describe(session.splits.train)
    if beginning.record is not None and not beginning.resumes:
        directory.write_json(warm_start.FILE, beginning.record)
    if directory.read_config() is None:
        directory.write_json("environment.json", origin["environment"])
        directory.write_json(dataset_record.FILE, dataset_record.to_dict(record))
        recipe_record.write(directory, beginning.own_recipe, beginning.own_network)
        directory.write_json("config.json", origin["config"])  # last, because it marks the run as started
    recipe_record.refuse_other_network(directory, beginning.own_recipe, beginning.own_network)
    dataset_record.refuse_other(directory.path, config, record)
    resumption.warn_of_damage(directory, config)
    warm_start.refuse_lost_start(beginning, directory.path)
    for step in checkpoint.steps(directory.checkpoints)[-1:]:
        resumption.refuse_other_data(directory.checkpoints, step, origin["dataset_digest"], resumption.START_ANEW)


@contextmanager
def _writing(directory: RunDirectory) -> Iterator[checkpoint.Writer | None]:
    """Opens the checkpoints for writing, in the first process only."""
    if not processes.is_first():
        yield None
        return
    with checkpoint.writing(directory.checkpoints) as writer:
        yield writer


def _announce(session: Session, program: Program, step: int, described: Mapping[str, Any]) -> None:
    """Prints and records what starts, and from which step."""
    config, directory, members = session.config, session.directory, session.config.population.seeds
    parameters = param_count(jax.eval_shape(session.beginning.recipe.init, root_key(0)).params)
    output.say(
        f"{parameters:,} parameters{f' in each of {members} members' if members > 1 else ''}, "
        f"{len(session.splits.train):,} training images, {config.total_steps:,} steps on "
        f"{parallel.in_words(session.layout)}; compiled in {program.compile_seconds:.1f} s; writing {directory.path}"
    )
    if session.beginning.record is not None and step == 0:
        output.say(warm_start.in_words(session.beginning.record))
    if processes.is_first():
        settings = to_dict(config)
        told = {"run": settings["run"], "parallel": settings["parallel"]}
        directory.append_session({"step": step, **told, **described})


def _leave(session: Session, state: TrainState, scores: results.Scores, compile_seconds: float) -> dict[str, Any]:
    """Writes predictions, figures, report and, last of all, the summary, which marks the run as ended."""
    config, directory, test = session.config, session.directory, session.splits.test
    records = directory.records()
    results.save_predictions(directory, scores)
    figures = results.draw(records, scores, test.class_names)
    for name, figure in figures.items():
        directory.save_figure(name, figure)
    if config.run.tensorboard:
        tensorboard_log.write_figures(directory.path, config.total_steps, figures)
    summary = {
        "preset": config.preset,
        **results.summarize(records, state, scores, config, test.class_names),
        "dataset": config.data.name,
        "dataset_digest": session.dataset_digest,
        "compile_seconds": round(compile_seconds, 3),
        **{name: value for name, value in parallel.describe(session.layout).items() if name != "devices_seen"},
    }
    shown = results.Predictions(scores.logits, scores.member_logits)
    results.write_report(directory.path, config, config.total_steps, test, shown, summary=summary)
    directory.write_json("summary.json", summary)
    return summary
