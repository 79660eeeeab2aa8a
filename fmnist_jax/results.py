"""What a finished run leaves behind: test scores, predictions, figures and a summary."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fmnist_jax import checkpoint, data, metrics, tensorboard_log
from fmnist_jax.config import Config
from fmnist_jax.eval_step import Predict
from fmnist_jax.runlog import RunDirectory
from fmnist_jax.state import TrainState, Weights, param_count
from fmnist_jax.trained import predict_all


class Scores(NamedTuple):
    """The final weights on the test images."""

    metrics: metrics.Metrics
    logits: np.ndarray
    """f32[N, 10]."""
    mirrored_logits: np.ndarray | None
    """f32[N, 10], with mirror images averaged in, where that was asked for."""
    mirrored_val_accuracy: float | None
    """Of the validation images, likewise; None also where there are none."""


def score(
    predict: Predict, weights: Weights, splits: data.Splits, batch_size: int, *, mirrored_predict: Predict | None = None
) -> Scores:
    """Evaluates weights on every test image, and keeps the logits from which anyone can check it."""
    logits, labels = predict_all(predict, weights, splits.test.images, batch_size), jnp.asarray(splits.test.labels)
    total = metrics.batch_metrics(jnp.asarray(logits), labels, metrics.cross_entropy(jnp.asarray(logits), labels))
    if mirrored_predict is None:
        return Scores(total, logits, None, None)
    of_test, of_validation = (
        predict_all(mirrored_predict, weights, dataset.images, batch_size)
        for dataset in (splits.test, splits.validation)
    )
    return Scores(total, logits, of_test, _accuracy(of_validation, splits.validation.labels))


def _accuracy(logits: np.ndarray | None, labels: np.ndarray) -> float | None:
    return float(np.mean(logits.argmax(-1) == labels)) if logits is not None and len(labels) else None


def write(
    config: Config, directory: RunDirectory, state: TrainState, splits: data.Splits, scores: Scores
) -> dict[str, Any]:
    """Writes `predictions.npz` (`logits`, `labels`, any `mirrored_logits`), figures and report; returns the summary."""
    # matplotlib takes half a second to import, which the first step need not wait for
    from fmnist_jax import figures, report_page

    records, step = directory.records(), int(state.step)
    confusion, names = np.asarray(scores.metrics.confusion), splits.test.class_names
    mirrored = {} if scores.mirrored_logits is None else {"mirrored_logits": scores.mirrored_logits}
    directory.save_arrays("predictions.npz", {"logits": scores.logits, "labels": splits.test.labels, **mirrored})
    drawn = {"curves": figures.curves(records), "confusion_matrix": figures.confusion_matrix(confusion, names)}
    for name, figure in drawn.items():
        directory.save_figure(name, figure)
    tensorboard_log.write_figures(config.run, directory.path, step, drawn)
    summary = _summarize(config, records, state, splits, scores)
    contents = report_page.Contents(
        name=directory.path.name,
        config=config,
        step=step,
        records=records,
        environment=directory.read_json("environment.json") or {},
        summary=summary,
        test=splits.test,
        logits=scores.logits,
    )
    directory.write_text("report.html", report_page.render(contents))
    return summary


def _summarize(
    config: Config, records: Sequence[Mapping[str, Any]], state: TrainState, splits: data.Splits, scores: Scores
) -> dict[str, Any]:
    names, recalls = splits.test.class_names, np.asarray(metrics.recall_per_class(scores.metrics.confusion))
    result = metrics.summarize(scores.metrics)
    seconds = records[-1]["elapsed_seconds"]
    return {
        "preset": config.preset,
        "seed": config.train.seed,
        "test_accuracy": result.accuracy,
        "test_accuracy_mirrored": _accuracy(scores.mirrored_logits, splits.test.labels),
        "test_loss": result.loss,
        "test_examples": result.examples,
        "val_accuracy": next((r["val_accuracy"] for r in reversed(records) if "val_accuracy" in r), None),
        "val_accuracy_mirrored": scores.mirrored_val_accuracy,
        "weakest_classes": {names[i]: float(recalls[i]) for i in np.argsort(recalls)[:3]},
        "parameters": param_count(state.params),
        "steps": int(state.step),
        "epochs": config.train.epochs,
        "train_seconds": seconds,
        "images_per_second": round(int(state.step) * config.train.batch_size / seconds, 1),
        "state_digest": checkpoint.state_digest(state),
        "dataset": config.data.name,
        "dataset_digest": data.digest(splits),
    }


def print_summary(directory: RunDirectory, summary: dict[str, Any]) -> None:
    """Says what came out, where it lies, and what to try next."""
    weakest = ", ".join(f"{name} {recall:.1%}" for name, recall in summary["weakest_classes"].items())
    following = {"demo": "--preset fast", "fast": "--preset standard"}.get(
        summary["preset"], f"--preset {summary['preset']} --train.seed {summary['seed'] + 1}"
    )
    mirrored = summary["test_accuracy_mirrored"]
    print(
        f"test accuracy {summary['test_accuracy']:.2%} on {summary['test_examples']:,} images "
        f"(loss {summary['test_loss']:.4f}) after {summary['epochs']} epochs in {summary['train_seconds']:.0f} s"
        f"{'' if mirrored is None else f'; {mirrored:.2%} with their mirror images averaged in'}\n"
        f"weakest classes: {weakest}\n"
        f"run directory: {directory.path}\n"
        f"  report.html, summary.json, metrics.jsonl, predictions.npz, checkpoints/, figures/curves.png, "
        f"figures/confusion_matrix.png\n"
        f"next: python -m fmnist_jax.train {following}"
    )
