"""Results as data: what is recorded of a run, what is trained for it, and the tables that come of the files."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from experiments.results import record, tables
from fmnist_jax import PRESETS, Config, FmnistError, RunInUseError, to_dict, validate

_ROOT = Path(__file__).parents[2]


def test_the_tables_of_the_pages_are_those_of_the_committed_files() -> None:
    made = tables.tables(tables.read(_ROOT / "experiments" / "results"))
    assert made.keys() == tables.PAGES.keys()
    for name, table in made.items():
        page = tables.PAGES[name].read_text()
        assert tables.fill(page, {name: table}) == page


def test_the_exported_run_gets_right_what_was_recorded() -> None:
    page = (_ROOT / "docs" / "export.md").read_text()
    (said,) = re.findall(r"run of `fast` with seed 0 classifies ([\d.]+) %", page)
    recorded = json.loads((_ROOT / "experiments" / "results" / "fast-seed0.json").read_text())
    assert said == f"{100 * recorded['test_accuracy_mirrored']:.2f}"


def test_the_commands_of_the_page_find_all_that_they_would_record() -> None:
    page = (_ROOT / "docs" / "results.md").read_text()
    commands = re.findall(r"^    python -m experiments\.results\.record (.*)$", page, re.MULTILINE)
    recorded = [tyro.cli(record.Arguments, args=shlex.split(options)) for options in commands]
    for arguments in recorded:
        record.record(arguments, lambda config: pytest.fail(f"{config.preset} is not recorded"))
    names = {trial.name for arguments in recorded for trial in record.trials(arguments)}
    ensembles = set(re.findall(r"experiments\.results\.ensemble .* --record (\S+)", page))
    assert names | ensembles == {path.stem for path in (_ROOT / "experiments" / "results").rglob("*.json")}


def test_the_rows_of_a_table_are_of_one_commit() -> None:
    made = tables.tables(tables.read(_ROOT / "experiments" / "results"))
    for name in ("results", "ablation"):
        assert re.search(r"^At commit [0-9a-f]{7}, with jax [\d.]+;", made[name], re.MULTILINE), name


@pytest.fixture
def arguments(tmp_path: Path) -> Any:
    return record.Arguments(("fast",), seeds=(0, 1), results=tmp_path / "results", runs=tmp_path / "runs")


class Trainer:
    """Stands in for `fmnist_jax.run`, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.configs: list[Config] = []

    def __call__(self, config: Config) -> dict[str, Any]:
        validate(config)
        assert config.run.dir is not None
        config.run.dir.mkdir(parents=True)
        environment = {
            **{"python": "3.11", "packages": {"jax": "0.10"}, "platform": "secret", "processor": "Fast One"},
            **{
                "cpu_count": 2,
                "backend": "cpu",
                "devices": ["cpu"],
                "git_commit": "a" * 40 + "+changes",
                "command": ["/home/me"],
            },
        }
        (config.run.dir / "sessions.jsonl").write_text(f"{json.dumps(environment)}\n" * 2)
        self.configs.append(config)
        accuracy = 0.9 + 0.01 * config.train.seed - 0.1 * (config.train.label_smoothing == 0)
        mirrored = accuracy + 0.002 if config.train.eval_mirror else None
        return {
            **{"test_accuracy": accuracy, "test_accuracy_mirrored": None, "test_loss": 0.3},
            "test_accuracy_of_mirror_images": accuracy - 0.2,
            **{
                "val_accuracy": accuracy,
                "val_accuracy_mirrored": mirrored,
            },
            **{"parameters": 12_345, "epochs": config.train.epochs, "steps": 7, "train_seconds": 100.0},
            **{"compile_seconds": 1.0, "images_per_second": 5.0, "state_digest": "d", "dataset": "fashion_mnist"},
            **{"dataset_digest": "e", "seed": config.train.seed},
        }


def read(arguments: Any) -> list[Mapping[str, Any]]:
    return tables.read(arguments.results)


def test_results_are_of_all_training_images_and_hold_no_place_on_the_machine(arguments: Any, tmp_path: Path) -> None:
    trainer = Trainer()
    record.record(arguments, trainer)
    assert [config.train.seed for config in trainer.configs] == [0, 1]
    assert {config.data.validation_size for config in trainer.configs} == {0}
    assert {path.name for path in arguments.results.iterdir()} == {"fast-seed0.json", "fast-seed1.json"}
    first, second = read(arguments)
    assert (first["seed"], second["test_accuracy"], first["full_length"]) == (0, 0.91, True)
    assert first["hardware"] == {"backend": "cpu", "devices": ["cpu"], "cpu_count": 2, "processor": "Fast One"}
    assert first["versions"] == {"python": "3.11", "jax": "0.10"}
    assert first["config"]["optim"] == to_dict(PRESETS["fast"])["optim"]
    for text in (str(tmp_path), "/home/me", "secret"):
        assert text not in json.dumps([first, second])


def test_a_run_that_went_on_elsewhere_says_so(arguments: Any) -> None:
    def trained(config: Config) -> dict[str, Any]:
        summary = Trainer()(config)
        assert config.run.dir is not None
        with (config.run.dir / "sessions.jsonl").open("a") as file:
            first = json.loads((config.run.dir / "sessions.jsonl").read_text().splitlines()[0])
            file.write(json.dumps({**first, "cpu_count": 1, "git_commit": "b" * 40}) + "\n")
        return summary

    record.record(replace(arguments, seeds=(0,)), trained)
    record.record(replace(arguments, seeds=(1,)), Trainer())
    first, second = read(arguments)
    assert first["hardware"]["cpu_count"] == 2
    assert [(later["hardware"]["cpu_count"], later["commit"]) for later in first["gone_on"]] == [(1, "b" * 40)]
    assert "gone_on" not in second
    assert "At commit aaaaaaa+changes, bbbbbbb, with" in tables.tables([first, second])["results"]


def test_what_has_been_recorded_is_not_trained_again(arguments: Any) -> None:
    record.record(replace(arguments, seeds=(1,)), Trainer())
    trainer = Trainer()
    record.record(arguments, trainer)
    assert [config.train.seed for config in trainer.configs] == [0]
    record.record(arguments, trainer)
    assert len(trainer.configs) == 1


def test_what_another_process_is_training_is_left_to_it(arguments: Any) -> None:
    trainer = Trainer()

    def busy_at_seed_0(config: Config) -> dict[str, Any]:
        if config.train.seed == 0:
            raise RunInUseError("in use")
        return trainer(config)

    record.record(arguments, busy_at_seed_0)
    assert {path.name for path in arguments.results.iterdir()} == {"fast-seed1.json"}


def test_a_file_of_another_configuration_is_refused(arguments: Any) -> None:
    record.record(arguments, Trainer())
    path = arguments.results / "fast-seed1.json"
    stale = json.loads(path.read_text())
    stale["config"]["optim"]["peak_lr"] = 9.0
    path.write_text(json.dumps(stale))
    with pytest.raises(FmnistError, match=r"fast-seed1\.json has a different configuration: delete it"):
        record.record(arguments, Trainer())


def test_a_file_of_before_a_field_was_added_is_of_the_same_configuration(arguments: Any) -> None:
    trainer = Trainer()
    record.record(replace(arguments, presets=("demo",)), trainer)
    path = arguments.results / "demo-seed1.json"
    old = json.loads(path.read_text())
    del old["config"]["model"]["pooling"], old["config"]["optim"]["rest_lr"]
    path.write_text(json.dumps(old))
    record.record(replace(arguments, presets=("demo",)), trainer)
    assert len(trainer.configs) == 2


def test_a_shortened_run_says_so(arguments: Any) -> None:
    record.record(replace(arguments, epochs=1), Trainer())
    assert {record["full_length"] for record in read(arguments)} == {False}
    assert f"| 1 of {PRESETS['fast'].train.epochs}, 60,000 images |" in tables.results_table(read(arguments))


def test_a_run_on_all_images_but_those_of_a_validation_split_is_no_full_one(arguments: Any) -> None:
    record.record(replace(arguments, images=PRESETS["fast"].data.train_size), Trainer())
    assert {record["full_length"] for record in read(arguments)} == {False}


def test_a_preset_that_is_none_is_refused(arguments: Any) -> None:
    with pytest.raises(FmnistError, match="nope is not a preset: choose from standard, fast"):
        record.record(replace(arguments, presets=("nope",)), Trainer())


def test_a_run_on_fewer_images_says_so_and_holds_the_others_out(arguments: Any) -> None:
    trainer = Trainer()
    record.record(replace(arguments, presets=("demo",), images=6_000), trainer)
    assert PRESETS["demo"].train.eval_mirror
    assert {config.data.train_size for config in trainer.configs} == {6_000}
    assert {(config.train.eval_every, config.train.eval_mirror) for config in trainer.configs} == {(4, False)}
    assert {path.name for path in arguments.results.iterdir()} == {
        f"demo-6000-images-seed{seed}.json" for seed in (0, 1)
    }
    assert "| 4 of 4, 6,000 images |" in tables.results_table(read(arguments))


def ablated(preset: str) -> Iterator[tuple[str | None, Config]]:
    for trial in record.variants("ablation", PRESETS[preset]):
        yield trial.removed, trial.config


@pytest.mark.parametrize("preset", PRESETS)
def test_an_ablation_changes_one_technique_that_the_preset_has(preset: str) -> None:
    (nothing, whole), *others = ablated(preset)
    assert (nothing, whole) == (None, PRESETS[preset])
    assert len(others) >= 3
    for removed, config in others:
        validate(config)
        before, after = to_dict(whole), to_dict(config)
        changed = [
            (part, name)
            for part in before
            if part != "preset"
            for name in before[part]
            if before[part][name] != after[part][name]
        ]
        assert removed is not None
        assert changed == [record.REMOVALS[removed][:2]]


def test_an_ablation_covers_what_record_is_made_of() -> None:
    removed = {name for name, _ in ablated("record")}
    assert removed >= {"mirroring", "random erasing", "label smoothing", "stochastic depth", "weight decay"}
    assert removed >= {"alternation of mirroring", "shifts", "CutMix"}
    assert not removed & {"mixup", "dropout", "cutout", "rotation", "average of weights"}


def test_an_ablation_does_not_look_at_the_test_images(arguments: Any) -> None:
    trainer = Trainer()
    record.record(replace(arguments, experiment="ablation", presets=("standard",), seeds=(0, 1, 2)), trainer)
    assert {config.data.validation_size for config in trainer.configs} == {5_000}
    assert all(
        config.train.eval_every == config.train.epochs and config.train.eval_mirror for config in trainer.configs
    )
    assert len(trainer.configs) == len(list(arguments.results.iterdir())) == 3 * len(list(ablated("standard")))
    assert not any("test_accuracy" in record for record in read(arguments))
    table, epochs = tables.tables(read(arguments))["ablation"].splitlines(), PRESETS["standard"].train.epochs
    assert table[2] == f"| standard | {epochs} | nothing | 3 | 91.00% ± 1.00 |  | 91.20% ± 1.00 |  |"
    # Of two means of three with one deviation, by Student's t of four degrees of freedom: 2.776 sqrt(1 / 3 + 1 / 3).
    without = f"| standard | {epochs} | label smoothing | 3 | 81.00% ± 1.00 | -10.00 ± 2.27 | 81.20% ± 1.00 | "
    assert without + "-10.00 ± 2.27 |" in table


def test_a_difference_between_single_runs_has_no_error(arguments: Any) -> None:
    record.record(replace(arguments, experiment="ablation", presets=("demo",), seeds=(0,)), Trainer())
    assert "| label smoothing | 1 | 80.00% | -10.00 | 80.20% | -10.00 |" in tables.ablation_table(read(arguments))


def test_an_ablation_without_the_whole_preset_states_no_difference(arguments: Any) -> None:
    record.record(replace(arguments, experiment="ablation", presets=("demo",)), Trainer())
    rest = [record for record in read(arguments) if record["removed"]]
    table = tables.ablation_table(rest)
    assert "| nothing |" not in table
    assert "| label smoothing | 2 | 80.50% ± 0.71 |  | 80.70% ± 0.71 |  |" in table


def test_the_results_table_has_a_row_for_each_preset_in_their_order(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo", "fast")), Trainer())
    record.record(replace(arguments, presets=("standard",), seeds=(0,)), Trainer())
    standard, fast = (PRESETS[name].train.epochs for name in ("standard", "fast"))
    assert tables.tables(read(arguments))["results"].splitlines() == [
        "| preset | parameters | epochs | seeds | test | with mirror images | mirrored test | training time | on |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| standard | 12,345 | {standard} | 1 | 90.00% |  | 70.00% | 100 s | 2 cores of Fast One |",
        f"| fast | 12,345 | {fast} | 2 | 90.50% ± 0.71 |  | 70.50% ± 0.71 | 100 s | 2 cores of Fast One |",
        "| demo | 12,345 | 4 | 2 | 90.50% ± 0.71 |  | 70.50% ± 0.71 | 100 s | 2 cores of Fast One |",
        "",
        "At commit aaaaaaa+changes, with jax 0.10; each run is a file in `experiments/results/`.",
    ]


def test_seeds_of_several_machines_share_a_row_with_the_median_time_on_each(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo",), seeds=(0, 1, 2)), Trainer())
    first, *others = read(arguments)
    gpu = {"backend": "gpu", "devices": ["Big One"], "cpu_count": 16, "processor": "Other"}
    elsewhere = {**first, "hardware": gpu, "train_seconds": 7.0}
    row = tables.results_table([elsewhere, *others]).splitlines()[2]
    times = "| 7 s; 100 s | Big One (1 of the seeds); 2 cores of Fast One (2 of the seeds) |"
    assert row == f"| demo | 12,345 | 4 | 3 | 91.00% ± 1.00 |  | 71.00% ± 1.00 {times}"
    again = {
        **elsewhere,
        "test_accuracy": 0.5,
        "test_accuracy_of_mirror_images": 0.5,
    }  # of a seed that is there already
    row = tables.results_table([first, *others, again]).splitlines()[2]
    times = "| 100 s; 7 s | 2 cores of Fast One (3 of the seeds); Big One (1 of the seeds) |"
    assert row == f"| demo | 12,345 | 4 | 3 | 91.00% ± 1.00 |  | 71.00% ± 1.00 {times}"


def test_results_of_accelerators_have_a_table_of_their_own(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo",)), Trainer())
    first, second = read(arguments)
    gpu = {**second, "hardware": {"backend": "gpu", "devices": ["Big One"], "cpu_count": 16, "processor": "Other"}}
    mixed = {**first, "members": 2, "trained": [first, gpu]}
    made = tables.tables([first, gpu, mixed])
    assert [line.split(" | ")[0] for line in made["results"].splitlines() if "12,345" in line] == ["| demo"]
    assert "Big One" not in made["results"]
    rows = [line.split(" | ")[0] for line in made["accelerated"].splitlines() if "12,345" in line]
    assert rows == ["| demo", "| demo, 2 averaged"]


def test_a_file_of_before_a_score_was_recorded_has_an_empty_cell(arguments: Any) -> None:
    record.record(replace(arguments, seeds=(0,)), Trainer())
    (found,) = read(arguments)
    old = {name: value for name, value in found.items() if name != "test_accuracy_of_mirror_images"}
    assert "| 90.00% |  |  | 100 s |" in tables.results_table([old])


def test_filling_replaces_what_stands_between_the_markers_alone() -> None:
    text = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n<!-- ablation -->\n<!-- /ablation -->\n"
    filled = tables.fill(text, {"results": r"1 \g<0>", "ablation": "2"})
    assert filled == "a\n<!-- results -->\n1 \\g<0>\n<!-- /results -->\nb\n<!-- ablation -->\n2\n<!-- /ablation -->\n"
    assert tables.fill(filled, {"results": r"1 \g<0>"}) == filled


def test_tables_say_so_where_nothing_has_been_recorded() -> None:
    assert set(tables.tables([]).values()) == {"*Nothing has been recorded yet.*"}


class PopulationTrainer(Trainer):
    """Stands in for `fmnist_jax.run` of populations."""

    def __call__(self, config: Config) -> dict[str, Any]:
        summary = super().__call__(config)
        seeds = [config.train.seed + member for member in range(config.population.seeds)]
        own = {
            "test_accuracy": [0.9 + 0.01 * seed for seed in seeds],
            "test_accuracy_of_mirror_images": [0.7 + 0.01 * seed for seed in seeds],
            "test_loss": [0.3 for _ in seeds],
        }
        return {**summary, "population": {"seeds": seeds, **own, "state_digest": [f"d{seed}" for seed in seeds]}}


def test_seeds_that_are_trained_at_once_are_recorded_as_those_of_runs_alone(arguments: Any) -> None:
    trainer = PopulationTrainer()
    record.record(replace(arguments, seeds=(0, 1, 2, 4), at_once=2), trainer)
    trained = [(config.train.seed, config.population.seeds) for config in trainer.configs]
    assert trained == [(0, 2), (2, 1), (4, 1)]
    found = {entry["seed"]: entry for entry in read(arguments)}
    assert [found[seed]["test_accuracy"] for seed in (0, 1, 2, 4)] == pytest.approx([0.9, 0.91, 0.92, 0.94])
    assert found[1]["test_accuracy_of_mirror_images"] == pytest.approx(0.71)
    assert found[1]["state_digest"] == "d1"
    assert (found[1]["train_seconds"], found[4]["train_seconds"]) == (50.0, 100.0)
    assert found[0]["config"] == {**found[1]["config"], "train": {**found[1]["config"]["train"], "seed": 0}}
    record.record(replace(arguments, seeds=(0, 1, 2, 4)), trainer)
    assert len(trainer.configs) == 3  # nothing is trained again
