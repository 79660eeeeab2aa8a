"""A trained run in a notebook: three lines to use it, ten to fine-tune it on other classes."""

import itertools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fmnist_jax as fj

pytestmark = pytest.mark.slow


def test_trained_run_is_loaded_and_predicts_in_three_lines(saved_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved_run.parent))
    trained = fj.load_trained(f"~/{saved_run.name}")
    images = fj.load(trained.config.data).test.images
    logits = trained.predict(images, tta="mirror")

    assert (logits.shape, trained.step, trained.class_names) == ((70, 10), 5, fj.CLASS_NAMES)
    expected, _ = trained.model.apply(
        trained.params, trained.batch_stats, fj.normalize(jnp.asarray(images[:4])), train=False
    )
    np.testing.assert_allclose(trained.predict(images[:4, ..., 0]), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(fj.DataError, match=r"images are uint8\[2, 27, 28, 1\]: expected uint8\[N, 28, 28, 1\]"):
        trained.predict(images[:2, 1:])
    with pytest.raises(fj.DataError, match=r"images are float32"):
        trained.predict(images[:2].astype(np.float32))


def test_head_is_replaced_for_five_classes_and_fine_tuned(saved_run: Path) -> None:
    garments = fj.load(fj.DataConfig(name="synthetic", synthetic_train_size=200, validation_size=0)).train
    subset = garments.take(np.flatnonzero(garments.labels < 5))
    subset = fj.Dataset(subset.images, subset.labels, fj.CLASS_NAMES[:5])

    trained = fj.load_trained(saved_run)
    model = fj.make_model(trained.config.model, image_shape=subset.image_shape, num_classes=subset.num_classes)
    params = fj.replace_head(trained.params, jax.random.key(0), subset.num_classes)
    optimizer = optax.adam(1e-2)
    state = fj.init_state(model, optimizer, jax.random.key(1))
    state = replace(state, params=params, batch_stats=trained.batch_stats, opt_state=optimizer.init(params))
    step = jax.jit(fj.make_train_step(model, optimizer))
    losses = []
    for batch in itertools.islice(fj.batches(subset, state.key, batch_size=50), 30):
        state, metrics = step(state, batch)
        losses.append(fj.summarize(metrics).loss)

    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert metrics.confusion.shape == (5, 5)


def test_paths_are_accepted_as_strings(tmp_path: Path) -> None:
    state = {"weights": np.arange(3)}
    fj.save(str(tmp_path / "a"), state, step=4)
    np.testing.assert_array_equal(fj.restore(str(tmp_path / "a"), 4, like=state)["weights"], state["weights"])
    with fj.writing(str(tmp_path / "b")) as writer:
        writer.save(state, step=1)
    assert fj.RunConfig(dir=str(tmp_path)).dir == tmp_path  # type: ignore[arg-type]


def test_figures_have_a_png_representation_for_notebooks() -> None:
    figure = fj.confusion_matrix(np.eye(3, dtype=int), ("a", "b", "c"))
    png = figure._repr_png_()  # type: ignore[attr-defined]  # what IPython asks any object for
    assert png.startswith(b"\x89PNG")


def test_annotation_types_and_metric_helpers_are_exported() -> None:
    for name in ("LossFn", "TrainStep", "TrainChunk", "Predict", "EvalStep", "Apply", "Init", "Activations", "Summary"):
        assert hasattr(fj, name)
    total = fj.total([fj.Metrics(np.ones((), np.float32), np.eye(2, dtype=np.int32))] * 2)
    assert fj.summarize(total) == fj.Summary(loss=0.5, accuracy=1.0, examples=4)
    assert fj.PADDING_LABEL == -1
    assert issubclass(fj.InterruptionError, fj.FmnistError)
    assert fj.expected_calibration_error(np.array([[0.6, 0.4]]), np.array([1])) == pytest.approx(0.6)
