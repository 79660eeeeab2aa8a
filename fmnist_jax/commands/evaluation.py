"""Evaluation of a checkpoint on a split: prints tables; writes scores, predictions and figures."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from fmnist_jax.analysis.assessment import Assessment, assess, to_dict
from fmnist_jax.analysis.inspection import first_filters, make_saliency, principal_plane
from fmnist_jax.commands import cli
from fmnist_jax.config import paths
from fmnist_jax.data.dataset import Dataset, Splits, digest, evenly_spaced, load
from fmnist_jax.data.places import DataPaths, with_local_paths
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.activations import make_activations
from fmnist_jax.functional.pixels import normalize
from fmnist_jax.runs import trained
from fmnist_jax.runs.resumption import refuse_other_data
from fmnist_jax.runs.trained import TestTimeAugmentation, Trained
from fmnist_jax.system import output
from fmnist_jax.system.storage import check_writable, directory_for_files, write_figure, write_text
from fmnist_jax.views.features import activation_maps, embedding_map, filters, saliency_maps
from fmnist_jax.views.images import misclassified_grid, prediction_grid, sample_grid
from fmnist_jax.views.scores import confusion_matrix, reliability_diagram
from fmnist_jax.views.tables import score_tables

_MAX_EMBEDDED = 1_000  # images; more would hide one another
_MAX_PREDICTED = 24
_MAX_SALIENT = 12  # classes side by side


class Evaluation(NamedTuple):
    """A model, the images of a split, and the scores of its predictions for them."""

    model: Trained
    split: str
    tta: TestTimeAugmentation
    dataset: Dataset
    assessment: Assessment


def run(
    directory: str | os.PathLike[str],
    which: str | int = "latest",
    split: str = "test",
    tta: TestTimeAugmentation = "none",
    data: DataPaths | None = None,
    *,
    splits: Splits | None = None,
) -> Evaluation:
    """Evaluates a checkpoint of a run and writes `<directory>/evaluation/<split>`.

    Args:
      directory: the run's directory.
      which: the checkpoint, as for `trained.load_trained`.
      split: one of `Splits`.
      tta: as for `Trained.predict`.
      data: where the images are, if not where the run found them.
      splits: the images themselves, for a run that was given them in Python.

    Raises:
      FmnistError: there is no such run, checkpoint or split, or the results cannot be written.
    """
    if split not in Splits._fields:
        raise FmnistError(f"--split is {split!r}: choose one of {', '.join(Splits._fields)}")
    directory = paths.expand(directory)
    target = directory / "evaluation" / split
    model = trained.load_trained(directory, which)
    check_writable(target, "RUN")
    splits = load(with_local_paths(model.config.data, data)) if splits is None else splits
    refuse_other_data(directory / "checkpoints", model.step, model.dataset_digest, digest(splits))
    dataset: Dataset = getattr(splits, split)
    if not len(dataset):
        raise FmnistError(f"--split is {split}, but the run held out no image for it: choose test or train")
    assessment = assess(model.predict(dataset.images, tta=tta), dataset.labels)
    evaluation = Evaluation(model, split, tta, dataset, assessment)
    _write(evaluation, target)  # before the tables, whose reader (`| head`) may quit
    ensemble_note = f", ensemble of {model.members} members" if model.members > 1 else ""
    cli.print_rich(
        score_tables(assessment, dataset.class_names, f"{split} images, checkpoint {model.step}{ensemble_note}")
    )
    if tta == "mirror" and not trained.trained_on_mirrored(model.config):
        output.warn("note: trained without mirrored images (--augment.flip none), so --tta mirror may cost accuracy")
    cli.print_result(f"written: {target}/metrics.json, predictions.csv, *.png")
    return evaluation


def _write(evaluation: Evaluation, target: Path) -> None:
    names = evaluation.dataset.class_names
    metrics = {
        "checkpoint": evaluation.model.step,
        "split": evaluation.split,
        "tta": evaluation.tta,
        **to_dict(evaluation.assessment, names),
    }
    with directory_for_files(target):
        write_text(target / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        write_text(target / "predictions.csv", _csv(evaluation.assessment, names))
        for name, figure in _figures(evaluation):
            write_figure(target / f"{name}.png", figure)


def _csv(assessment: Assessment, class_names: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "prediction", *class_names])
    rows = zip(assessment.labels, assessment.predictions, assessment.probabilities, strict=True)
    for index, (label, prediction, probabilities) in enumerate(rows):
        writer.writerow([index, label, prediction, *(f"{probability:.8g}" for probability in probabilities)])
    return text.getvalue()


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, Figure]]:
    """Yields a name and a figure for each picture of an evaluation."""
    assessment, images, names = evaluation.assessment, evaluation.dataset.images, evaluation.dataset.class_names
    yield "confusion_matrix", confusion_matrix(assessment.confusion, names)
    yield "reliability", reliability_diagram(assessment.reliability)
    yield "samples", sample_grid(images, assessment.labels, names)
    yield "predictions", prediction_grid(images, assessment, evenly_spaced(len(images), _MAX_PREDICTED), names)
    yield "misclassified", misclassified_grid(images, assessment, names)
    yield from _inner_figures(evaluation)


def _inner_figures(evaluation: Evaluation) -> Iterator[tuple[str, Figure]]:
    """Yields a name and a figure for each picture of the network's internals."""
    loaded, dataset = evaluation.model.member(0), evaluation.dataset
    config, weights, saliency_fn = loaded.config, loaded.weights, make_saliency(loaded.model)
    activations_fn = make_activations(config.model, image_shape=loaded.image_shape, num_classes=len(loaded.class_names))
    yield "filters", filters(first_filters(weights.params))

    layers = jax.jit(lambda params, stats, images: activations_fn(params, stats, normalize(images)).layers)
    maps = [np.asarray(layer[0], np.float32) for layer in layers(*weights, dataset.images[:1])]
    title = f"{evaluation.split} image 0, {dataset.class_names[dataset.labels[0]]}"
    yield "activations", activation_maps(dataset.images[0], maps, title, like=dataset.images)

    hidden = jax.jit(
        lambda params, stats, images: activations_fn(params, stats, normalize(images)).hidden.astype(jnp.float32)
    )
    sample = dataset.take(evenly_spaced(len(dataset), _MAX_EMBEDDED))
    features = trained.predict_all(hidden, weights, sample.images, config.train.eval_batch_size)
    yield "embedding", embedding_map(principal_plane(features), sample.labels, dataset.class_names)

    labels, firsts = (found[:_MAX_SALIENT] for found in np.unique(dataset.labels, return_index=True))
    saliency = np.asarray(jax.jit(saliency_fn)(*weights, dataset.images[firsts]))
    names = [dataset.class_names[label] for label in labels]
    yield "saliency", saliency_maps(dataset.images[firsts], saliency, names, like=dataset.images)
