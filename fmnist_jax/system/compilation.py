"""Compiler options with which the functions of this package run, or start, fastest."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax

# For a function that runs once: initialising `fast` takes 0.7 s to compile instead of 2.7, for 20 ms more to run.
FOR_ONE_CALL: Mapping[str, str] = MappingProxyType({"xla_backend_optimization_level": "0"})

# No fusion of this type means no YNNPACK, XLA:CPU's default library for matrix products; a training step of `fast`
# takes 71 ms with it, 40 with the one before it, Eigen (jax 0.10.2, two cores; experiments.benchmark.layer_times).
_WITHOUT_YNNPACK: Mapping[str, str] = MappingProxyType({"xla_cpu_experimental_ynn_fusion_type": ""})


@functools.cache
def compiler_options() -> dict[str, Any]:
    """Options for `jax.jit(..., compiler_options=...)` on the default backend.

    None but on a CPU, and none if this version of XLA does not know them.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: 0, compiler_options=dict(_WITHOUT_YNNPACK)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return dict(_WITHOUT_YNNPACK)
