"""The start of JAX: imported, on the platform that it is told, with a device."""

import os
from collections.abc import Callable
from typing import Any, cast

from fmnist_jax.errors import FmnistError, in_one_line


def start(join: Callable[[], None] = lambda: None) -> None:
    """Imports JAX and has it find its devices.

    Args:
      join: makes this process one of several, which has to happen between the two.

    Raises:
      FmnistError: it cannot, because of the machine or of what the environment asks for; the message has JAX's reason.
    """
    try:
        import jax  # here, because it fails of what the environment says

        join()
        jax.devices()
    except (ImportError, FmnistError):
        raise
    except Exception as error:  # of many types, an AssertionError without a word among them
        raise FmnistError(f"JAX cannot start ({_reason(error)}): {_remedy(error)}") from error


def refuse_without_compilation() -> None:
    """Checks that functions are compiled.

    Raises:
      FmnistError: `JAX_DISABLE_JIT` is set.
    """
    import jax

    if cast(Any, jax.config).jax_disable_jit:  # an attribute that JAX makes as it is imported
        raise FmnistError(
            "JAX_DISABLE_JIT is set, and training is one compiled loop: unset it; to look into a step, call the "
            "function of make_train_step without jax.jit"
        )


def _reason(error: BaseException) -> str:
    """What JAX says, as a part of one line; of a chain of errors what the last one with words says."""
    cause: BaseException | None = error
    while cause is not None and not str(cause).strip():
        cause = cause.__cause__ or cause.__context__
    return in_one_line(cause, 300) if cause is not None else "it gives no reason"


def _remedy(error: BaseException) -> str:
    if isinstance(error, ValueError):  # a setting of JAX that it cannot read; the reason names it
        return "mend or unset it"
    asked = [name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)]
    if not asked:
        return "mend the driver, or set JAX_PLATFORMS=cpu to use the processor"
    return (
        f"{asked[0]} is {os.environ[asked[0]]}; unset it, or set it to cpu, or bring that device: for a GPU its driver "
        "and jax[cuda13] (with a driver before 580 jax[cuda12]), for a TPU jax[tpu]"
    )
