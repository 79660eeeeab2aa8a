"""What a finished run leaves behind: test scores, predictions, figures, a report and a summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fmnist_jax.config.schema import Config, TrainConfig
from fmnist_jax.data.dataset import Dataset, Splits
from fmnist_jax.functional import metrics
from fmnist_jax.functional.eval_step import Predict
from fmnist_jax.functional.state import TrainState, Weights, param_count
from fmnist_jax.runs.directory import RunDirectory, read_json, read_records
from fmnist_jax.runs.leaves import state_digest
from fmnist_jax.runs.trained import predict_all
from fmnist_jax.system import output
from fmnist_jax.system.storage import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Scores(NamedTuple):
    """The final weights on the test images."""

    metrics: metrics.Metrics
    logits: np.ndarray
    """f32[N, 10]."""
    labels: np.ndarray
    """i32[N]."""
    mirrored_logits: np.ndarray | None
    """f32[N, 10], with mirror images averaged in, where that was asked for."""
    mirrored_val_accuracy: float | None
    """Of the validation images, likewise; None also where there are none."""


def score(
    predict: Predict, weights: Weights, splits: Splits, batch_size: int, *, mirrored_predict: Predict | None = None
) -> Scores:
    """Evaluates weights on every test image, and keeps the logits from which anyone can check it."""
    logits, labels = predict_all(predict, weights, splits.test.images, batch_size), splits.test.labels
    on_device = jnp.asarray(logits), jnp.asarray(labels)
    total = metrics.batch_metrics(*on_device, metrics.cross_entropy(*on_device))
    if mirrored_predict is None:
        return Scores(total, logits, labels, None, None)
    of_test = predict_all(mirrored_predict, weights, splits.test.images, batch_size)
    held_out = splits.validation
    of_validation = predict_all(mirrored_predict, weights, held_out.images, batch_size) if len(held_out) else None
    return Scores(total, logits, labels, of_test, _accuracy(of_validation, held_out.labels))


def _accuracy(logits: np.ndarray | None, labels: np.ndarray) -> float | None:
    return float(np.mean(logits.argmax(-1) == labels)) if logits is not None and len(labels) else None


def save_predictions(directory: RunDirectory, scores: Scores) -> None:
    """Writes `predictions.npz`: `logits`, `labels` and any `mirrored_logits`."""
    mirrored = {} if scores.mirrored_logits is None else {"mirrored_logits": scores.mirrored_logits}
    directory.save_arrays("predictions.npz", {"logits": scores.logits, "labels": scores.labels, **mirrored})


def draw(records: Sequence[Mapping[str, Any]], scores: Scores, class_names: Sequence[str]) -> dict[str, "Figure"]:
    """Draws the training and what came of it: figures by name."""
    # matplotlib takes half a second to import, which the first step need not wait for
    from fmnist_jax.views.scores import confusion_matrix, curves

    confusion = np.asarray(scores.metrics.confusion)
    return {"curves": curves(records), "confusion_matrix": confusion_matrix(confusion, class_names)}


def write_report(
    directory: Path, config: Config, step: int, test: Dataset, logits: np.ndarray, *, summary: Mapping[str, Any]
) -> Path:
    """Writes `<directory>/report.html` out of what a run has left there.

    Args:
      directory: of the run.
      config: of the run.
      step: of the weights.
      test: the test images.
      logits: f32[N, 10] of them.
      summary: as in `summary.json`; empty before the end of the run.

    Returns:
      The path of the report.

    Raises:
      FmnistError: it cannot be written.
    """
    from fmnist_jax.views import report_page  # with matplotlib

    contents = report_page.Contents(
        name=directory.absolute().name,
        config=config,
        step=step,
        records=[record for record in read_records(directory) if record["step"] <= step],
        environment=read_json(directory / "environment.json") or {},
        summary=summary,
        test=test,
        logits=logits,
    )
    path = directory / "report.html"
    write_text(path, report_page.render(contents))
    return path


def summarize(
    records: Sequence[Mapping[str, Any]],
    state: TrainState,
    scores: Scores,
    train: TrainConfig,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What a run came to, as values that JSON can hold."""
    recalls = np.asarray(metrics.recall_per_class(scores.metrics.confusion))
    result = metrics.summarize(scores.metrics)
    steps, seconds = int(state.step), records[-1]["elapsed_seconds"]
    return {
        "seed": train.seed,
        "test_accuracy": result.accuracy,
        "test_accuracy_mirrored": _accuracy(scores.mirrored_logits, scores.labels),
        "test_loss": result.loss,
        "test_examples": result.examples,
        "val_accuracy": next((r["val_accuracy"] for r in reversed(records) if "val_accuracy" in r), None),
        "val_accuracy_mirrored": scores.mirrored_val_accuracy,
        "weakest_classes": {class_names[i]: float(recalls[i]) for i in np.argsort(recalls)[:3]},
        "parameters": param_count(state.params),
        "steps": steps,
        "epochs": train.epochs,
        "train_seconds": seconds,
        "images_per_second": round(steps * train.batch_size / seconds, 1),
        "state_digest": state_digest(state),
    }


def print_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Says what came out, where it lies, and what to try next."""
    weakest = ", ".join(f"{name} {recall:.1%}" for name, recall in summary["weakest_classes"].items())
    following = {"demo": "--preset fast", "fast": "--preset standard"}.get(
        summary["preset"], f"--preset {summary['preset']} --train.seed {summary['seed'] + 1}"
    )
    mirrored = summary["test_accuracy_mirrored"]
    output.say(
        f"test accuracy {summary['test_accuracy']:.2%} on {summary['test_examples']:,} images "
        f"(loss {summary['test_loss']:.4f}) after {summary['epochs']} epochs in {summary['train_seconds']:.0f} s"
        f"{'' if mirrored is None else f'; {mirrored:.2%} with their mirror images averaged in'}\n"
        f"weakest classes: {weakest}\n"
        f"run directory: {directory}\n"
        f"  report.html, summary.json, metrics.jsonl, predictions.npz, checkpoints/, figures/curves.png, "
        f"figures/confusion_matrix.png"
    )
    if summary["dataset"] in ("fashion_mnist", "synthetic"):
        output.say(f"next: python -m fmnist_jax.train {following}")
