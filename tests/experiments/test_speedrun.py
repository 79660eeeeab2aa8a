"""The speedrun: what the clock covers, what is recorded and refused, and the table that comes of the files."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import rehearsal
from experiments.results.record import completed, settings
from experiments.results.tables import fill
from experiments.speedrun import ours, run, score, table
from experiments.speedrun.entrant import Entrant
from experiments.speedrun.entries import BASELINE, ENTRIES, mirrored
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


class Side:
    """Stands in for a side, and remembers the seeds that it trained."""

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


def recorded(arguments: run.Arguments, side: Side, config: Config = BASELINE, **changes: Any) -> dict[str, Any]:
    return run.record(arguments, side.entrant(), config, {**_ENVIRONMENT, **changes})


@pytest.mark.parametrize("side", ENTRIES)
def test_every_entry_is_a_configuration_of_all_training_images(side: Any) -> None:
    for device, entries in ENTRIES[side].items():
        for target, config in entries.items():
            validate(config)
            assert config.data.train_size == 60_000
            assert run.entry(run.Arguments(target, side=side, device=device)) == config


def test_what_nobody_has_entered_is_refused() -> None:
    with pytest.raises(FmnistError, match="no entry for 96 % on a cpu: choose one of 92, 93"):
        run.entry(run.Arguments("96", side="pytorch"))


def test_an_entry_has_a_seed() -> None:
    with pytest.raises(FmnistError, match="--seeds is 0: choose 1 or more"):
        run.entry(run.Arguments("93", seeds=0))


@pytest.mark.parametrize("way", ["", "trial", "../results"])
def test_a_rehearsal_does_not_lie_among_the_results(way: str) -> None:
    with pytest.raises(FmnistError, match="a separate folder"):
        run.entry(run.Arguments("93", rehearse=True, results=run.RESULTS / way))


def test_a_file_has_every_seed_and_no_place_on_the_machine(arguments: run.Arguments) -> None:
    found = recorded(arguments, Side(0.92, 0.93, 0.94))
    path = arguments.results / "2-cores-of-fast-r-one" / "fmnist_jax-93.json"
    assert json.loads(path.read_text()) == found
    assert [(entry["seed"], entry["accuracy"]) for entry in found["runs"]] == [(0, 0.92), (1, 0.93), (2, 0.94)]
    assert found["summary"]["accuracy_mean"] == pytest.approx(0.93)
    assert found["compile_seconds"] == [1.5]
    assert found["versions"] == {"python": "3.11", "jax": "0.10", "torch": "2.0"}
    assert found["config"]["optim"]["peak_lr"] == BASELINE.optim.peak_lr
    assert not any(text in path.read_text() for text in ("secret", "/home/me", str(arguments.results)))


def test_recorded_seeds_are_not_run_again(arguments: run.Arguments) -> None:
    first, second = Side(0.9, 0.9, 0.9, 0.9), Side(0.9, 0.9, 0.9, 0.9)
    recorded(replace(arguments, seeds=2), first)
    found = recorded(replace(arguments, seeds=4), second)
    assert (first.trained, second.trained) == ([0, 1], [2, 3])
    assert found["compile_seconds"] == [1.5, 1.5]
    assert recorded(replace(arguments, seeds=4), second) == found
    assert second.trained == [2, 3]


def test_an_entry_that_has_become_a_preset_since_goes_on(arguments: run.Arguments) -> None:
    recorded(arguments, Side(0.9, 0.9, 0.9))
    again = Side(0.9, 0.9, 0.9)
    recorded(arguments, again, replace(BASELINE, preset="standard"))
    assert again.trained == []


def test_what_got_95_percent_on_a_gpu_is_the_preset_wide_on_all_images() -> None:
    (path,) = run.RESULTS.glob("nvidia-h100-*/fmnist_jax-95.json")
    entered = settings(replace(PRESETS["wide"], data=DataConfig(validation_size=0)))
    assert {**completed(json.loads(path.read_text())["config"]), "preset": "wide"} == entered


def test_an_interrupted_run_keeps_the_seeds_that_were_done(arguments: run.Arguments) -> None:
    with pytest.raises(IndexError):
        recorded(arguments, Side(0.9, 0.9))
    side = Side(0.9, 0.9, 0.9)
    recorded(arguments, side)
    assert side.trained == [2]


@pytest.mark.parametrize(
    ("config", "changes", "named"),
    [
        (mirrored(BASELINE), {}, "differs in config"),
        (BASELINE, {"packages": {"jax": "0.11"}}, "differs in versions"),
    ],
)
def test_a_file_of_something_else_is_refused(
    arguments: run.Arguments, config: Config, changes: dict[str, Any], named: str
) -> None:
    recorded(arguments, Side(0.9, 0.9, 0.9))
    with pytest.raises(FmnistError, match=f"{named}: delete it"):
        recorded(arguments, Side(0.9, 0.9, 0.9), config, **changes)


def test_the_clock_covers_the_training_and_not_the_evaluation() -> None:
    times = iter([10.0, 12.5])
    told: list[str] = []

    def train(seed: int) -> str:
        told.append("trained")
        return "weights"

    def accuracy(weights: str) -> float:
        assert next(times, None) is None  # the clock has been read for the last time
        told.append(f"scored {weights}")
        return 0.5

    found = run.timed(Entrant(train, accuracy, 0.0, {}), 4, clock=lambda: next(times))
    assert found == {"seed": 4, "seconds": 2.5, "accuracy": 0.5}
    assert told == ["trained", "scored weights"]


def runs(*accuracies: float) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "seconds": 10.0 + seed, "accuracy": accuracy, "commit": "b" * 40}
        for seed, accuracy in enumerate(accuracies)
    ]


def test_the_interval_is_that_of_students_t() -> None:
    found = score.summarize(runs(0.92, 0.93, 0.94), "93")
    # 4.303 is the 97.5 % quantile of Student's t with two degrees of freedom, from a table.
    assert found.accuracy_margin == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert (found.seconds_median, found.seconds_deviation) == (11.0, 1.0)
    alone = score.summarize(runs(0.92), "93")
    assert (alone.accuracy_margin, alone.accuracy_deviation, alone.seconds_deviation) == (None, None, None)


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([0.93] * 10, "REACHED: the mean of 10 seeds is 93.000 ± 0.000 %"),
        ([0.93] * 9 + [0.9299], "NOT REACHED: the mean of 10 seeds is 92.999"),
        ([0.99] * 9, "NOT AN ENTRY YET: the mean of 9 seeds is 99.000"),
        ([0.99], "NOT AN ENTRY YET: the mean of 1 seed is 99.000 %, the target 93 %"),
    ],
)
def test_a_target_is_reached_by_the_mean_of_ten_seeds(accuracies: list[float], said: str) -> None:
    assert score.verdict(score.summarize(runs(*accuracies), "93"), "93").startswith(said)


def test_the_table_has_a_row_for_each_file_and_marks_what_fell_short(arguments: run.Arguments) -> None:
    assert table.table([]) == "*Nothing has been recorded yet.*"
    recorded(replace(arguments, side="pytorch", target="92"), Side(0.92, 0.94, 0.93))
    found = recorded(arguments, Side(0.9, 0.9, 0.9), mirrored(BASELINE))
    (records,) = [table.read(arguments.results)]
    reached = {**found, "runs": runs(*[0.93] * 10)}
    rows = table.table([reached, *(each for each in records if each["side"] == "pytorch")]).splitlines()
    assert rows[2].startswith("| 92% | PyTorch, network of `fast` in 0.1.0 | 4 | 3 | *93.00% ± 2.48* | 0.0 ")
    assert rows[2].endswith("| 1.5 s | 2 cores of Fast (R) One | torch 2.0 |")
    assert rows[3].startswith("| 93% | fmnist_jax | 4 | 10 | 93.00% ± 0.00 | 14.5 (10.0 to 19.0) | 1.5 s | 2 cores of ")
    assert rows[3].endswith(" | jax 0.10 |")
    assert "At commit aaaaaaa, bbbbbbb." in rows[-1]


def test_the_table_of_the_readme_is_that_of_the_committed_files() -> None:
    readme = (_ROOT / "README.md").read_text()
    assert fill(readme, {"speedrun": table.table(table.read(run.RESULTS))}) == readme


@pytest.fixture(scope="module")
def entrant() -> Entrant:
    config = rehearsal.shrink(BASELINE)
    return ours.prepare(replace(config, train=replace(config.train, epochs=8)))


def test_this_side_trains_the_same_weights_from_the_same_seed_and_learns(entrant: Entrant) -> None:
    first, again, other = entrant.train(1), entrant.train(1), entrant.train(2)
    kernels = [np.asarray(weights.params["Conv_0"]["kernel"]) for weights in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert entrant.accuracy(first) > 0.4
    assert entrant.compile_seconds > 0


def test_images_that_are_held_out_are_scored_and_nothing_is_recorded(
    arguments: run.Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choosing = replace(arguments, held_out=64, rehearse=True)
    config = run.entry(choosing)
    _, held_out, _ = load(config.data)
    assert (config.data.train_size, len(held_out)) == (256, 64)
    entrant = ours.prepare(config)
    weights = entrant.train(0)
    predict = jax.jit(make_mirrored_predict(make_predict(make_recipe(config).model)))
    logits = predict(weights.params, weights.batch_stats, held_out.images)
    assert entrant.accuracy(weights) == np.mean(np.argmax(logits, axis=-1) == held_out.labels)
    for name in ("keep_freed_memory", "start_jax"):  # which change the whole process
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(run, "prepare", lambda *_: Side(0.92, 0.93, 0.94).entrant())
    found = run.main(choosing)
    assert [entry["accuracy"] for entry in found["runs"]] == [0.92, 0.93, 0.94]
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "HELD OUT: the mean of 3 seeds is 93.000 ± 2.484 % of 64 training images; 0.0 s (median)"
    assert list(arguments.results.iterdir()) == []
    run.main(replace(arguments, rehearse=True))
    assert len(list(arguments.results.iterdir())) == 1


@pytest.mark.parametrize("held_out", [-1, 59_873, 60_000])
def test_of_what_is_held_out_a_batch_is_left_to_train_on(held_out: int) -> None:
    with pytest.raises(FmnistError, match=f"--held-out is {held_out}: choose 0 to 59872, which leaves a batch"):
        run.entry(run.Arguments("93", held_out=held_out))
    validate(run.entry(run.Arguments("93", held_out=59_872)))


def test_pytorch_scores_what_is_held_out_too() -> None:
    pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.benchmark import pytorch_side
    from experiments.speedrun import pytorch

    config = rehearsal.shrink(BASELINE)
    config = replace(config, data=replace(config.data, validation_size=40))
    _, held_out, test = load(config.data)
    of_test = pytorch_side.Trainer(config, "preset", compiled=False, seed=0)
    np.testing.assert_array_equal(of_test.scored_data[1], test.labels)
    trained = pytorch.prepare(config).train(0)
    np.testing.assert_array_equal(trained.scored_data[1], held_out.labels)


def test_the_pytorch_side_begins_anew_from_a_seed_and_refuses_what_it_has_not_got() -> None:
    pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.speedrun import pytorch

    config = rehearsal.shrink(mirrored(BASELINE))
    entrant = pytorch.prepare(config)
    found = []
    for seed in (1, 2, 1):
        kernel = next(iter(entrant.train(seed).network.parameters()))
        found.append(kernel.detach().numpy().copy())
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])
    with pytest.raises(FmnistError, match=r"does not support augment\.crop_padding 2: implement it"):
        pytorch.prepare(replace(config, augment=replace(config.augment, crop_padding=2)))


def test_pytorch_mirrors_each_image_in_every_other_epoch() -> None:
    torch = pytest.importorskip("torch", reason="the other side of the speedrun is PyTorch")
    from experiments.benchmark import pytorch_side

    config = rehearsal.shrink(mirrored(BASELINE))
    trainer = pytorch_side.Trainer(config, "preset", compiled=False, seed=0)
    indices = torch.arange(32)
    images, _ = trainer.train_data
    shown = []
    for epoch in range(3):
        trainer.steps_done = epoch * config.data.train_size // config.train.batch_size
        shown.append(trainer._mirrored(images[indices], indices))
    assert torch.equal(shown[0], shown[2])
    assert torch.equal(shown[1], shown[0].flip(-1))
    flipped = (shown[0] != images[indices]).flatten(1).any(1)
    assert 4 < int(flipped.sum()) < 28
