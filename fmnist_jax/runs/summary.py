"""What is printed of a finished run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import DataConfig
from fmnist_jax.runs import command_lines, recipe_record
from fmnist_jax.system import output


def print_summary(directory: Path, summary: Mapping[str, Any], data: DataConfig) -> None:
    """Prints the results of a run on these data, where they are, and what to try next."""
    weakest = ", ".join(f"{name} {recall:.1%}" for name, recall in summary["weakest_classes"].items())
    mirrored, population = summary["test_accuracy_mirrored"], summary.get("population")
    loss = "not finite" if summary["test_loss"] is None else f"{summary['test_loss']:.4f}"
    if population is not None:
        output.say(
            f"test accuracy of one member {population['test_accuracy_mean']:.2%} ± "
            f"{100 * population['test_accuracy_std']:.2f} (mean and standard deviation of "
            f"{len(population['seeds'])}); of their ensemble:"
        )
    output.say(
        f"test accuracy {summary['test_accuracy']:.2%} on {summary['test_examples']:,} images "
        f"(loss {loss}) after epoch {summary['epochs']} in {summary['train_seconds']:.0f} s"
        f"{'' if mirrored is None else f'; {mirrored:.2%} with their mirror images averaged in'}\n"
        f"weakest classes: {weakest}\nrun directory: {directory}\n"
        f"  report.html, summary.json, metrics.jsonl, predictions.npz, checkpoints/, figures/curves.png, "
        f"figures/confusion_matrix.png"
    )
    custom_recipe, preset = recipe_record.recorded_name(directory), summary["preset"]
    if summary["dataset"] in ("fashion_mnist", "synthetic") and preset in PRESETS and custom_recipe is None:
        larger = {"demo": "fast", "fast": "standard"}.get(preset, f"{preset} --train.seed {summary['seed'] + 1}")
        output.say(f"next: {command_lines.next_run(larger, data)}")
