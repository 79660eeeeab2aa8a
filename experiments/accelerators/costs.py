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
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"})


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
    work: Counter[str] = Counter()
    unestimated: Counter[str] = Counter()
    convolutions: list[Convolution] = []
    for instruction in scheduled(program, start):
        if instruction.cycles is None:
            if instruction.opcode not in _FREE:
                unestimated[instruction.opcode] += 1
            continue
        found = list(_convolutions(program, instruction))
        convolutions += found
        work[found[0].role if found else _purpose(instruction)] += instruction.cycles
    return {
        "cycles": sum(work.values()),
        "cycles_by_work": dict(work.most_common()),
        "convolutions": [each._asdict() for each in convolutions],
        "collectives": collectives(program, start),
        "unestimated": dict(unestimated.most_common()),
    }


def _purpose(instruction: Instruction) -> str:
    name = instruction.op_name
    if "transpose(" in name:
        return "other backward"
    return "other forward" if "jvp(" in name else "rest"


def _convolutions(program: Program, fusion: Instruction) -> Iterator[Convolution]:
    """The convolutions over pixels in a fusion; its cycles are divided in proportion to their operations."""
    found = [
        (each, neighbours)
        for each, neighbours in fused(program, fusion)
        if each.opcode == "convolution" and each.attribute("window")
    ]
    flops = [convolution_flops(each, neighbours) for each, neighbours in found]
    for (each, neighbours), count in zip(found, flops, strict=True):
        # The name of the inner operation is more reliable: a fusion has that of its last operation.
        role = convolution_role(each)
        cycles = round((fusion.cycles or 0) * count / max(sum(flops), 1))
        yield Convolution(role, _channels(each, neighbours, role), count, cycles)


def convolution_role(instruction: Instruction) -> str:
    """Whether a convolution is in the forward pass, or computes the gradient of images or of a kernel."""
    if "transpose(" not in instruction.op_name:
        return FORWARD
    # A kernel has its pixels first; images have their batch first or, where channels took its place, last.
    _, out = _labels(instruction)
    return KERNEL_GRADIENT if out.startswith("01") else IMAGE_GRADIENT


def _labels(instruction: Instruction) -> tuple[tuple[str, str], str]:
    operands, out = instruction.attribute("dim_labels").split("->")
    left, right = operands.split("_")
    return (left, right), out


def _channels(instruction: Instruction, neighbours: Mapping[str, Instruction], role: str) -> tuple[int, int]:
    """Input and output channels of the layer, whatever the role of this convolution."""
    (left, _), _ = _labels(instruction)
    operands = [shapes(neighbours[name].kind)[0][1] for name in instruction.operands]
    kernel = operands[0] if left.startswith("01") else operands[1]
    # A kernel's layout is [K, K, in, out], as is that of its gradient.
    shape = shapes(instruction.kind)[0][1] if role == KERNEL_GRADIENT else kernel
    return shape[2], shape[3]


def convolution_flops(instruction: Instruction, neighbours: Mapping[str, Instruction]) -> int:
    """Multiplications and additions of a convolution with actual pixels."""
    (left, right), out = _labels(instruction)
    images, kernel = (shapes(neighbours[name].kind)[0][1] for name in instruction.operands)
    result = shapes(instruction.kind)[0][1]
    window = _window(instruction.attribute("window"))
    places = 1
    for axis, values in enumerate(window):
        places *= _products(images[left.index(str(axis))], result[out.index(str(axis))], **values)
    groups = int(instruction.attribute("batch_group_count") or 1)
    rows, features = result[out.index("b")], result[out.index("f")]
    return 2 * places * rows * features * kernel[right.index("i")] // groups


def _window(text: str) -> list[dict[str, int]]:
    """Each axis of a window: size, stride, padding before, and the steps between pixels and between kernel entries."""
    values = dict(part.split("=") for part in text.split())
    axes = len(values["size"].split("x"))
    stride, images, kernel = (
        [int(each) for each in values.get(name, "x".join(["1"] * axes)).split("x")]
        for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    before = [int(each.split("_")[0]) for each in values.get("pad", "x".join(["0_0"] * axes)).split("x")]
    sizes = [int(each) for each in values["size"].split("x")]
    return [
        {"size": size, "stride": step, "before": pad, "image_step": image, "kernel_step": entry}
        for size, step, pad, image, entry in zip(sizes, stride, before, images, kernel, strict=True)
    ]


def _products(
    pixels: int, results: int, *, size: int, stride: int, before: int, image_step: int, kernel_step: int
) -> int:
    """Along one axis, the pairs of a result and a kernel entry that meet a pixel, neither padding nor a hole."""
    meeting = (place * stride + entry * kernel_step - before for place in range(results) for entry in range(size))
    return sum(place % image_step == 0 and 0 <= place // image_step < pixels for place in meeting)


def collectives(program: Program, start: str) -> dict[str, dict[str, int]]:
    """The exchanges between chips in one iteration of a computation, by kind: their number, arrays and bytes."""
    found: dict[str, dict[str, int]] = {}
    for outer in scheduled(program, start):
        for each in (outer, *(inner for inner, _ in fused(program, outer))):
            # An asynchronous one is counted at its `-done`, whose type is that of its results alone.
            kind = each.opcode.removesuffix("-done")
            if kind not in COLLECTIVES or _is_of_one(each):
                continue
            entry = found.setdefault(kind, {"count": 0, "arrays": 0, "bytes": 0})
            entry["count"] += 1
            entry["arrays"] += len(shapes(each.kind))
            entry["bytes"] += byte_count(each.kind)
    return found


def _is_of_one(instruction: Instruction) -> bool:
    """Whether each chip exchanges only with itself, as on a mesh of one."""
    groups = re.search(r"replica_groups=(?:\{(\{\d+\},?)+\}|\[\d+,1\])", instruction.rest)
    return groups is not None
