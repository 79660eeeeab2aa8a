"""Trains presets with several seeds and writes what they reach as data, one JSON file per run.

`python -m experiments.results.record --presets fast standard` trains on all training images and scores the test
images; with `--experiment ablation` it leaves out each of a preset's techniques, one at a time, and scores the
validation images, which are held out for it. Both skip what has been recorded, and an interrupted run resumes where it
stopped. Starting the same command several times, such as once per core (`taskset -c 0 python -m ... &`), shares the
runs among the processes. `experiments.results.tables` turns the files into the README's tables.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments import rehearsal
from experiments.records import make_folder, read_json, session_origins, write_json
from experiments.script import run_script
from fmnist_jax import (
    PRESETS,
    Config,
    FmnistError,
    PopulationConfig,
    RunInUseError,
    keep_freed_memory,
    run,
    to_dict,
)

RESULTS = Path(__file__).parent

# How to leave out each technique: section, field, value.
REMOVALS: Mapping[str, tuple[str, str, Any]] = {
    "mirroring": ("augment", "flip", "none"),
    "alternation of mirroring": ("augment", "flip", "random"),
    "shifts": ("augment", "crop_padding", 0),
    "rotation": ("augment", "rotation", 0.0),
    "random erasing": ("augment", "erase_probability", 0.0),
    "cutout": ("augment", "cutout", 0),
    "variations as of photos": ("augment", "photo_probability", 0.0),
    "mixup": ("augment", "mixup_alpha", 0.0),
    "CutMix": ("augment", "cutmix_alpha", 0.0),
    "label smoothing": ("train", "label_smoothing", 0.0),
    "dropout": ("model", "dropout", 0.0),
    "stochastic depth": ("model", "stochastic_depth", 0.0),
    "weight decay": ("optim", "weight_decay", 0.0),
    "warm-up": ("optim", "warmup", 0.0),
    "average of weights": ("train", "average_decay", 0.0),
}
_OFF_VALUES = ("none", 0)  # a technique that a preset does not use cannot be left out

_SUMMARY_KEYS = (
    *("parameters", "epochs", "steps", "train_seconds", "compile_seconds", "images_per_second"),
    *("state_digest", "dataset", "dataset_digest"),
)
_SCORE_KEYS = {
    "results": ("test_accuracy", "test_accuracy_mirrored", "test_accuracy_of_mirror_images", "test_loss"),
    # A choice among variants must not look at the test images.
    "ablation": ("val_accuracy", "val_accuracy_mirrored"),
}


Experiment = Literal["results", "ablation"]


@dataclass(frozen=True)
class Arguments:
    """Trains presets with several seeds and writes what they reach as data."""

    presets: tuple[str, ...]
    """Names of the presets to train."""
    experiment: Experiment = "results"
    """results: on all training images. ablation: without one technique at a time, scored on the validation split."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run for each."""
    at_once: int = 1
    """Train up to this many runs that differ only in their seed as one population, which pays off on a GPU or TPU."""
    epochs: int | None = None
    """Train for this many epochs instead of the preset's; the files say so."""
    images: int | None = None
    """Train on this many images and hold out the others; the files say so."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Compute in this precision instead of the preset's; the files say so."""
    batch_size: int | None = None
    """Train on batches of this many images instead of the preset's; the files say so."""
    results: Path = RESULTS
    """Folder of the JSON files; the tables also include those of its subfolders."""
    runs: Path = Path("runs/recorded")
    """Folder of the run directories."""
    rehearse: bool = False
    """Shrink networks and data to a few seconds' work, to try the command out."""


class Trial(NamedTuple):
    """One training run to be recorded."""

    name: str
    config: Config
    removed: str | None


def variants(experiment: Experiment, preset: Config) -> Iterator[Trial]:
    """Yields a preset as an experiment trains it, and for an ablation also without each of its techniques."""
    if experiment == "results":
        yield Trial(preset.preset, replace(preset, data=replace(preset.data, validation_size=0)), None)
        return
    yield Trial(f"{preset.preset}-ablation-nothing", preset, None)
    for technique, (section, field, off_value) in REMOVALS.items():
        section_config = getattr(preset, section)
        if getattr(section_config, field) not in (*_OFF_VALUES, off_value):
            name = f"{preset.preset}-ablation-{technique.lower().replace(' ', '-')}"
            yield Trial(name, replace(preset, **{section: replace(section_config, **{field: off_value})}), technique)


def trials(arguments: Arguments) -> Iterator[Trial]:
    """Yields all runs, seed by seed, so that the records cover the presets evenly at any time."""
    for seed in arguments.seeds:
        for preset in arguments.presets:
            for name, config, removed in variants(arguments.experiment, _preset(preset)):
                changed, suffix = override(rehearsal.shrink(config) if arguments.rehearse else config, arguments)
                scored = score_once_at_end(changed, arguments.experiment)
                train = replace(scored.train, seed=seed)
                yield Trial(f"{name}{suffix}-seed{seed}", replace(scored, train=train), removed)


def _preset(name: str) -> Config:
    if name not in PRESETS:
        raise FmnistError(f"{name} is not a preset: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def override(config: Config, arguments: Arguments) -> tuple[Config, str]:
    """Applies `--epochs`, `--images`, `--dtype` and `--batch-size`; also returns what to add to the name of a run."""
    data, train, model, suffix = config.data, config.train, config.model, ""
    if arguments.epochs is not None:
        train, suffix = replace(train, epochs=arguments.epochs), f"-{arguments.epochs}-epochs"
    if arguments.images is not None:
        data = replace(data, validation_size=data.train_size + data.validation_size - arguments.images)
        suffix += f"-{arguments.images}-images"
    if arguments.dtype:
        model, suffix = replace(model, dtype=arguments.dtype), f"{suffix}-{arguments.dtype}"
    if arguments.batch_size is not None:
        train, suffix = replace(train, batch_size=arguments.batch_size), f"{suffix}-batches-of-{arguments.batch_size}"
    return replace(config, data=data, train=train, model=model), suffix


def score_once_at_end(config: Config, experiment: Experiment) -> Config:
    """Has held-out images, which may outnumber the training images, scored no more often than they are recorded."""
    if not config.data.validation_size:
        return config
    train = replace(config.train, eval_every=config.train.epochs)
    if experiment == "results":
        # Mirror images are scored on both splits or on neither, so their score on the test images is given up, too.
        train = replace(train, eval_mirror=False)
    return replace(config, train=train)


def training_settings(config: Config) -> dict[str, Any]:
    """The configuration without paths on the machine and without what concerns the run alone."""
    values = to_dict(config)
    # Nor does it say whether the run was single or a member of a population, or over how many devices.
    del values["run"], values["parallel"], values["population"], values["data"]["dir"], values["data"]["raw_dir"]
    return values


def fill_defaults(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings, with sections and fields that have been added since at their defaults."""
    defaults = training_settings(Config())
    values = {
        name: {**defaults[name], **value} if isinstance(value, dict) else value for name, value in recorded.items()
    }
    return {**defaults, **values}


def group_consecutive_seeds(pending: Iterable[Trial], at_once: int) -> Iterator[list[Trial]]:
    """Groups trials that differ only in their seed and have consecutive seeds, up to `at_once` in a group."""
    groups: dict[Config, list[Trial]] = {}
    for trial in pending:
        unseeded = replace(trial.config, train=replace(trial.config.train, seed=0))
        groups.setdefault(unseeded, []).append(trial)
    for group in groups.values():
        members: list[Trial] = []
        for trial in sorted(group, key=lambda trial: trial.config.train.seed):
            if members and (len(members) == at_once or trial.config.train.seed != members[-1].config.train.seed + 1):
                yield members
                members = []
            members.append(trial)
        yield members


def record(arguments: Arguments, train: Callable[[Config], dict[str, Any]] = run) -> None:
    """Trains what has no file yet and is not being trained by another process.

    Raises:
      FmnistError: a file exists, but for another configuration than the preset's current one; or a rehearsal would
        write among the results; or an argument has an unusable value.
    """
    if arguments.at_once < 1:
        raise FmnistError(f"--at-once is {arguments.at_once}: choose 1 or more")
    if not arguments.presets:
        raise FmnistError(f"--presets is empty: choose from {', '.join(PRESETS)}")
    if not arguments.seeds:
        raise FmnistError("--seeds is empty: give one or more")
    if arguments.rehearse:
        rehearsal.refuse_results_folder(arguments.results, RESULTS)
    make_folder(arguments.results)
    pending = [trial for trial in trials(arguments) if not _is_recorded(arguments.results, trial)]
    groups = (
        group_consecutive_seeds(pending, arguments.at_once) if arguments.at_once > 1 else ([trial] for trial in pending)
    )
    for members in groups:
        first = members[0]
        if _is_recorded(arguments.results, first):  # by another process, meanwhile
            continue
        name = first.name if len(members) == 1 else f"{first.name}-to-{members[-1].config.train.seed}"
        config = replace(
            first.config,
            population=PopulationConfig(seeds=len(members)),
            run=replace(first.config.run, dir=arguments.runs / name, progress="plain"),
        )
        try:
            summary = train(config)
        except RunInUseError as error:
            print(f"left {name} to another process: {error}", flush=True)
            continue
        first_start, *later = session_origins(arguments.runs / name)
        for index, trial in enumerate(members):
            result = make_record(arguments.experiment, trial, member_summary(summary, index), first_start)
            write_json(arguments.results / f"{trial.name}.json", {**result, **({"gone_on": later} if later else {})})


def _is_recorded(results: Path, trial: Trial) -> bool:
    path = results / f"{trial.name}.json"
    if path.exists() and fill_defaults(read_json(path)["config"]) != training_settings(trial.config):
        raise FmnistError(f"{path} has a different configuration: delete it to train {trial.name} again")
    return path.exists()


def member_summary(summary: Mapping[str, Any], index: int) -> Mapping[str, Any]:
    """The summary of one member of a population, with its share of the time; for a single run its summary."""
    if "population" not in summary:
        return summary
    population = summary["population"]
    member_values = {name: values[index] for name, values in population.items() if isinstance(values, list)}
    shared = {"test_accuracy_mirrored": None, "val_accuracy": None, "val_accuracy_mirrored": None}
    seconds = {"train_seconds": summary["train_seconds"] / len(population["seeds"])}
    return {**summary, **shared, **member_values, **seconds}


def make_record(
    experiment: Experiment, trial: Trial, summary: Mapping[str, Any], origin: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of a run, given its `origin`."""
    config, preset = trial.config, _preset(trial.config.preset)
    full_size = preset.data.size if experiment == "results" else preset.data.train_size
    return {
        "experiment": experiment,
        "preset": config.preset,
        "removed": trial.removed,
        "seed": config.train.seed,
        "full_length": config.train.epochs == preset.train.epochs and config.data.train_size >= full_size,
        "train_images": config.data.train_size,
        **{key: summary[key] for key in (*_SCORE_KEYS[experiment], *_SUMMARY_KEYS)},
        **origin,
        "config": training_settings(config),
    }


if __name__ == "__main__":
    keep_freed_memory()  # as the command does
    run_script(record, Arguments)
