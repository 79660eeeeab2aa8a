"""What a finished run leaves behind: test scores, predictions, figures, a report and a summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fmnist_jax.analysis.assessment import Assessment, assess, finite_or_none
from fmnist_jax.analysis.members import mean_std
from fmnist_jax.config import paths
from fmnist_jax.config.schema import Config
from fmnist_jax.data.dataset import Dataset, Splits
from fmnist_jax.errors import FmnistError
from fmnist_jax.functional.eval_step import Predict
from fmnist_jax.functional.population import mean_log_probabilities
from fmnist_jax.functional.state import TrainState, Weights, param_count
from fmnist_jax.runs import recipe_record
from fmnist_jax.runs.directory import RunDirectory, read_json, read_records
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.recorded import PREDICTIONS_FILE
from fmnist_jax.runs.trained import predict_all
from fmnist_jax.system.storage import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Predictions(NamedTuple):
    """The predictions for the test images that a report shows."""

    logits: np.ndarray
    """f32[N, C]."""
    member_logits: np.ndarray | None
    """f32[M, N, C] of each member of a population."""


class Scores(NamedTuple):
    """How the final weights score on the test images; those of a population as an ensemble."""

    assessment: Assessment
    logits: np.ndarray
    """f32[N, C]; for an ensemble, the logarithm of the mean probabilities."""
    labels: np.ndarray
    """i32[N]."""
    member_logits: np.ndarray | None
    """f32[M, N, C] of each member of a population."""
    mirrored_logits: np.ndarray | None
    """f32[N, C], with mirror images averaged in, if that was requested."""
    accuracy_of_mirror_images: float
    """On the mirror images of the test images alone, which a network that never saw any may not recognise."""
    mirrored_val_accuracy: float | None
    """On the validation images, with mirror images averaged in, if that was requested and there are any."""
    members_mirrored: Mapping[str, list[float]]
    """For each member of a population: `test_accuracy_of_mirror_images`, `test_accuracy_mirrored`,
    `val_accuracy_mirrored`."""


def score(predict: Predict, weights: Weights, splits: Splits, batch_size: int, *, average_mirrors: bool) -> Scores:
    """Evaluates weights on every test image and its mirror image, and keeps the logits so that anyone can check it.

    Args:
      predict: predicts with the weights; for a population, its logits have a leading axis of members.
      weights: the weights to score.
      splits: the data, whose test images and, if mirror images are averaged in, validation images are evaluated.
      batch_size: images per batch.
      average_mirrors: also score the mean of the logits of each image and its mirror image.
    """

    def predict_logits(images: np.ndarray) -> np.ndarray:
        return predict_all(predict, weights, images, batch_size)

    test, held_out = splits.test, splits.validation
    test_logits, mirrored_test_logits = predict_logits(test.images), predict_logits(_mirrored(test.images))
    averaged_test_logits = (test_logits + mirrored_test_logits) / 2 if average_mirrors else None
    averaged_val_logits = None
    if average_mirrors and len(held_out):
        averaged_val_logits = (predict_logits(held_out.images) + predict_logits(_mirrored(held_out.images))) / 2
    logits, labels = _ensemble_logits(test_logits), test.labels
    members = test_logits if test_logits.ndim > logits.ndim else None
    mirrored_sets = {
        "test_accuracy_of_mirror_images": (mirrored_test_logits, labels),
        "test_accuracy_mirrored": (averaged_test_logits, labels),
        "val_accuracy_mirrored": (averaged_val_logits, held_out.labels),
    }
    return Scores(
        assessment=assess(logits, labels),
        logits=logits,
        labels=labels,
        member_logits=members,
        mirrored_logits=None if averaged_test_logits is None else _ensemble_logits(averaged_test_logits),
        accuracy_of_mirror_images=_accuracy(_ensemble_logits(mirrored_test_logits), labels),
        mirrored_val_accuracy=None
        if averaged_val_logits is None
        else _accuracy(_ensemble_logits(averaged_val_logits), held_out.labels),
        members_mirrored={
            name: [_accuracy(member, true) for member in found]
            for name, (found, true) in mirrored_sets.items()
            if members is not None and found is not None
        },
    )


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def _ensemble_logits(logits: np.ndarray) -> np.ndarray:
    """The logits of the ensemble if given those of several members, else those given."""
    return logits if logits.ndim < 3 else np.asarray(mean_log_probabilities(jnp.asarray(logits)))


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(logits.argmax(-1) == labels))


def _population_results(
    records: Sequence[Mapping[str, Any]], state: TrainState, scores: Scores, seed: int
) -> dict[str, Any]:
    """The results of each member of a population, if there is one."""
    if scores.member_logits is None:
        return {}
    assessed = [assess(logits, scores.labels) for logits in scores.member_logits]
    accuracies = [float(member.accuracy) for member in assessed]
    mean, deviation = mean_std(accuracies)
    validated = (record["members"]["val_accuracy"] for record in reversed(records) if "val_accuracy" in record)
    population = {
        "seeds": [seed + member for member in range(len(assessed))],
        "test_accuracy": accuracies,
        "test_loss": [finite_or_none(member.loss) for member in assessed],
        "calibration_error": [finite_or_none(member.calibration_error) for member in assessed],
        "val_accuracy": next(validated, None),
        **scores.members_mirrored,
        "state_digest": [
            state_digest(jax.tree.map(lambda leaf: leaf[member], state))  # noqa: B023
            for member in range(len(assessed))
        ],
        "test_accuracy_mean": mean,
        "test_accuracy_std": deviation,
    }
    return {"population": population}


def save_predictions(directory: RunDirectory, scores: Scores) -> None:
    """Writes `predictions.npz`: `logits`, `labels` and any `mirrored_logits` and `member_logits`."""
    arrays = {name: getattr(scores, name) for name in ("logits", "labels", "mirrored_logits", "member_logits")}
    directory.save_arrays(PREDICTIONS_FILE, {name: array for name, array in arrays.items() if array is not None})


def make_figures(
    records: Sequence[Mapping[str, Any]], scores: Scores, class_names: Sequence[str]
) -> dict[str, "Figure"]:
    """Draws the training curves and the confusion matrix: figures by name."""
    # matplotlib takes half a second to import; the first step need not wait for it
    from fmnist_jax.views.scores import confusion_matrix, curves

    confusion = scores.assessment.confusion
    return {"curves": curves(records), "confusion_matrix": confusion_matrix(confusion, class_names)}


def write_report(
    directory: Path, config: Config, step: int, test: Dataset, predicted: Predictions, *, summary: Mapping[str, Any]
) -> Path:
    """Writes `<directory>/report.html` from what a run has left there.

    Args:
      directory: the run directory.
      config: the configuration of the run.
      step: the training step of the weights.
      test: the test images.
      predicted: the predictions for them.
      summary: as in `summary.json`; empty before the end of the run.

    Returns:
      The path of the report.

    Raises:
      FmnistError: it cannot be written.
    """
    from fmnist_jax.views import report_page  # imports matplotlib

    contents = report_page.Contents(
        name=paths.display_name(directory),
        config=config,
        step=step,
        records=[record for record in read_records(directory) if record["step"] <= step],
        environment=read_json(directory / "environment.json") or {},
        summary=summary,
        test=test,
        logits=predicted.logits,
        member_logits=predicted.member_logits,
        custom_recipe=recipe_record.recorded_name(directory),
    )
    path = directory / "report.html"
    write_text(path, report_page.render(contents))
    return path


def make_summary(
    records: Sequence[Mapping[str, Any]],
    state: TrainState,
    scores: Scores,
    config: Config,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """The results of a run, as values that JSON can hold.

    Raises:
      FmnistError: the metrics of the run are lost.
    """
    if not records:
        raise FmnistError("metrics.jsonl of the run is empty although all steps have been taken: restore the file")
    assessment, recalls = scores.assessment, scores.assessment.classes.recall
    weakest = np.argsort(recalls, kind="stable")[:3]  # a class without test images has recall nan, which sorts last
    train, members, mirrored = config.train, config.population.seeds, scores.mirrored_logits
    steps, seconds = int(np.max(np.asarray(state.step))), records[-1]["elapsed_seconds"]
    return {
        "seed": train.seed,
        "test_accuracy": assessment.accuracy,
        "test_accuracy_mirrored": None if mirrored is None else _accuracy(mirrored, scores.labels),
        "test_accuracy_of_mirror_images": scores.accuracy_of_mirror_images,
        "test_loss": finite_or_none(assessment.loss),
        "test_examples": len(assessment.labels),
        "val_accuracy": next((r["val_accuracy"] for r in reversed(records) if "val_accuracy" in r), None),
        "val_accuracy_mirrored": scores.mirrored_val_accuracy,
        "weakest_classes": {class_names[i]: float(recalls[i]) for i in weakest if np.isfinite(recalls[i])},
        "parameters": param_count(state.params) // members,
        "steps": steps,
        "epochs": train.epochs,
        "train_seconds": seconds,
        "images_per_second": round(members * steps * train.batch_size / seconds, 1),
        "state_digest": state_digest(state),
        **_population_results(records, state, scores, train.seed),
    }
