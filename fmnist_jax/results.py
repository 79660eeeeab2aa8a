"""What a finished run leaves behind: test scores, predictions, figures and a summary."""

from typing import Any, NamedTuple

import numpy as np

from fmnist_jax import checkpoint, data, metrics
from fmnist_jax.config import Config
from fmnist_jax.eval_step import EvalStep, Predict, evaluate_batches
from fmnist_jax.runlog import RunDirectory
from fmnist_jax.state import TrainState, param_count


class Scores(NamedTuple):
    """The final state on the test images."""

    metrics: metrics.Metrics
    logits: np.ndarray
    """f32[N, 10]."""


def score(eval_step: EvalStep, predict: Predict, state: TrainState, test: data.Dataset, batch_size: int) -> Scores:
    """Evaluates a state on every test image, and keeps the logits from which anyone can check it."""
    variables = (state.params, state.batch_stats)
    total = evaluate_batches(eval_step, *variables, data.padded_batches(test, batch_size))
    batches = data.padded_batches(test, batch_size)
    logits = np.concatenate([np.asarray(predict(*variables, batch.images)) for batch in batches])
    return Scores(total, logits[: len(test)])


def write(
    config: Config, directory: RunDirectory, state: TrainState, splits: data.Splits, scores: Scores
) -> dict[str, Any]:
    """Writes `predictions.npz` (`logits`, `labels`) and the figures, and returns the summary."""
    from fmnist_jax import figures  # matplotlib takes half a second to import, which the first step need not wait for

    names, records = splits.test.class_names, directory.records()
    confusion = np.asarray(scores.metrics.confusion)
    recalls = np.asarray(metrics.recall_per_class(confusion))
    directory.save_arrays("predictions.npz", {"logits": scores.logits, "labels": splits.test.labels})
    directory.save_figure("curves", figures.curves(records))
    directory.save_figure("confusion_matrix", figures.confusion_matrix(confusion, names))
    result = metrics.summarize(scores.metrics)
    seconds = records[-1]["elapsed_seconds"]
    return {
        "preset": config.preset,
        "seed": config.train.seed,
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "test_examples": result.examples,
        "val_accuracy": next((r["val_accuracy"] for r in reversed(records) if "val_accuracy" in r), None),
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
    print(
        f"test accuracy {summary['test_accuracy']:.2%} on {summary['test_examples']:,} images "
        f"(loss {summary['test_loss']:.4f}) after {summary['epochs']} epochs in {summary['train_seconds']:.0f} s\n"
        f"weakest classes: {weakest}\n"
        f"run directory: {directory.path}\n"
        f"  summary.json, metrics.jsonl, predictions.npz, checkpoints/, figures/curves.png, "
        f"figures/confusion_matrix.png\n"
        f"next: python -m fmnist_jax.train {following}"
    )
