"""Results as data: what is recorded for a run, what is trained for it, and the tables made from the files."""

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


def test_tables_on_pages_match_the_committed_files() -> None:
    expected_tables = tables.make_tables(tables.read_records(_ROOT / "experiments" / "results"))
    assert expected_tables.keys() == tables.PAGES.keys()
    for name, table in expected_tables.items():
        for path in tables.PAGES[name]:
            page = path.read_text()
            assert tables.fill_markers(page, {name: table}) == page


def test_accuracy_on_the_export_page_matches_the_recorded_run() -> None:
    page = (_ROOT / "docs" / "export.md").read_text()
    (stated_accuracy,) = re.findall(r"run of `fast` with seed 0 classifies ([\d.]+) %", page)
    recorded = json.loads((_ROOT / "experiments" / "results" / "fast-seed0.json").read_text())
    assert stated_accuracy == f"{100 * recorded['test_accuracy_mirrored']:.2f}"


def test_commands_on_the_results_page_cover_exactly_the_recorded_files() -> None:
    page = (_ROOT / "docs" / "results.md").read_text()
    commands = re.findall(r"^    python -m experiments\.results\.record (.*)$", page, re.MULTILINE)
    parsed = [tyro.cli(record.Arguments, args=shlex.split(options)) for options in commands]
    for arguments in parsed:
        record.record(arguments, lambda config: pytest.fail(f"{config.preset} is not recorded"))
    names = {trial.name for arguments in parsed for trial in record.trials(arguments)}
    ensembles = set(re.findall(r"experiments\.results\.ensemble .* --record (\S+)", page))
    assert names | ensembles == {path.stem for path in (_ROOT / "experiments" / "results").rglob("*.json")}


def test_each_table_states_a_single_commit_and_jax_version() -> None:
    page_tables = tables.make_tables(tables.read_records(_ROOT / "experiments" / "results"))
    for name in ("results", "ablation"):
        assert re.search(r"^At commit [0-9a-f]{7}, with jax [\d.]+;", page_tables[name], re.MULTILINE), name


@pytest.fixture
def arguments(tmp_path: Path) -> Any:
    return record.Arguments(("fast",), seeds=(0, 1), results=tmp_path / "results", runs=tmp_path / "runs")


class FakeTrainer:
    """Stands in for `fmnist_jax.run`, and remembers the configurations."""

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


def read_records(arguments: Any) -> list[Mapping[str, Any]]:
    return tables.read_records(arguments.results)


def test_results_use_all_training_images_and_contain_no_paths(arguments: Any, tmp_path: Path) -> None:
    trainer = FakeTrainer()
    record.record(arguments, trainer)
    assert [config.train.seed for config in trainer.configs] == [0, 1]
    assert {config.data.validation_size for config in trainer.configs} == {0}
    assert {path.name for path in arguments.results.iterdir()} == {"fast-seed0.json", "fast-seed1.json"}
    first, second = read_records(arguments)
    assert (first["seed"], second["test_accuracy"], first["full_length"]) == (0, 0.91, True)
    assert first["hardware"] == {"backend": "cpu", "devices": ["cpu"], "cpu_count": 2, "processor": "Fast One"}
    assert first["versions"] == {"python": "3.11", "jax": "0.10"}
    assert first["config"]["optim"] == to_dict(PRESETS["fast"])["optim"]
    for text in (str(tmp_path), "/home/me", "secret"):
        assert text not in json.dumps([first, second])


def test_run_resumed_elsewhere_records_both_origins(arguments: Any) -> None:
    def train_elsewhere(config: Config) -> dict[str, Any]:
        summary = FakeTrainer()(config)
        assert config.run.dir is not None
        with (config.run.dir / "sessions.jsonl").open("a") as file:
            first = json.loads((config.run.dir / "sessions.jsonl").read_text().splitlines()[0])
            file.write(json.dumps({**first, "cpu_count": 1, "git_commit": "b" * 40}) + "\n")
        return summary

    record.record(replace(arguments, seeds=(0,)), train_elsewhere)
    record.record(replace(arguments, seeds=(1,)), FakeTrainer())
    session, second = read_records(arguments)
    assert session["hardware"]["cpu_count"] == 2
    assert [(later["hardware"]["cpu_count"], later["commit"]) for later in session["gone_on"]] == [(1, "b" * 40)]
    assert "gone_on" not in second
    assert "At commit aaaaaaa+changes, bbbbbbb, with" in tables.make_tables([session, second])["results"]


def test_recorded_runs_are_not_trained_again(arguments: Any) -> None:
    record.record(replace(arguments, seeds=(1,)), FakeTrainer())
    trainer = FakeTrainer()
    record.record(arguments, trainer)
    assert [config.train.seed for config in trainer.configs] == [0]
    record.record(arguments, trainer)
    assert len(trainer.configs) == 1


def test_run_in_use_by_another_process_is_skipped(arguments: Any) -> None:
    trainer = FakeTrainer()

    def busy_at_seed_0(config: Config) -> dict[str, Any]:
        if config.train.seed == 0:
            raise RunInUseError("in use")
        return trainer(config)

    record.record(arguments, busy_at_seed_0)
    assert {path.name for path in arguments.results.iterdir()} == {"fast-seed1.json"}


def test_result_file_of_another_configuration_is_refused(arguments: Any) -> None:
    record.record(arguments, FakeTrainer())
    path = arguments.results / "fast-seed1.json"
    stale = json.loads(path.read_text())
    stale["config"]["optim"]["peak_lr"] = 9.0
    path.write_text(json.dumps(stale))
    with pytest.raises(FmnistError, match=r"fast-seed1\.json has a different configuration: delete it"):
        record.record(arguments, FakeTrainer())


def test_result_file_from_before_a_config_field_is_accepted(arguments: Any) -> None:
    trainer = FakeTrainer()
    record.record(replace(arguments, presets=("demo",)), trainer)
    path = arguments.results / "demo-seed1.json"
    old = json.loads(path.read_text())
    del old["config"]["model"]["pooling"], old["config"]["optim"]["rest_lr"]
    path.write_text(json.dumps(old))
    record.record(replace(arguments, presets=("demo",)), trainer)
    assert len(trainer.configs) == 2


def test_shortened_run_is_marked_in_record_and_table(arguments: Any) -> None:
    record.record(replace(arguments, epochs=1), FakeTrainer())
    assert {record["full_length"] for record in read_records(arguments)} == {False}
    assert f"| 1 of {PRESETS['fast'].train.epochs}, 60,000 images |" in tables.results_table(read_records(arguments))


def test_run_in_another_precision_is_named_so_and_has_a_row_of_its_own(arguments: Any) -> None:
    trainer = FakeTrainer()
    record.record(arguments, trainer)
    record.record(replace(arguments, dtype="bfloat16"), trainer)
    assert [config.model.dtype for config in trainer.configs] == ["float32", "float32", "bfloat16", "bfloat16"]
    assert {path.name for path in arguments.results.glob("*bfloat16*")} == {
        f"fast-bfloat16-seed{seed}.json" for seed in (0, 1)
    }
    rows = tables.results_table(read_records(arguments)).splitlines()[2:4]
    assert [row.split(" | ")[0] for row in rows] == ["| fast", "| fast in bfloat16"]
    assert {record["full_length"] for record in read_records(arguments)} == {True}


def test_run_with_other_batches_is_named_so_and_has_a_row_of_its_own(arguments: Any) -> None:
    trainer = FakeTrainer()
    record.record(arguments, trainer)
    record.record(replace(arguments, dtype="bfloat16", batch_size=64), trainer)
    assert [config.train.batch_size for config in trainer.configs] == [PRESETS["fast"].train.batch_size] * 2 + [64] * 2
    assert (arguments.results / "fast-bfloat16-batches-of-64-seed1.json").exists()
    rows = tables.results_table(read_records(arguments)).splitlines()[2:4]
    assert [row.split(" | ")[0] for row in rows] == ["| fast", "| fast in bfloat16, batches of 64"]


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"epochs": 0}, "--train.epochs is 0"),
        ({"batch_size": 0}, "--train.batch-size is 0"),
        ({"at_once": 0}, "--at-once is 0: choose 1 or more"),
        ({"presets": ()}, "--presets is empty: choose from standard"),
        ({"seeds": ()}, "--seeds is empty: give one or more"),
    ],
)
def test_zero_is_refused_and_not_taken_for_unset(arguments: Any, changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(FmnistError, match=flag):
        record.record(replace(arguments, **changes), validate)  # type: ignore[arg-type]


def test_run_without_the_validation_images_is_not_full_length(arguments: Any) -> None:
    record.record(replace(arguments, images=PRESETS["fast"].data.train_size), FakeTrainer())
    assert {record["full_length"] for record in read_records(arguments)} == {False}


def test_unknown_preset_is_refused(arguments: Any) -> None:
    with pytest.raises(FmnistError, match="nope is not a preset: choose from standard, fast"):
        record.record(replace(arguments, presets=("nope",)), FakeTrainer())


def test_run_on_fewer_images_is_marked_and_holds_out_the_rest(arguments: Any) -> None:
    trainer = FakeTrainer()
    record.record(replace(arguments, presets=("demo",), images=6_000), trainer)
    assert PRESETS["demo"].train.eval_mirror
    assert {config.data.train_size for config in trainer.configs} == {6_000}
    assert {(config.train.eval_every, config.train.eval_mirror) for config in trainer.configs} == {(4, False)}
    assert {path.name for path in arguments.results.iterdir()} == {
        f"demo-6000-images-seed{seed}.json" for seed in (0, 1)
    }
    assert "| 4 of 4, 6,000 images |" in tables.results_table(read_records(arguments))


def ablation_variants(preset: str) -> Iterator[tuple[str | None, Config]]:
    for trial in record.variants("ablation", PRESETS[preset]):
        yield trial.removed, trial.config


@pytest.mark.parametrize("preset", PRESETS)
def test_ablation_changes_one_technique_of_the_preset(preset: str) -> None:
    (none_removed, preset_config), *others = ablation_variants(preset)
    assert (none_removed, preset_config) == (None, PRESETS[preset])
    assert len(others) >= 3
    for removed, config in others:
        validate(config)
        before, after = to_dict(preset_config), to_dict(config)
        changed = [
            (section, name)
            for section in before
            if section != "preset"
            for name in before[section]
            if before[section][name] != after[section][name]
        ]
        assert removed is not None
        assert changed == [record.REMOVALS[removed][:2]]


def test_ablation_covers_the_techniques_of_record() -> None:
    removed = {name for name, _ in ablation_variants("record")}
    assert removed >= {"mirroring", "random erasing", "label smoothing", "stochastic depth", "weight decay"}
    assert removed >= {"alternation of mirroring", "shifts", "CutMix"}
    assert not removed & {"mixup", "dropout", "cutout", "rotation", "average of weights"}


def test_ablation_scores_only_the_validation_images(arguments: Any) -> None:
    trainer = FakeTrainer()
    record.record(replace(arguments, experiment="ablation", presets=("standard",), seeds=(0, 1, 2)), trainer)
    assert {config.data.validation_size for config in trainer.configs} == {5_000}
    assert all(
        config.train.eval_every == config.train.epochs and config.train.eval_mirror for config in trainer.configs
    )
    assert (
        len(trainer.configs) == len(list(arguments.results.iterdir())) == 3 * len(list(ablation_variants("standard")))
    )
    assert not any("test_accuracy" in record for record in read_records(arguments))
    table, epochs = (
        tables.make_tables(read_records(arguments))["ablation"].splitlines(),
        PRESETS["standard"].train.epochs,
    )
    assert table[2] == f"| standard | {epochs} | nothing | 3 | 91.00% ± 1.00 |  | 91.20% ± 1.00 |  |"
    # Two means of three values of equal deviation; Student's t, four degrees of freedom: 2.776 sqrt(1 / 3 + 1 / 3).
    without = f"| standard | {epochs} | label smoothing | 3 | 81.00% ± 1.00 | -10.00 ± 2.27 | 81.20% ± 1.00 | "
    assert without + "-10.00 ± 2.27 |" in table


def test_difference_between_single_runs_has_no_error(arguments: Any) -> None:
    record.record(replace(arguments, experiment="ablation", presets=("demo",), seeds=(0,)), FakeTrainer())
    assert "| label smoothing | 1 | 80.00% | -10.00 | 80.20% | -10.00 |" in tables.ablation_table(
        read_records(arguments)
    )


def test_ablation_table_without_the_full_preset_has_no_differences(arguments: Any) -> None:
    record.record(replace(arguments, experiment="ablation", presets=("demo",)), FakeTrainer())
    ablated = [record for record in read_records(arguments) if record["removed"]]
    table = tables.ablation_table(ablated)
    assert "| nothing |" not in table
    assert "| label smoothing | 2 | 80.50% ± 0.71 |  | 80.70% ± 0.71 |  |" in table


def test_results_table_has_a_row_for_each_preset_in_order(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo", "fast")), FakeTrainer())
    record.record(replace(arguments, presets=("standard",), seeds=(0,)), FakeTrainer())
    standard, fast = (PRESETS[name].train.epochs for name in ("standard", "fast"))
    assert tables.make_tables(read_records(arguments))["results"].splitlines() == [
        "| preset | parameters | epochs | seeds | test | with mirror images | mirrored test | training time | on |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| standard | 12,345 | {standard} | 1 | 90.00% |  | 70.00% | 100 s | 2 cores of Fast One |",
        f"| fast | 12,345 | {fast} | 2 | 90.50% ± 0.71 |  | 70.50% ± 0.71 | 100 s | 2 cores of Fast One |",
        "| demo | 12,345 | 4 | 2 | 90.50% ± 0.71 |  | 70.50% ± 0.71 | 100 s | 2 cores of Fast One |",
        "",
        "At commit aaaaaaa+changes, with jax 0.10; each run is a file in `experiments/results/`.",
    ]


def test_seeds_from_several_machines_share_a_row_with_median_times(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo",), seeds=(0, 1, 2)), FakeTrainer())
    first, *others = read_records(arguments)
    large = {"backend": "cpu", "devices": ["cpu"], "cpu_count": 16, "processor": "Big One"}
    elsewhere = {**first, "hardware": large, "train_seconds": 7.0}
    row = tables.results_table([elsewhere, *others]).splitlines()[2]
    times = "| 7 s; 100 s | 16 cores of Big One (1 of the seeds); 2 cores of Fast One (2 of the seeds) |"
    assert row == f"| demo | 12,345 | 4 | 3 | 91.00% ± 1.00 |  | 71.00% ± 1.00 {times}"
    duplicate = {
        **elsewhere,
        "test_accuracy": 0.5,
        "test_accuracy_of_mirror_images": 0.5,
    }  # a seed that is already present
    row = tables.results_table([first, *others, duplicate]).splitlines()[2]
    times = "| 100 s; 7 s | 2 cores of Fast One (3 of the seeds); 16 cores of Big One (1 of the seeds) |"
    assert row == f"| demo | 12,345 | 4 | 3 | 91.00% ± 1.00 |  | 71.00% ± 1.00 {times}"


def test_accelerator_results_have_a_separate_table(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo",)), FakeTrainer())
    first, second = read_records(arguments)
    gpu = {**second, "hardware": {"backend": "gpu", "devices": ["Big One"], "cpu_count": 16, "processor": "Other"}}
    mixed = {**first, "members": 2, "trained": [first, gpu]}
    page_tables = tables.make_tables([first, gpu, mixed])
    assert [line.split(" | ")[0] for line in page_tables["results"].splitlines() if "12,345" in line] == ["| demo"]
    assert "Big One" not in page_tables["results"]
    rows = [line.split(" | ")[0] for line in page_tables["accelerated"].splitlines() if "12,345" in line]
    assert rows == ["| demo", "| demo, 2 averaged"]


def test_seeds_on_different_accelerators_or_versions_have_rows_of_their_own(arguments: Any) -> None:
    record.record(replace(arguments, presets=("demo",)), FakeTrainer())
    first, second = read_records(arguments)
    gpu = {"backend": "gpu", "devices": ["Big One"], "cpu_count": 16, "processor": "Other"}
    older = {**first, "hardware": gpu}
    newer = {**second, "hardware": gpu, "versions": {**second["versions"], "jax": "9.9"}}
    larger = {**second, "hardware": {**gpu, "devices": ["Bigger One"]}}
    rows = [line for line in tables.make_tables([older, newer, larger])["accelerated"].splitlines() if "12,345" in line]
    assert [line.split(" | ")[3] for line in rows] == ["1"] * 3
    assert sum("Bigger One" in line for line in rows) == 1


def test_missing_score_leaves_an_empty_cell(arguments: Any) -> None:
    record.record(replace(arguments, seeds=(0,)), FakeTrainer())
    (result,) = read_records(arguments)
    old = {name: value for name, value in result.items() if name != "test_accuracy_of_mirror_images"}
    assert "| 90.00% |  |  | 100 s |" in tables.results_table([old])


def test_fill_markers_replaces_only_the_text_between_markers() -> None:
    text = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n<!-- ablation -->\n<!-- /ablation -->\n"
    filled = tables.fill_markers(text, {"results": r"1 \g<0>", "ablation": "2"})
    assert filled == "a\n<!-- results -->\n1 \\g<0>\n<!-- /results -->\nb\n<!-- ablation -->\n2\n<!-- /ablation -->\n"
    assert tables.fill_markers(filled, {"results": r"1 \g<0>"}) == filled


def test_empty_tables_say_that_nothing_was_recorded() -> None:
    assert set(tables.make_tables([]).values()) == {"*Nothing has been recorded yet.*"}


class FakePopulationTrainer(FakeTrainer):
    """Stands in for `fmnist_jax.run` with populations."""

    def __call__(self, config: Config) -> dict[str, Any]:
        summary = super().__call__(config)
        seeds = [config.train.seed + member for member in range(config.population.seeds)]
        member_scores = {
            "test_accuracy": [0.9 + 0.01 * seed for seed in seeds],
            "test_accuracy_of_mirror_images": [0.7 + 0.01 * seed for seed in seeds],
            "test_loss": [0.3 for _ in seeds],
        }
        return {
            **summary,
            "population": {"seeds": seeds, **member_scores, "state_digest": [f"d{seed}" for seed in seeds]},
        }


def test_population_members_are_recorded_like_single_runs(arguments: Any) -> None:
    trainer = FakePopulationTrainer()
    record.record(replace(arguments, seeds=(0, 1, 2, 4), at_once=2), trainer)
    populations = [(config.train.seed, config.population.seeds) for config in trainer.configs]
    assert populations == [(0, 2), (2, 1), (4, 1)]
    by_seed = {entry["seed"]: entry for entry in read_records(arguments)}
    assert [by_seed[seed]["test_accuracy"] for seed in (0, 1, 2, 4)] == pytest.approx([0.9, 0.91, 0.92, 0.94])
    assert by_seed[1]["test_accuracy_of_mirror_images"] == pytest.approx(0.71)
    assert by_seed[1]["state_digest"] == "d1"
    assert (by_seed[1]["train_seconds"], by_seed[4]["train_seconds"]) == (50.0, 100.0)
    assert by_seed[0]["config"] == {**by_seed[1]["config"], "train": {**by_seed[1]["config"]["train"], "seed": 0}}
    record.record(replace(arguments, seeds=(0, 1, 2, 4)), trainer)
    assert len(trainer.configs) == 3  # nothing is trained again
