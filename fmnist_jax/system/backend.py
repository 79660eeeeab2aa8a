"""Starts JAX on the platform that it is told to use, and makes sure that it has a device."""

import os
from collections.abc import Callable
from typing import Any, cast

from fmnist_jax.errors import FmnistError, in_one_line


def start(join: Callable[[], None] = lambda: None) -> None:
    """Imports JAX and makes it find its devices.

    Args:
      join: makes this process one of several, which has to happen between the two.

    Raises:
      FmnistError: JAX cannot start, because of the machine or the environment variables; the message has its reason.
    """
    try:
        import jax  # here, because environment variables can make it fail

        join()
        jax.devices()
    except (ImportError, FmnistError):
        raise
    except Exception as error:  # of many types, including an AssertionError without a message
        raise FmnistError(f"JAX cannot start ({_reason(error)}): {_remedy(error)}") from error


def refuse_without_compilation() -> None:
    """Checks that functions are compiled.

    Raises:
      FmnistError: `JAX_DISABLE_JIT` is set.
    """
    import jax

    if cast(Any, jax.config).jax_disable_jit:  # an attribute that JAX creates on import
        raise FmnistError(
            "JAX_DISABLE_JIT is set, and training is one compiled loop: unset it; to debug a step, call the "
            "function from make_train_step without jax.jit"
        )


def _reason(error: BaseException) -> str:
    """JAX's message, as part of one line; of a chain of errors, that of the most recent one that has any."""
    cause: BaseException | None = error
    while cause is not None and not str(cause).strip():
        cause = cause.__cause__ or cause.__context__
    return in_one_line(cause, 300) if cause is not None else "it gives no reason"


def _remedy(error: BaseException) -> str:
    if isinstance(error, ValueError):  # a JAX setting that it cannot parse; the reason names it
        return "fix or unset it"
    variables = [name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)]
    if not variables:
        return "fix the driver, or set JAX_PLATFORMS=cpu to use the processor"
    return (
        f"{variables[0]} is {os.environ[variables[0]]}; unset it, set it to cpu, or install that device: for a GPU "
        "its driver and jax[cuda13] (with a driver before 580 jax[cuda12]), for a TPU jax[tpu]"
    )
