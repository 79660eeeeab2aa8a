"""What a compiled program costs, according to its text: convolutions, collectives, and cycles by purpose."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from experiments.accelerators.hlo import Instruction, Program, byte_count, fused, scheduled, shapes

FORWARD, IMAGE_GRADIENT, KERNEL_GRADIENT = "forward", "image gradient", "kernel gradient"
ROLES = (FORWARD, IMAGE_GRADIENT, KERNEL_GRADIENT)

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast")

# Neither computed nor moved: names for existing values.
_FREE_OPCODES = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"})


class Convolution(NamedTuple):
    """A convolution over pixels, with its share of the cycles that its fusion is expected to take."""

    role: str
    """One of `ROLES`."""
    channels: tuple[int, int]
    """Input and output channels of the layer in the forward direction."""
    flops: int
    """Operations of products with actual pixels: padding and dilation holes are not counted."""
    cycles: int


def step_costs(program: Program, start: str) -> dict[str, Any]:
    """The costs of one iteration of a computation, as values that JSON can hold.

    Returns:
      `cycles`, the sum of XLA's estimates; `cycles_by_work`, the same by purpose; `convolutions`, each with role,
      channels, operations and cycles; `collectives`, by kind, their number, arrays and bytes; and `unestimated`, how
      many instructions of each kind have no estimate from XLA.
    """
    cycles_by_purpose: Counter[str] = Counter()
    unestimated: Counter[str] = Counter()
    convolutions: list[Convolution] = []
    for instruction in scheduled(program, start):
        if instruction.cycles is None:
            if instruction.opcode not in _FREE_OPCODES:
                unestimated[instruction.opcode] += 1
            continue
        convs = list(_convolutions(program, instruction))
        convolutions += convs
        cycles_by_purpose[convs[0].role if convs else _purpose(instruction)] += instruction.cycles
    return {
        "cycles": sum(cycles_by_purpose.values()),
        "cycles_by_work": dict(cycles_by_purpose.most_common()),
        "convolutions": [convolution._asdict() for convolution in convolutions],
        "collectives": count_collectives(program, start),
        "unestimated": dict(unestimated.most_common()),
    }


def _purpose(instruction: Instruction) -> str:
    name = instruction.op_name
    if "transpose(" in name:
        return "other backward"
    return "other forward" if "jvp(" in name else "rest"


def _convolutions(program: Program, fusion: Instruction) -> Iterator[Convolution]:
    """The convolutions over pixels in a fusion; its cycles are divided in proportion to their operations."""
    matches = [
        (convolution, neighbours)
        for convolution, neighbours in fused(program, fusion)
        if convolution.opcode == "convolution" and convolution.attribute("window")
    ]
    flops = [convolution_flops(convolution, neighbours) for convolution, neighbours in matches]
    for (convolution, neighbours), flop_count in zip(matches, flops, strict=True):
        # The name of the inner operation is more reliable: a fusion has that of its last operation.
        role = convolution_role(convolution)
        cycles = round((fusion.cycles or 0) * flop_count / max(sum(flops), 1))
        yield Convolution(role, _channels(convolution, neighbours, role), flop_count, cycles)


def convolution_role(instruction: Instruction) -> str:
    """Whether a convolution is in the forward pass, or computes the gradient of images or of a kernel."""
    if "transpose(" not in instruction.op_name:
        return FORWARD
    # A kernel has its pixels first; images have their batch first or, where channels took its place, last.
    _, out = _dim_labels(instruction)
    return KERNEL_GRADIENT if out.startswith("01") else IMAGE_GRADIENT


def _dim_labels(instruction: Instruction) -> tuple[tuple[str, str], str]:
    operands, out = instruction.attribute("dim_labels").split("->")
    left, right = operands.split("_")
    return (left, right), out


def _channels(instruction: Instruction, neighbours: Mapping[str, Instruction], role: str) -> tuple[int, int]:
    """Input and output channels of the layer, whatever the role of this convolution."""
    (left, _), _ = _dim_labels(instruction)
    operands = [shapes(neighbours[name].result_type)[0][1] for name in instruction.operands]
    kernel = operands[0] if left.startswith("01") else operands[1]
    # A kernel's layout is [K, K, in, out], as is that of its gradient.
    shape = shapes(instruction.result_type)[0][1] if role == KERNEL_GRADIENT else kernel
    return shape[2], shape[3]


def convolution_flops(instruction: Instruction, neighbours: Mapping[str, Instruction]) -> int:
    """Multiplications and additions of a convolution with actual pixels."""
    (left, right), out = _dim_labels(instruction)
    images, kernel = (shapes(neighbours[name].result_type)[0][1] for name in instruction.operands)
    output = shapes(instruction.result_type)[0][1]
    window = _parse_window(instruction.attribute("window"))
    products = 1
    for index, values in enumerate(window):
        products *= _count_products(images[left.index(str(index))], output[out.index(str(index))], **values)
    groups = int(instruction.attribute("batch_group_count") or 1)
    batch, features = output[out.index("b")], output[out.index("f")]
    return 2 * products * batch * features * kernel[right.index("i")] // groups


def _parse_window(text: str) -> list[dict[str, int]]:
    """Each axis of a window: size, stride, padding before, and the steps between pixels and between kernel entries."""
    values = dict(part.split("=") for part in text.split())
    axes = len(values["size"].split("x"))
    strides, image_steps, kernel_steps = (
        [int(value) for value in values.get(name, "x".join(["1"] * axes)).split("x")]
        for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    padding = [int(value.split("_")[0]) for value in values.get("pad", "x".join(["0_0"] * axes)).split("x")]
    kernel_sizes = [int(value) for value in values["size"].split("x")]
    return [
        {"size": size, "stride": stride, "before": padding_before, "image_step": image_step, "kernel_step": kernel_step}
        for size, stride, padding_before, image_step, kernel_step in zip(
            kernel_sizes, strides, padding, image_steps, kernel_steps, strict=True
        )
    ]


def _count_products(
    pixels: int, results: int, *, size: int, stride: int, before: int, image_step: int, kernel_step: int
) -> int:
    """Along one axis, the pairs of a result and a kernel entry that meet a pixel, neither padding nor a hole."""
    positions = (result * stride + entry * kernel_step - before for result in range(results) for entry in range(size))
    return sum(position % image_step == 0 and 0 <= position // image_step < pixels for position in positions)


def count_collectives(program: Program, start: str) -> dict[str, dict[str, int]]:
    """The exchanges between chips in one iteration of a computation, by kind: their number, arrays and bytes."""
    totals: dict[str, dict[str, int]] = {}
    for outer in scheduled(program, start):
        for instruction in (
            outer,
            *(inner for inner, _ in fused(program, outer)),
        ):
            # An asynchronous one is counted at its `-done`, whose type is that of its results alone.
            kind = instruction.opcode.removesuffix("-done")
            if kind not in COLLECTIVES or _is_single_chip(instruction):
                continue
            total = totals.setdefault(kind, {"count": 0, "arrays": 0, "bytes": 0})
            total["count"] += 1
            total["arrays"] += len(shapes(instruction.result_type))
            total["bytes"] += byte_count(instruction.result_type)
    return totals


def _is_single_chip(instruction: Instruction) -> bool:
    """Whether each chip exchanges only with itself, as on a mesh of one."""
    groups = re.search(r"replica_groups=(?:\{(\{\d+\},?)+\}|\[\d+,1\])", instruction.rest)
    return groups is not None
