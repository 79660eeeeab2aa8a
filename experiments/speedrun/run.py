"""Trains an entry of the speedrun with many seeds and records seconds and accuracies.

`python -m experiments.speedrun.run --target 93` writes `experiments/speedrun/results/<machine>/fmnist_jax-93.json`
after every seed; seeds that are recorded there are not run again. With `--held-out 10000` it scores held-out training
images, to choose a recipe, and records nothing. The rules are in the `README.md` beside this module.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from experiments import rehearsal
from experiments.records import make_folder, origin, read_json, short_commit, write_json
from experiments.results.record import fill_defaults, training_settings
from experiments.results.tables import machine_name
from experiments.script import run_script, start_jax
from experiments.speedrun.entrant import Entrant
from experiments.speedrun.entries import ENTRIES, PLATFORMS, Device, Side, Target
from experiments.speedrun.score import MIN_SEEDS, describe_held_out, summarize, verdict
from fmnist_jax import Config, FmnistError, describe_environment, keep_freed_memory

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Arguments:
    """Trains an entry of the speedrun with many seeds and records seconds and accuracies."""

    target: Target
    """Test accuracy in per cent that the mean over seeds must reach."""
    side: Side = "fmnist_jax"
    """fmnist_jax: this project. pytorch: the baseline in PyTorch. pytorch-ours: fmnist_jax's recipe in PyTorch."""
    device: Device = "cpu"
    seeds: int = MIN_SEEDS
    """Number of runs, with seeds 0, 1, …"""
    held_out: int = 0
    """Hold out this many training images and score them, not the test images; prints the scores, records nothing."""
    results: Path = RESULTS
    """Folder of the result files, with a subfolder per machine."""
    rehearse: bool = False
    """Shrink network and data to a few seconds' work, to try the command out."""


def find_entry(arguments: Arguments) -> Config:
    """Finds the configuration to train.

    Raises:
      FmnistError: there is no such entry, `seeds` is less than 1, too many images are held out, or a rehearsal
        would write among the results.
    """
    if arguments.seeds < 1:
        raise FmnistError(f"--seeds is {arguments.seeds}: choose 1 or more, {MIN_SEEDS} for an entry")
    if arguments.rehearse:
        rehearsal.refuse_results_folder(arguments.results, RESULTS)
    entries = ENTRIES[arguments.side][arguments.device]
    if arguments.target not in entries:
        raise FmnistError(
            f"{arguments.side} has no entry for {arguments.target} % on a {arguments.device}: choose one of "
            f"{', '.join(entries)}, or add one to experiments/speedrun/entries.py"
        )
    config = entries[arguments.target]
    config = rehearsal.shrink(config) if arguments.rehearse else config
    max_held_out = config.data.size - config.train.batch_size
    if not 0 <= arguments.held_out <= max_held_out:
        raise FmnistError(
            f"--held-out is {arguments.held_out}: choose 0 to {max_held_out}, which leaves a batch to train on"
        )
    return replace(config, data=replace(config.data, validation_size=arguments.held_out))


def prepare(arguments: Arguments, config: Config) -> Entrant:
    """Makes a side ready to be timed.

    Raises:
      FmnistError: it needs PyTorch, which is not installed.
    """
    if arguments.side == "fmnist_jax":
        from experiments.speedrun import ours  # here, because only this side needs its parts

        return ours.prepare(config)
    if importlib.util.find_spec("torch") is None:
        raise FmnistError("PyTorch is not installed: pip install '.[bench]'")
    from experiments.speedrun import pytorch  # which imports torch

    return pytorch.prepare(config)


def result_path(folder: Path, side: str, target: str, hardware: Mapping[str, Any]) -> Path:
    """Names the file of an entry on a machine."""
    slug = "".join(character if character.isalnum() else " " for character in machine_name(hardware).lower()).split()
    return folder / "-".join(slug) / f"{side}-{target}.json"


def record(arguments: Arguments, entrant: Entrant, config: Config, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Times every seed that is not yet recorded, and writes the file after each.

    Raises:
      FmnistError: the file exists, but for another configuration, machine or version.
    """
    provenance = origin(environment)
    versions = {**provenance["versions"], **entrant.versions}
    identity = {**_identity(arguments, config, provenance), "versions": versions}
    path = result_path(arguments.results, arguments.side, arguments.target, provenance["hardware"])
    entry = _read_record(path, identity)
    compile_seconds, runs = entry.get("compile_seconds", []), entry.get("runs", [])
    pending = [seed for seed in range(arguments.seeds) if seed not in {run["seed"] for run in runs}]
    if pending:
        compile_seconds = [*compile_seconds, round(entrant.compile_seconds, 3)]
    for seed in pending:
        run = {**time_seed(entrant, seed), "commit": provenance["commit"]}
        runs = sorted([*runs, run], key=lambda run: run["seed"])
        summary = summarize(runs, arguments.target)._asdict()
        entry = {**identity, "summary": summary, "compile_seconds": compile_seconds, "runs": runs}
        write_json(path, entry)
    return entry


def find_finished(arguments: Arguments, config: Config, provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of an entry that has all its seeds, which is then neither compiled nor run again.

    Raises:
      FmnistError: it is of another configuration, machine or version; or it has enough seeds for an entry, and more are
        asked for.
    """
    path = result_path(arguments.results, arguments.side, arguments.target, provenance["hardware"])
    if not path.exists():
        return None
    versions = {**read_json(path)["versions"], **provenance["versions"]}  # and those of a side, which is not loaded yet
    entry = _read_record(path, {**_identity(arguments, config, provenance), "versions": versions})
    seeds = len(entry["runs"])
    if MIN_SEEDS <= seeds < arguments.seeds:
        raise FmnistError(f"{path} has {seeds} seeds, which the rules count as an entry: delete it to enter with more")
    if seeds < arguments.seeds:
        return None
    commits = ", ".join(sorted({short_commit(run["commit"] or "unknown") for run in entry["runs"]}))
    print(f"nothing to run: {path} has {seeds} seeds, of commit {commits}; delete it to run them again")
    return entry


def _identity(arguments: Arguments, config: Config, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What all seeds of an entry have in common, but for the versions that a side adds."""
    return {
        "side": arguments.side,
        "target": arguments.target,
        "config": training_settings(config),
        "hardware": provenance["hardware"],
        "versions": provenance["versions"],
    }


def _read_record(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    if not path.exists():
        return {}
    entry: dict[str, Any] = read_json(path)
    # The name of the preset does not affect training: an entry may have become a preset since.
    entry["config"] = {**fill_defaults(entry["config"]), "preset": identity["config"]["preset"]}
    if differences := [name for name, value in identity.items() if entry[name] != value]:
        raise FmnistError(f"{path} differs in {' and '.join(differences)}: delete it to run this entry again")
    return entry


def time_seed(entrant: Entrant, seed: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Trains from a seed; prints and returns its seconds and accuracy."""
    start = clock()
    weights = entrant.train(seed)
    seconds = clock() - start
    run = {"seed": seed, "seconds": round(seconds, 4), "accuracy": entrant.accuracy(weights)}
    print(f"seed {seed}: {seconds:.2f} s, {run['accuracy']:.2%}", flush=True)
    return run


def score_held_out(arguments: Arguments, entrant: Entrant) -> dict[str, Any]:
    """Times every seed, scores it on held-out images, and prints a summary."""
    runs = [time_seed(entrant, seed) for seed in range(arguments.seeds)]
    print(describe_held_out(summarize(runs, arguments.target), arguments.held_out))
    return {"runs": runs}


def main(arguments: Arguments) -> dict[str, Any]:
    """Prepares, times, records, and prints whether the target is reached; with held-out images only prints scores."""
    config = find_entry(arguments)
    if arguments.side != "fmnist_jax":
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # JAX evaluates the schedule there, beside PyTorch
    keep_freed_memory()  # as the command does
    start_jax(PLATFORMS[arguments.device])
    environment = describe_environment()
    if not arguments.held_out:
        make_folder(arguments.results)
        if (entry := find_finished(arguments, config, origin(environment))) is not None:
            print(verdict(summarize(entry["runs"], arguments.target), arguments.target))
            return entry
    jax.config.update("jax_enable_compilation_cache", False)  # the seconds of compilation are recorded
    entrant = prepare(arguments, config)
    print(f"{arguments.side}, {config.train.epochs} epochs; compiled in {entrant.compile_seconds:.1f} s", flush=True)
    if arguments.held_out:
        return score_held_out(arguments, entrant)
    entry = record(arguments, entrant, config, environment)
    print(verdict(summarize(entry["runs"], arguments.target), arguments.target))
    return entry


if __name__ == "__main__":
    run_script(main, Arguments)
