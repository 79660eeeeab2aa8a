"""Scores and the summary, with a stub in place of a trained network."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, PopulationConfig, TrainConfig
from fmnist_jax.data.dataset import Dataset, Splits
from fmnist_jax.functional.averaging import weights_to_score
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import results
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.leaves import state_digest


def _predict_first_pixel(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
    del params, batch_stats
    return 20.0 * (jnp.asarray(images)[:, 0, 0, 0, None] == jnp.arange(10)[None]).astype(jnp.float32)


def _dataset(pixels: Sequence[int], labels: Sequence[int]) -> Dataset:
    images = np.zeros((len(pixels), 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = pixels
    return Dataset(images, np.array(labels, np.int32))


def _state() -> TrainState:
    return TrainState(jnp.int32(3), {"w": jnp.zeros((2, 5))}, {}, (), jax.random.key(0))


def test_scores_and_summary_match_the_predictions(tmp_path: Path) -> None:
    labels = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    test = _dataset([0, 1, 1, 1, 1, 0, *labels[6:]], labels)
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.append({"step": 3, "epoch": 0.5, "val_accuracy": 0.5, "val_loss": 1.0, "elapsed_seconds": 2.0})
    splits = Splits(test, test, test)
    weights = weights_to_score(_state())
    scores = results.score(_predict_first_pixel, weights, splits, batch_size=4, average_mirrors=False)
    assert scores.logits.shape == (14, 10)
    summary = results.make_summary(directory.records(), _state(), scores, Config(), test.class_names)
    assert summary["test_accuracy_mirrored"] is None
    assert summary["test_accuracy_of_mirror_images"] == pytest.approx(4 / 14)  # whose first pixel is 0
    assert summary["val_accuracy_mirrored"] is None
    assert summary["test_accuracy"] == pytest.approx(10 / 14)
    assert summary["test_examples"] == 14
    assert list(summary["weakest_classes"].items())[:2] == [("T-shirt/top", 0.25), ("Trouser", 0.5)]
    assert summary["parameters"] == 10
    assert summary["val_accuracy"] == 0.5
    assert summary["images_per_second"] == pytest.approx(3 * 128 / 2.0)


@pytest.mark.parametrize("validation_size", [0, 3])
def test_summary_has_mirrored_scores_beside_the_plain_ones(tmp_path: Path, validation_size: int) -> None:
    test = _dataset([1, 2, 3], [1, 2, 3])
    # Mirrored, only the second image is predicted correctly; the wrong prediction of the third has larger logits.
    test.images[:, 0, -1, 0] = [5, 2, 7]

    def predict(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
        pixel = jnp.asarray(images)[:, 0, 0, 0, None]
        return jnp.where(pixel == jnp.arange(10)[None], jnp.where(pixel == 7, 3.0, 1.0), 0.0)

    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.append({"step": 3, "epoch": 0.5, "elapsed_seconds": 2.0})
    splits = Splits(test, test.take(np.arange(validation_size)), test)
    scores = results.score(predict, weights_to_score(_state()), splits, batch_size=2, average_mirrors=True)
    summary = results.make_summary(directory.records(), _state(), scores, Config(), test.class_names)
    assert summary["test_accuracy"] == 1.0
    assert summary["test_accuracy_mirrored"] == pytest.approx(2 / 3)
    assert summary["test_accuracy_of_mirror_images"] == pytest.approx(1 / 3)
    assert summary["val_accuracy_mirrored"] == (pytest.approx(2 / 3) if validation_size else None)
    results.save_predictions(directory, scores)
    with np.load(tmp_path / "run" / "predictions.npz") as saved:
        assert np.mean(saved["mirrored_logits"].argmax(-1) == saved["labels"]) == summary["test_accuracy_mirrored"]


def test_population_summary_scores_the_ensemble_and_each_member(tmp_path: Path) -> None:
    """Two members are each right on two of three images, but not the same two: together they are right on all."""
    test = _dataset([1, 2, 3], [1, 2, 3])

    def predict(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
        pixel = jnp.asarray(images)[:, 0, 0, 0]
        predicted = jnp.stack([jnp.where(pixel == 1, 0, pixel), jnp.where(pixel == 2, 0, pixel)])
        confidence = jnp.stack([jnp.where(pixel == 1, 1.0, 5.0), jnp.where(pixel == 2, 1.0, 5.0)])
        return jax.nn.one_hot(predicted, 10) * confidence[..., None]

    directory = RunDirectory(tmp_path / "run")
    directory.create()
    per_member = {"val_accuracy": [0.5, 0.7], "val_loss": [1.0, 1.0]}
    directory.append({"step": 3, "val_accuracy": 0.6, "val_loss": 1.0, "elapsed_seconds": 2.0, "members": per_member})
    splits = Splits(test, test.take(np.arange(0)), test)
    scores = results.score(predict, weights_to_score(_state()), splits, batch_size=2, average_mirrors=False)
    assert scores.member_logits is not None
    assert scores.member_logits.shape == (2, 3, 10)
    config = Config(train=TrainConfig(seed=5), population=PopulationConfig(seeds=2))
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), _state())
    summary = results.make_summary(directory.records(), members, scores, config, test.class_names)
    assert summary["test_accuracy"] == 1.0
    assert summary["parameters"] == 10
    assert summary["population"]["state_digest"] == [state_digest(_state())] * 2
    population = summary["population"]
    assert population["seeds"] == [5, 6]
    assert population["test_accuracy"] == pytest.approx([2 / 3, 2 / 3])
    assert (population["test_accuracy_mean"], population["test_accuracy_std"]) == (pytest.approx(2 / 3), 0.0)
    assert population["val_accuracy"] == [0.5, 0.7]
    # The first pixel of each mirror image is 0, which is the label of no image.
    assert population["test_accuracy_of_mirror_images"] == [0.0, 0.0]
    assert summary["images_per_second"] == pytest.approx(2 * 3 * 128 / 2.0)
    results.save_predictions(directory, scores)
    with np.load(tmp_path / "run" / "predictions.npz") as saved:
        np.testing.assert_array_equal(saved["member_logits"], scores.member_logits)


def test_population_summary_has_last_validation_and_mirrored_accuracies_of_its_members() -> None:
    """The first member sees the number, 3 logits strong if it is 7; the second sees none, and predicts 2."""
    test = _dataset([1, 2, 3], [1, 2, 3])
    test.images[:, 0, -1, 0] = [5, 2, 7]

    def predict(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
        pixel = jnp.asarray(images)[:, 0, 0, 0, None]
        first = jnp.where(pixel == jnp.arange(10)[None], jnp.where(pixel == 7, 3.0, 1.0), 0.0)
        return jnp.stack([first, jnp.zeros_like(first).at[:, 2].set(1.0)])

    records = [
        {"step": step, "elapsed_seconds": 2.0, "val_accuracy": value, "members": {"val_accuracy": [value] * 2}}
        for step, value in ((1, 0.1), (3, 0.9))
    ]
    scores = results.score(predict, weights_to_score(_state()), Splits(test, test, test), 2, average_mirrors=True)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), _state())
    config = Config(population=PopulationConfig(seeds=2))
    summary = results.make_summary(records, members, scores, config, test.class_names)
    assert (summary["val_accuracy"], summary["population"]["val_accuracy"]) == (0.9, [0.9, 0.9])
    for name in ("test_accuracy_mirrored", "val_accuracy_mirrored"):
        assert summary["population"][name] == pytest.approx([2 / 3, 1 / 3])


def test_infinite_test_loss_is_stored_as_null(tmp_path: Path) -> None:
    def never_predict_last(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
        return _predict_first_pixel(params, batch_stats, images).at[:, 9].set(-jnp.inf)

    test = _dataset(range(10), range(10))
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    scores = results.score(
        never_predict_last, weights_to_score(_state()), Splits(test, test, test), batch_size=4, average_mirrors=False
    )
    records = [{"step": 3, "epoch": 0.5, "elapsed_seconds": 2.0}]
    summary = results.make_summary(records, _state(), scores, Config(), test.class_names)
    assert summary["test_accuracy"] == pytest.approx(0.9)
    assert summary["test_loss"] is None
    directory.write_json("summary.json", summary)


def test_weakest_of_equal_classes_are_the_first_ones() -> None:
    classes = 40
    names = tuple(f"class {label}" for label in range(classes))
    test = Dataset(np.zeros((classes, 28, 28, 1), np.uint8), np.arange(classes, dtype=np.int32), names)

    def predict_wrongly(params: Params, batch_stats: BatchStats, images: object) -> jnp.ndarray:
        return jnp.zeros((jnp.shape(jnp.asarray(images))[0], classes)).at[:, 39].set(1.0)

    scores = results.score(
        predict_wrongly, weights_to_score(_state()), Splits(test, test, test), 8, average_mirrors=False
    )
    summary = results.make_summary([{"elapsed_seconds": 2.0}], _state(), scores, Config(), names)
    assert list(summary["weakest_classes"]) == ["class 0", "class 1", "class 2"]
