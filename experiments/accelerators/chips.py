"""Published figures of the chips that programs are compiled for; their clock rates are derived from them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A chip's published figures."""

    name: str
    flops: float
    """Peak in bfloat16, operations a second; also that of float32 products at JAX's default precision on a TPU, whose
    operands are rounded to bfloat16."""
    flops_per_cycle: int
    """Operations that all matrix units of the chip start in one cycle."""
    memory_bandwidth: float
    """Bytes a second."""
    source: str

    @property
    def clock_hz(self) -> float:
        """Cycles a second: the peak divided by the operations a cycle."""
        return self.flops / self.flops_per_cycle


# Two operations, a multiplication and an addition, for each cell of each unit.
CHIPS: Mapping[str, Chip] = {
    # Four units of 128x128. The clock comes to 1.50 GHz, as jax-ml.github.io/scaling-book/tpus also states.
    "v5e": Chip("TPU v5e", 197e12, 4 * 128 * 128 * 2, 819e9, "https://cloud.google.com/tpu/docs/v5e"),
    # Two cores of four units of 128x128; the clock comes to 1.75 GHz.
    "v5p": Chip("TPU v5p", 459e12, 8 * 128 * 128 * 2, 2765e9, "https://cloud.google.com/tpu/docs/v5p"),
    # The page lists two units of 256x256, with which the clock would be 3.5 GHz, but XLA's estimate of a product of two
    # bfloat16[8192, 8192] has 369,231 operations a cycle, more than two can do: so four are assumed, at 1.75 GHz.
    "v6e": Chip("TPU v6e", 918e12, 4 * 256 * 256 * 2, 1638e9, "https://cloud.google.com/tpu/docs/v6e"),
}

TOPOLOGIES = ("v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:8x8", "v5e:16x16", "v6e:1x1", "v5p:2x2x1")
"""Topologies, kind and shape, that libtpu opens by name without a chip."""

# Bytes a second of an H100 SXM5, as in the description that `compilers` compiles for.
H100_MEMORY_BANDWIDTH = 3.352e12


def chip_for(topology: str) -> Chip:
    """The chip of a topology, by the part of its name before the colon."""
    return CHIPS[topology.partition(":")[0]]
