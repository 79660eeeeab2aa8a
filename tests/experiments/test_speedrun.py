"""The speedrun: what the clock covers, what is recorded and refused, and the table made from the files."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import rehearsal
from experiments.records import origin
from experiments.results.record import fill_defaults, training_settings
from experiments.results.tables import fill_markers
from experiments.speedrun import ours, run, score, table
from experiments.speedrun.entrant import Entrant
from experiments.speedrun.entries import BASELINE, ENTRIES, Device, with_mirroring
from fmnist_jax import (
    PRESETS,
    Config,
    DataConfig,
    FmnistError,
    load,
    make_mirrored_predict,
    make_predict,
    make_recipe,
    validate,
)

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT: Mapping[str, Any] = {
    **{"backend": "cpu", "devices": ["cpu"], "cpu_count": 2, "processor": "Fast (R) One", "platform": "secret"},
    **{"python": "3.11", "packages": {"jax": "0.10"}, "git_commit": "a" * 40, "command": ["/home/me"]},
}


class FakeSide:
    """Stands in for a side, and remembers the seeds that it has trained."""

    def __init__(self, *accuracies: float) -> None:
        self.accuracies, self.trained = accuracies, list[int]()

    def entrant(self) -> Entrant:
        return Entrant(self._train, lambda seed: self.accuracies[seed], 1.5, {"torch": "2.0"})

    def _train(self, seed: int) -> int:
        self.trained.append(seed)
        return seed


@pytest.fixture
def arguments(tmp_path: Path) -> run.Arguments:
    return run.Arguments("93", seeds=3, results=tmp_path)


def record_side(arguments: run.Arguments, side: FakeSide, config: Config = BASELINE, **changes: Any) -> dict[str, Any]:
    return run.record(arguments, side.entrant(), config, {**_ENVIRONMENT, **changes})


@pytest.mark.parametrize("side", ENTRIES)
def test_every_entry_is_valid_and_uses_all_training_images(side: Any) -> None:
    for device, entries in ENTRIES[side].items():
        for target, config in entries.items():
            validate(config)
            assert config.data.train_size == 60_000
            assert run.find_entry(run.Arguments(target, side=side, device=device)) == config


def test_missing_entry_is_refused() -> None:
    with pytest.raises(FmnistError, match="no entry for 96 % on a cpu: choose one of 92, 93"):
        run.find_entry(run.Arguments("96", side="pytorch"))


def test_entry_without_seeds_is_refused() -> None:
    with pytest.raises(FmnistError, match="--seeds is 0: choose 1 or more"):
        run.find_entry(run.Arguments("93", seeds=0))


@pytest.mark.parametrize("subfolder", ["", "trial", "../results"])
def test_rehearsal_in_the_results_folder_is_refused(subfolder: str) -> None:
    with pytest.raises(FmnistError, match="a separate folder"):
        run.find_entry(run.Arguments("93", rehearse=True, results=run.RESULTS / subfolder))


def test_result_file_has_every_seed_and_no_paths(arguments: run.Arguments) -> None:
    record = record_side(arguments, FakeSide(0.92, 0.93, 0.94))
    path = arguments.results / "2-cores-of-fast-r-one" / "fmnist_jax-93.json"
    assert json.loads(path.read_text()) == record
    assert [(entry["seed"], entry["accuracy"]) for entry in record["runs"]] == [(0, 0.92), (1, 0.93), (2, 0.94)]
    assert record["summary"]["accuracy_mean"] == pytest.approx(0.93)
    assert record["compile_seconds"] == [1.5]
    assert record["versions"] == {"python": "3.11", "jax": "0.10", "torch": "2.0"}
    assert record["config"]["optim"]["peak_lr"] == BASELINE.optim.peak_lr
    assert not any(text in path.read_text() for text in ("secret", "/home/me", str(arguments.results)))


def test_recorded_seeds_are_not_run_again(arguments: run.Arguments) -> None:
    first, second = FakeSide(0.9, 0.9, 0.9, 0.9), FakeSide(0.9, 0.9, 0.9, 0.9)
    record_side(replace(arguments, seeds=2), first)
    record = record_side(replace(arguments, seeds=4), second)
    assert (first.trained, second.trained) == ([0, 1], [2, 3])
    assert record["compile_seconds"] == [1.5, 1.5]
    assert record_side(replace(arguments, seeds=4), second) == record
    assert second.trained == [2, 3]


def test_entry_that_became_a_preset_is_resumed(arguments: run.Arguments) -> None:
    record_side(arguments, FakeSide(0.9, 0.9, 0.9))
    resumed = FakeSide(0.9, 0.9, 0.9)
    record_side(arguments, resumed, replace(BASELINE, preset="standard"))
    assert resumed.trained == []


def test_gpu_entry_of_95_percent_is_the_preset_wide_on_all_images() -> None:
    (path,) = run.RESULTS.glob("nvidia-h100-*/fmnist_jax-95.json")
    expected = training_settings(replace(PRESETS["wide"], data=DataConfig(validation_size=0)))
    assert {**fill_defaults(json.loads(path.read_text())["config"]), "preset": "wide"} == expected


def test_interrupted_run_keeps_its_finished_seeds(arguments: run.Arguments) -> None:
    with pytest.raises(IndexError):
        record_side(arguments, FakeSide(0.9, 0.9))
    side = FakeSide(0.9, 0.9, 0.9)
    record_side(arguments, side)
    assert side.trained == [2]


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (with_mirroring(BASELINE), {}, "differs in config"),
        (BASELINE, {"packages": {"jax": "0.11"}}, "differs in versions"),
    ],
)
def test_result_file_of_another_config_or_version_is_refused(
    arguments: run.Arguments, config: Config, changes: dict[str, Any], message: str
) -> None:
    record_side(arguments, FakeSide(0.9, 0.9, 0.9))
    with pytest.raises(FmnistError, match=f"{message}: delete it"):
        record_side(arguments, FakeSide(0.9, 0.9, 0.9), config, **changes)


def test_clock_covers_training_but_not_evaluation() -> None:
    times = iter([10.0, 12.5])
    events: list[str] = []

    def train(seed: int) -> str:
        events.append("trained")
        return "weights"

    def accuracy(weights: str) -> float:
        assert next(times, None) is None  # the clock is not read again
        events.append(f"scored {weights}")
        return 0.5

    timed_run = run.time_seed(Entrant(train, accuracy, 0.0, {}), 4, clock=lambda: next(times))
    assert timed_run == {"seed": 4, "seconds": 2.5, "accuracy": 0.5}
    assert events == ["trained", "scored weights"]


def make_runs(*accuracies: float) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "seconds": 10.0 + seed, "accuracy": accuracy, "commit": "b" * 40}
        for seed, accuracy in enumerate(accuracies)
    ]


def test_accuracy_margin_uses_students_t() -> None:
    summary = score.summarize(make_runs(0.92, 0.93, 0.94), "93")
    # 4.303 is the 97.5 % quantile of Student's t with two degrees of freedom, from a table.
    assert summary.accuracy_margin == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert (summary.seconds_median, summary.seconds_deviation) == (11.0, 1.0)
    single = score.summarize(make_runs(0.92), "93")
    assert (single.accuracy_margin, single.accuracy_deviation, single.seconds_deviation) == (None, None, None)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.93] * 10, "REACHED: the mean of 10 seeds is 93.000 ± 0.000 %"),
        ([0.93] * 9 + [0.9299], "NOT REACHED: the mean of 10 seeds is 92.999"),
        ([0.99] * 9, "NOT AN ENTRY YET: the mean of 9 seeds is 99.000"),
        ([0.99], "NOT AN ENTRY YET: the mean of 1 seed is 99.000 %, the target 93 %"),
    ],
)
def test_target_is_reached_only_by_the_mean_of_ten_seeds(accuracies: list[float], expected: str) -> None:
    assert score.verdict(score.summarize(make_runs(*accuracies), "93"), "93").startswith(expected)


def test_table_has_a_row_for_each_file_and_marks_missed_targets(arguments: run.Arguments) -> None:
    assert table.table([]) == "*Nothing has been recorded yet.*"
    record_side(replace(arguments, side="pytorch", target="92"), FakeSide(0.92, 0.94, 0.93))
    record = record_side(arguments, FakeSide(0.9, 0.9, 0.9), with_mirroring(BASELINE))
    (records,) = [table.read(arguments.results)]
    reached = {**record, "runs": make_runs(*[0.93] * 10)}
    rows = table.table([reached, *(other for other in records if other["side"] == "pytorch")]).splitlines()
    assert rows[2].startswith("| 92% | PyTorch, network of `fast` in 0.1.0 | 4 | 3 | *93.00% ± 2.48* | 0.0 ")
    assert rows[2].endswith("| 1.5 s | 2 cores of Fast (R) One | torch 2.0 |")
    assert rows[3].startswith("| 93% | fmnist_jax | 4 | 10 | 93.00% ± 0.00 | 14.5 (10.0 to 19.0) | 1.5 s | 2 cores of ")
    assert rows[3].endswith(" | jax 0.10 |")
    assert "At commit aaaaaaa, bbbbbbb." in rows[-1]


@pytest.mark.parametrize("page", table.PAGES, ids=["readme", "speedrun"])
def test_tables_on_pages_match_the_committed_files(page: Path) -> None:
    text = page.read_text()
    assert fill_markers(text, {"speedrun": table.table(table.read(run.RESULTS))}) == text


@pytest.fixture(scope="module")
def entrant() -> Entrant:
    config = rehearsal.shrink(BASELINE)
    return ours.prepare(replace(config, train=replace(config.train, epochs=8)))


def test_ours_trains_the_same_weights_from_the_same_seed_and_learns(entrant: Entrant) -> None:
    first, repeated, other = entrant.train(1), entrant.train(1), entrant.train(2)
    kernels = [np.asarray(weights.params["Conv_0"]["kernel"]) for weights in (first, repeated, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert entrant.accuracy(first) > 0.4
    assert entrant.compile_seconds > 0


def test_held_out_images_are_scored_and_nothing_is_recorded(
    arguments: run.Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out_arguments = replace(arguments, held_out=64, rehearse=True)
    config = run.find_entry(held_out_arguments)
    _, held_out, _ = load(config.data)
    assert (config.data.train_size, len(held_out)) == (256, 64)
    entrant = ours.prepare(config)
    weights = entrant.train(0)
    predict = jax.jit(make_mirrored_predict(make_predict(make_recipe(config).model)))
    logits = predict(weights.params, weights.batch_stats, held_out.images)
    assert entrant.accuracy(weights) == np.mean(np.argmax(logits, axis=-1) == held_out.labels)
    for name in ("keep_freed_memory", "start_jax"):  # they change the whole process
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(run, "prepare", lambda *_: FakeSide(0.92, 0.93, 0.94).entrant())
    results = run.main(held_out_arguments)
    assert [entry["accuracy"] for entry in results["runs"]] == [0.92, 0.93, 0.94]
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == "HELD OUT: the mean of 3 seeds is 93.000 ± 2.484 % of 64 training images; 0.0 s (median)"
    assert list(arguments.results.iterdir()) == []
    run.main(replace(arguments, rehearse=True))
    assert len(list(arguments.results.iterdir())) == 1


@pytest.mark.parametrize("held_out", [-1, 59_873, 60_000])
def test_holding_out_must_leave_a_batch_to_train_on(held_out: int) -> None:
    with pytest.raises(FmnistError, match=f"--held-out is {held_out}: choose 0 to 59872, which leaves a batch"):
        run.find_entry(run.Arguments("93", held_out=held_out))
    validate(run.find_entry(run.Arguments("93", held_out=59_872)))


def test_pytorch_scores_held_out_images() -> None:
    pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.benchmark import pytorch_side
    from experiments.speedrun import pytorch

    config = rehearsal.shrink(BASELINE)
    config = replace(config, data=replace(config.data, validation_size=40))
    _, held_out, test = load(config.data)
    test_trainer = pytorch_side.Trainer(config, "preset", compiled=False, seed=0)
    np.testing.assert_array_equal(test_trainer.scored_data[1], test.labels)
    trainer = pytorch.prepare(config).train(0)
    np.testing.assert_array_equal(trainer.scored_data[1], held_out.labels)


def test_pytorch_restarts_from_a_seed_and_refuses_unsupported_fields() -> None:
    pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.speedrun import pytorch

    config = rehearsal.shrink(with_mirroring(BASELINE))
    entrant = pytorch.prepare(config)
    kernels = []
    for seed in (1, 2, 1):
        kernel = next(iter(entrant.train(seed).network.parameters()))
        kernels.append(kernel.detach().numpy().copy())
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert not np.array_equal(kernels[0], kernels[1])
    with pytest.raises(FmnistError, match=r"does not support augment\.crop_padding 2: implement it"):
        pytorch.prepare(replace(config, augment=replace(config.augment, crop_padding=2)))


def test_pytorch_mirrors_each_image_in_every_other_epoch() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.benchmark import pytorch_side

    config = rehearsal.shrink(with_mirroring(BASELINE))
    trainer = pytorch_side.Trainer(config, "preset", compiled=False, seed=0)
    indices = torch.arange(32)
    images, _ = trainer.train_data
    epoch_images = []
    for epoch in range(3):
        trainer.steps_done = epoch * config.data.train_size // config.train.batch_size
        epoch_images.append(trainer._mirror(images[indices], indices))
    assert torch.equal(epoch_images[0], epoch_images[2])
    assert torch.equal(epoch_images[1], epoch_images[0].flip(-1))
    flipped = (epoch_images[0] != images[indices]).flatten(1).any(1)
    assert 4 < int(flipped.sum()) < 28


@pytest.mark.parametrize(
    "path", sorted(run.RESULTS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_committed_entry_is_that_of_its_target(path: Path) -> None:
    record = json.loads(path.read_text())
    device: Device = "cpu" if record["hardware"]["backend"] == "cpu" else "gpu"
    entry = training_settings(ENTRIES[record["side"]][device][record["target"]])
    assert {**fill_defaults(record["config"]), "preset": entry["preset"]} == entry


def test_finished_entry_is_neither_compiled_nor_run_again_nor_extended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, side = run.Arguments(target="93", results=tmp_path, seeds=3), FakeSide(*[0.95] * 10)
    config, provenance = run.find_entry(arguments), origin(_ENVIRONMENT)
    assert run.find_finished(arguments, config, provenance) is None
    run.record(arguments, side.entrant(), config, _ENVIRONMENT)
    assert run.find_finished(replace(arguments, seeds=10), config, provenance) is None
    run.record(replace(arguments, seeds=10), side.entrant(), config, _ENVIRONMENT)
    assert side.trained == list(range(10))
    assert run.find_finished(replace(arguments, seeds=10), config, provenance) is not None
    assert "nothing to run" in capsys.readouterr().out
    with pytest.raises(FmnistError, match="has 10 seeds, which the rules count as an entry: delete it to enter with"):
        run.find_finished(replace(arguments, seeds=12), config, provenance)
    with pytest.raises(FmnistError, match="differs in config: delete it"):
        run.find_finished(replace(arguments, seeds=10), with_mirroring(BASELINE), provenance)
    with pytest.raises(FmnistError, match="differs in versions: delete it"):
        run.find_finished(arguments, config, {**provenance, "versions": {**provenance["versions"], "jax": "9"}})
