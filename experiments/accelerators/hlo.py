"""Parses a compiled program's text, HLO after scheduling: pure functions of a string that need no compiler.

The grammar is that of XLA's `HloInstruction::ToString`. An instruction that runs by itself is in a computation that is
scheduled: the entry, the body and condition of a loop, a branch. The contents of a fusion are in a computation of their
own, whose cost is that of the fusion.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_OPCODE = re.compile(r"\s([a-z][\w-]*)\(")
_SHAPE = re.compile(r"\b(pred|bf16|[a-z]\w*?(\d+)\w*)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SCHEDULED = re.compile(r"(?:condition|body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_FUSED = re.compile(r"calls=%?([\w.-]+)")


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    result_type: str
    """The type of the result, as text."""
    opcode: str
    rest: str
    """The text from the operands on."""

    @property
    def cycles(self) -> int | None:
        """XLA's estimate of what it takes, if there is one."""
        match = _CYCLES.search(self.rest)
        return int(match[1]) if match else None

    @property
    def op_name(self) -> str:
        """The JAX operations that it came from."""
        match = re.search(r'op_name="([^"]*)"', self.rest)
        return match[1] if match else ""

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return re.findall(r"%([\w.-]+)", self.rest.partition(")")[0])

    def attribute(self, name: str) -> str:
        """The value of an attribute that has no spaces or is in braces; empty if it is missing."""
        match = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^\s,]+)", self.rest)
        return match[1].strip("{}") if match else ""


class Program(NamedTuple):
    """The computations of a module, by name."""

    computations: Mapping[str, list[Instruction]]
    entry: str


def parse(text: str) -> Program:
    """Reads the text of a compiled module, `jax.stages.Compiled.as_text()`.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[2]
            computations[current] = []
            entry = current if match[1] else entry
        elif current and (match := _INSTRUCTION.match(line)) and (opcode := _OPCODE.search(f" {match[2]}")):
            # The space put before the type is taken off again.
            result_type, rest = match[2][: max(opcode.start() - 1, 0)], match[2][opcode.end() - 1 :]
            computations[current].append(Instruction(match[1], result_type, opcode[1], rest))
    if not entry:
        raise ValueError("the text has no ENTRY computation: expected what `Compiled.as_text()` returns")
    return Program(computations, entry)


def loop_body(program: Program) -> str:
    """The computation that a chunk repeats, one step: the body of the loop in the entry that carries the most arrays.

    Raises:
      ValueError: there is no loop in the entry.
    """
    loops = [instruction for instruction in program.computations[program.entry] if instruction.opcode == "while"]
    if not loops:
        raise ValueError("the program has no loop in its entry: expected that of a training chunk")
    return max(loops, key=lambda loop: len(shapes(loop.result_type))).attribute("body").lstrip("%")


def scheduled(program: Program, start: str) -> Iterator[Instruction]:
    """The instructions that run by themselves from a computation on; inner loops and all branches count once."""
    for instruction in program.computations[start]:
        yield instruction
        if instruction.opcode in ("while", "conditional", "call"):
            branches = _BRANCHES.search(instruction.rest)
            names = _SCHEDULED.findall(instruction.rest) + (
                re.findall(r"%?([\w.-]+)", branches[1]) if branches is not None else []
            )
            for name in names:
                yield from scheduled(program, name)


def fused(program: Program, instruction: Instruction) -> Iterator[tuple[Instruction, Mapping[str, Instruction]]]:
    """The instructions in a fusion or an asynchronous start, each with its neighbours by name; none for others."""
    if instruction.opcode not in ("fusion", "async-start"):
        return
    for name in _FUSED.findall(instruction.rest):
        siblings = {inner.name: inner for inner in program.computations[name]}
        for inner in siblings.values():
            yield inner, siblings
            yield from fused(program, inner)


def shapes(result_type: str) -> list[tuple[str, tuple[int, ...]]]:
    """The dtype and shape of each array of a type: one, or those of a tuple."""
    return [
        (dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, _, sizes in _SHAPE.findall(result_type)
    ]


def byte_count(result_type: str) -> int:
    """The bytes of all arrays of a type, without padding."""
    total_bytes = 0
    for dtype, bits, sizes in _SHAPE.findall(result_type):
        element_count = 1
        for size in sizes.split(","):
            element_count *= int(size) if size else 1
        total_bytes += element_count * (1 if dtype == "pred" else int(bits or 16) // 8)
    return total_bytes
