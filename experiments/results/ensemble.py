"""Scores runs that were trained separately as an ensemble: `python -m experiments.results.ensemble RUN RUN...`.

Their probabilities for each test image are averaged, and so are those that include mirror images where the runs have
them. With `--record NAME` the result is written beside those of the runs, for the README's table. To train an ensemble
as one run, and have it scored in the report, use `python -m fmnist_jax.train --population.seeds 5`.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from experiments.records import origin, read_json, write_json
from experiments.results.record import RESULTS, Trial, make_record, training_settings
from experiments.script import run_script
from fmnist_jax import Assessment, FmnistError, assess, from_dict, mean_log_probabilities

_SINGLE_RUN_KEYS = ("test_accuracy_of_mirror_images", "state_digest", "compile_seconds", "images_per_second")


@dataclass(frozen=True)
class Arguments:
    """Scores runs that were trained separately as an ensemble."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories of one configuration, each with a different seed."""
    record: str | None = None
    """Name of the result file to write."""
    results: Path = RESULTS
    """Folder of the result files."""


def read_members(runs: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Reads the files of each run: `config`, `summary`, `environment` and `predictions`.

    Raises:
      FmnistError: there are fewer than two runs, a seed repeats, or a run has not ended, is a population, or differs
        from the first one in more than its seed; or one of its files is missing or damaged.
    """
    members = []
    for run in runs:
        if not (run / "summary.json").is_file():
            raise FmnistError(f"{run} holds no finished run: its summary.json is missing")
        records = {name: read_json(run / f"{name}.json") for name in ("config", "summary", "environment")}
        if "population" in records["summary"]:
            raise FmnistError(f"{run} is a population, whose own report scores its ensemble: expected single runs")
        try:
            with np.load(run / "predictions.npz") as arrays:
                members.append({**records, "predictions": dict(arrays)})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FmnistError(f"{run / 'predictions.npz'} cannot be read ({error}): restore it") from error
        if _unseeded(members[-1]) != _unseeded(members[0]):
            raise FmnistError(f"{run} differs from {runs[0]} in more than its seed: expected runs of one configuration")
        if members[-1]["summary"].get("dataset_digest") != members[0]["summary"].get("dataset_digest"):
            raise FmnistError(f"{run} was trained on other images than {runs[0]}: expected runs on one data set")
    if len({member["config"]["train"]["seed"] for member in members}) < max(2, len(members)):
        raise FmnistError(f"{len(members)} runs are given: expected two or more, all with different seeds")
    return members


def _unseeded(member: Mapping[str, Any]) -> dict[str, Any]:
    values = training_settings(from_dict(member["config"]))
    return {**values, "train": {**values["train"], "seed": None}}


def score_members(members: list[dict[str, Any]]) -> dict[str, float | None]:
    """Accuracy and loss of the mean probabilities, and their accuracy with mirror images averaged in."""

    def assess_mean(name: str) -> Assessment:
        logits = np.stack([member["predictions"][name] for member in members])
        return assess(np.asarray(mean_log_probabilities(jnp.asarray(logits))), members[0]["predictions"]["labels"])

    plain = assess_mean("logits")
    has_mirrored = all("mirrored_logits" in member["predictions"] for member in members)
    return {
        "test_accuracy": float(plain.accuracy),
        "test_loss": float(plain.loss),
        "test_accuracy_mirrored": float(assess_mean("mirrored_logits").accuracy) if has_mirrored else None,
    }


def main(arguments: Arguments) -> dict[str, float | None]:
    """Prints the members' accuracies and the ensemble's; returns the ensemble's scores, and writes them if asked to.

    Raises:
      FmnistError: the file is the record of a single run, or the runs do not belong together.
    """
    path = arguments.results / f"{arguments.record}.json"
    if arguments.record is not None and path.exists() and "members" not in read_json(path):
        raise FmnistError(f"{path} is the record of a single run: give another name for --record")
    members = read_members(arguments.runs)
    scores, first = score_members(members), members[0]
    for run, member in zip(arguments.runs, members, strict=True):
        print(f"{run}: {member['summary']['test_accuracy']:.2%}")
    mirrored = scores["test_accuracy_mirrored"]
    with_mirrors = "" if mirrored is None else f"; {mirrored:.2%} with mirror images averaged in"
    print(f"mean of their probabilities: {scores['test_accuracy']:.2%}{with_mirrors}")
    if arguments.record is None:
        return scores
    seconds = sum(member["summary"]["train_seconds"] for member in members)
    trial = Trial(arguments.record, from_dict(first["config"]), None)
    summary = {**first["summary"], **dict.fromkeys(_SINGLE_RUN_KEYS), **scores, "train_seconds": seconds}
    trainings = [
        {"train_seconds": member["summary"]["train_seconds"], **origin(member["environment"])} for member in members
    ]
    record = {
        **make_record("results", trial, summary, origin(first["environment"])),
        "members": len(members),
        "trained": trainings,
    }
    write_json(path, record)
    return scores


if __name__ == "__main__":
    run_script(main, Arguments)
