"""Compiler options with which the functions of this package run, or start, fastest; and the errors of XLA."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import jax

from fmnist_jax.errors import out_of_memory

# For a function that runs once: initialising `fast` takes 0.7 s to compile instead of 2.7, and 20 ms more to run.
FOR_ONE_CALL: Mapping[str, str] = MappingProxyType({"xla_backend_optimization_level": "0"})

XLA_ERRORS = (jax.errors.JaxRuntimeError, ValueError)
"""The types of XLA errors, ValueError if the program ran before its call returned; the message begins with a status."""


@contextmanager
def explain_out_of_memory(remedy: str) -> Iterator[None]:
    """Turns XLA's out-of-memory error into one that says what to do.

    Raises:
      DeviceMemoryError: the block ran out of device memory.
    """
    try:
        yield
    except XLA_ERRORS as error:
        if (problem := out_of_memory(error, remedy)) is None:
            raise
        raise problem from error


# YNNPACK, XLA:CPU's default library, is given nothing to compute: Eigen and XLA's own loops do it all. Images/s of
# `fast`, the notebook's network and `standard` at commit dacbe4e, each row in one process, two cores of an AMD EPYC:
#                     training              evaluation
#   jax 0.10.2        2,649   909  1,118    7,544  4,014  3,660    nothing
#                     1,867   649    780    5,668  2,363  2,048    XLA's choice
#   jax 0.12.0.1      2,476   832  1,112    8,199  3,720  3,326    nothing
#                     2,440   960  1,084    7,531  3,643  2,484    XLA's choice
# On jax 0.12, YNNPACK's sums made training the notebook's network 1.16 times as fast; since `channel_sums`, steps of
# all three take the same time with and without them. Its convolutions and maxima, used in evaluation alone and with a
# plain first convolution, made the notebook's network 1.4 times as fast, and hung once with jaxlib 0.10.2, as others of
# its fusions do (jax issues 39257 and 40412).
_LIBRARY_OPTION = "xla_cpu_experimental_ynn_fusion_type"


def compiler_options() -> dict[str, Any]:
    """Options for `jax.jit(..., compiler_options=...)` on the default backend, for training and evaluation.

    Empty except on a CPU, and empty if this version of XLA does not know them.
    """
    return {_LIBRARY_OPTION: ""} if jax.default_backend() == "cpu" and _is_supported(_LIBRARY_OPTION) else {}


@functools.cache
def _is_supported(option: str) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={option: ""}).lower().compile()
    except XLA_ERRORS:
        return False
    return True
