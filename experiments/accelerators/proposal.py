"""What a preset for accelerators should choose, as far as compilers can tell: sentences that state their estimates."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.accelerators.costs import KERNEL_GRADIENT
from experiments.accelerators.tables import EMPTY_NOTE, matrix_unit_fill, milliseconds

Record = Mapping[str, Any]


def proposal(records: Sequence[Record]) -> str:
    """A list item for each pair of variants that have been compiled, with their ratios.

    Args:
      records: of `variants`, whose `preset` is the variant's name.
    """
    by_variant = {record["preset"]: record for record in records}
    pairs = (
        (_WIDTHS, "standard, widths 64, 128, 256", "standard"),
        (_WIDER, "standard, widths 128, 256, 512, bfloat16", "standard, widths 64, 128, 256"),
        (_HALF, "standard, bfloat16", "standard"),
        (_HALF_WIDE, "standard, widths 64, 128, 256, bfloat16", "standard, widths 64, 128, 256"),
        (_BATCH, "standard, batch 512", "standard"),
        (_RECORD_BATCH, "record, batch 1024", "record"),
        (_RECORD_SHAPE, "record, widths 128, 256, 512, depths 2, 2, 2", "record"),
    )
    lines = [
        sentence.format(**_ratios(by_variant[variant], by_variant[baseline]))
        for sentence, variant, baseline in pairs
        if variant in by_variant and baseline in by_variant
    ]
    return "\n".join(f"- {line}" for line in lines) or EMPTY_NOTE


_RATIOS = "{operations:.2f} times the operations a step in {time:.2f} times the estimated time"

_WIDTHS = (
    f"**`standard` with 64, 128 and 256 channels instead of 48, 96 and 192** does {_RATIOS}. The matrix unit "
    "multiplies 128 by 128: 48 channels fill three eighths of its lanes in a gradient, 96 three quarters, 128 all. "
    "Gradients of kernels fill {kernel:.0%} of it instead of {kernel_before:.0%} (est.). The preset `wide`, "
    "which was made on a GPU, has these widths on 28 pixels."
)
_WIDER = f"With 128, 256 and 512 channels in bfloat16 it does {_RATIOS}, against 64, 128 and 256 in float32."
_HALF = (
    f"bfloat16 alone does {_RATIOS} of `standard`: a TPU rounds the operands of products to bfloat16 anyway, so that "
    "what can be saved is memory traffic, if the compiler saves it."
)
_HALF_WIDE = f"At 64, 128 and 256 channels, bfloat16 does {_RATIOS} of float32."
_BATCH = (
    "A batch of 512 instead of 128 trains {rate:.2f} times as many images a second (est.) on one chip. Below 128 "
    "images a chip the lanes hold channels instead of images, and all layers narrower than 128 are padded: the share "
    "of the unit that is filled falls, as the rows of eight chips show."
)
_RECORD_BATCH = "`record` with a batch of 1,024 instead of 256 trains {rate:.2f} times as many images a second (est.)."
_RECORD_SHAPE = (
    f"`record` with 128, 256 and 512 channels and two blocks a stage instead of 64, 128, 256 and four does {_RATIOS}: "
    "it has half the norms, which are bound by memory and, on several chips, by exchanges."
)


def _ratios(variant: Record, baseline: Record) -> dict[str, float]:
    step_ms, baseline_ms = milliseconds(variant) or 0.0, milliseconds(baseline) or 1.0
    return {
        "operations": variant["flops"] / baseline["flops"],
        "time": step_ms / baseline_ms,
        "rate": (variant["batch_size"] / baseline["batch_size"]) / (step_ms / baseline_ms),
        "kernel": matrix_unit_fill(variant, KERNEL_GRADIENT) or 0.0,
        "kernel_before": matrix_unit_fill(baseline, KERNEL_GRADIENT) or 0.0,
    }
