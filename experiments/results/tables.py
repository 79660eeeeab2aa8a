"""Prints the tables of `experiments/results/*.json`: `python -m experiments.results.tables [--write]`.

With `--write`, puts them between their markers in the README and on the results page.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from scipy import stats

from experiments import markdown
from experiments.records import read_json, short_commit
from experiments.script import run_script
from fmnist_jax import PRESETS

ROOT = Path(__file__).parents[2]
EMPTY_NOTE = "*Nothing has been recorded yet.*"
_PAGE = ROOT / "docs" / "results.md"
PAGES: Mapping[str, Sequence[Path]] = {
    "results": (ROOT / "README.md", _PAGE),  # the site, which has no README, shows the page
    "changed": (_PAGE,),
    "accelerated": (_PAGE,),
    "ablation": (_PAGE,),
}
"""The pages that each table is on, by the table's name."""

Record = Mapping[str, Any]

_SCORES = {
    "test": "test_accuracy",
    "with mirror images": "test_accuracy_mirrored",
    "mirrored test": "test_accuracy_of_mirror_images",
}
"""The recorded scores of the test images, by heading."""


@dataclass(frozen=True)
class Arguments:
    """Prints the tables of the recorded results."""

    write: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write the tables to their pages."""


def read_records(folder: Path) -> list[Record]:
    """Reads the recorded runs, sorted by name, those of subfolders last."""
    paths = sorted(folder.rglob("*.json"), key=lambda path: (len(path.parts), path))
    return [read_json(path) for path in paths]


def make_tables(records: Sequence[Record]) -> dict[str, str]:
    """Makes the Markdown of each table, by the name of its markers."""
    results = [record for record in records if record["experiment"] == "results"]
    on_cpu = [record for record in results if not _is_accelerated(record)]
    return {
        "results": results_table([record for record in on_cpu if not _format_changes(record)]),
        "changed": results_table([record for record in on_cpu if _format_changes(record)]),
        "accelerated": results_table([record for record in results if _is_accelerated(record)]),
        "ablation": ablation_table([record for record in records if record["experiment"] == "ablation"]),
    }


def results_table(records: Sequence[Record]) -> str:
    """Makes a row for each preset and length, with the median time on each machine that trained seeds of it."""
    if not records:
        return EMPTY_NOTE
    headings = ("preset", "parameters", "epochs", "seeds", *_SCORES, "training time", "on")
    rows = []
    for group in _by_preset(records):
        first = group[0]
        # If several machines trained the same seed, the first one counts.
        runs = [*{record["seed"]: record for record in reversed(group)}.values()]
        scores = (_format_scores(runs, key) for key in _SCORES.values())
        seeds = sum(record.get("members", 1) for record in runs)
        counts = (f"{first['parameters']:,}", _format_length(first), str(seeds))
        rows.append((_format_name(first), *counts, *scores, *_format_times(group)))
    return f"{markdown.table(headings, rows)}\n\n{_origin_note(records)}"


def ablation_table(records: Sequence[Record]) -> str:
    """Makes a row for each preset and technique left out, with the difference from the whole preset.

    The error of a difference is that of two means over seeds. It ignores that all runs score the same images.
    """
    if not records:
        return EMPTY_NOTE
    headings = ("preset", "epochs", "without", "seeds", "validation", "change", "with mirror images", "change")
    rows = []
    for group in _by_preset(records):
        baseline = [record for record in group if not record["removed"]]
        variants = {"": baseline} if baseline else {}
        for record in group:
            if record["removed"]:
                variants.setdefault(record["removed"], []).append(record)
        for removed, runs in variants.items():
            cells = (group[0]["preset"], _format_length(group[0]), removed or "nothing", str(len(runs)))
            changes = (_format_comparison(runs, baseline, key) for key in ("val_accuracy", "val_accuracy_mirrored"))
            rows.append((*cells, *itertools.chain(*changes)))
    return f"{markdown.table(headings, rows)}\n\n{_origin_note(records)}"


def _by_preset(records: Sequence[Record]) -> list[list[Record]]:
    """Groups the records by preset, number of members, changes, length and accelerator, presets in their order."""
    groups: dict[tuple[int, int, str, str, str], list[Record]] = {}
    for record in records:
        preset, members = list(PRESETS).index(record["preset"]), record.get("members", 1)
        # With another accelerator or version of JAX, the same preset is another program.
        device = f"{machine_name(record['hardware'])} {record['versions']['jax']}" if _is_accelerated(record) else ""
        key = (preset, members, _format_changes(record), _format_length(record), device)
        groups.setdefault(key, []).append(record)
    return [groups[key] for key in sorted(groups)]


def _format_changes(record: Record) -> str:
    """The precision and the size of the batches, each if it is not that of the preset."""
    preset, config = PRESETS[record["preset"]], record["config"]
    dtype, batch_size = config["model"]["dtype"], config["train"]["batch_size"]
    in_precision = "" if dtype == preset.model.dtype else f" in {dtype}"
    return in_precision + ("" if batch_size == preset.train.batch_size else f", batches of {batch_size}")


def _format_name(record: Record) -> str:
    """The preset, what was changed of it, and how many models were averaged if it is an ensemble."""
    name = f"{record['preset']}{_format_changes(record)}"
    return f"{name}, {record['members']} averaged" if "members" in record else name


def _format_length(record: Record) -> str:
    """The number of epochs, and for a shortened run the full number and the training images."""
    if record["full_length"]:
        return str(record["epochs"])
    return f"{record['epochs']} of {PRESETS[record['preset']].train.epochs}, {record['train_images']:,} images"


def _format_scores(group: Sequence[Record], name: str) -> str:
    # Files from before a score was recorded lack it.
    values = [record[name] for record in group if record.get(name) is not None]
    return _format_percentage(values) if values else ""


def _format_comparison(runs: Sequence[Record], baseline: Sequence[Record], name: str) -> tuple[str, str]:
    """The mean of some runs, and its difference in points from that of `baseline`, ± half its 95 % interval (Welch)."""
    values, baseline_values = (
        [record[name] for record in group if record[name] is not None] for group in (runs, baseline)
    )
    if not values or not baseline_values or runs is baseline:
        return _format_scores(runs, name), ""
    change = f"{100 * (statistics.mean(values) - statistics.mean(baseline_values)):+.2f}"
    if min(len(values), len(baseline_values)) > 1:
        low, high = stats.ttest_ind(values, baseline_values, equal_var=False).confidence_interval(0.95)
        change += f" ± {100 * (high - low) / 2:.2f}"
    return _format_scores(runs, name), change


def _format_percentage(values: Sequence[float]) -> str:
    """The mean and, of several values, the standard deviation."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}%{deviation}"


def _format_times(group: Sequence[Record]) -> tuple[str, str]:
    """The median time on each machine, for an ensemble that of all its members there, and how many trained where."""
    seconds_by_machine: dict[str, list[list[float]]] = {}
    for record in group:
        by_machine: dict[str, list[float]] = {}
        for training in _trainings(record):
            by_machine.setdefault(machine_name(training["hardware"]), []).append(training["train_seconds"])
        for name, seconds in by_machine.items():
            seconds_by_machine.setdefault(name, []).append(seconds)
    times = "; ".join(_format_duration(statistics.median(map(sum, groups))) for groups in seconds_by_machine.values())
    counts = {name: sum(map(len, groups)) for name, groups in seconds_by_machine.items()}
    unit = "members" if "members" in group[0] else "seeds"
    is_mixed = len(seconds_by_machine) > 1
    return times, "; ".join(f"{name} ({count} of the {unit})" if is_mixed else name for name, count in counts.items())


def _trainings(record: Record) -> Sequence[Record]:
    """The training runs behind a result: for an ensemble each member's, perhaps on different machines."""
    return record.get("trained", [record])


def _is_accelerated(record: Record) -> bool:
    """Whether any of it was trained on anything other than a CPU."""
    return any(training["hardware"]["backend"] != "cpu" for training in _trainings(record))


def _format_duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def machine_name(hardware: Mapping[str, Any]) -> str:
    """Names a machine by its cores and processor, or by its accelerators."""
    if hardware["backend"] == "cpu":
        cores = hardware["cpu_count"]
        return f"{cores} core{'s' if cores != 1 else ''} of {hardware['processor']}"
    devices: list[str] = hardware["devices"]
    return devices[0] if len(devices) == 1 else f"{len(devices)} x {devices[0]}"


def _origin_note(records: Sequence[Record]) -> str:
    """States the commits and versions of the runs, for whoever wants to repeat them."""
    origins = [origin for record in records for origin in (*_trainings(record), *record.get("gone_on", ()))]
    commits = sorted({short_commit(origin["commit"] or "unknown") for origin in origins})
    versions = sorted({origin["versions"]["jax"] for origin in origins})
    return (
        f"At commit {', '.join(commits)}, with jax {', '.join(versions)}; each run is a file in `experiments/results/`."
    )


def fill_markers(text: str, contents: Mapping[str, str]) -> str:
    """Replaces the text between the markers of each table."""
    for name, content in contents.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.partition(f"<!-- /{name} -->")[2]
        text = f"{before}<!-- {name} -->\n{content}\n<!-- /{name} -->{after}"
    return text


def fill_page(page: Path, contents: Mapping[str, str]) -> None:
    """Replaces the text between the markers of each table on a page."""
    page.write_text(fill_markers(page.read_text(), contents))


def main(arguments: Arguments) -> None:
    """Writes the tables if asked to, and prints them."""
    contents = make_tables(read_records(ROOT / "experiments" / "results"))
    if arguments.write:
        for name, table in contents.items():
            for page in PAGES[name]:
                fill_page(page, {name: table})
    print("\n\n".join(contents.values()))


if __name__ == "__main__":
    run_script(main, Arguments)
