"""Operations implemented differently on a CPU than elsewhere; the choice is made when a program is lowered.

A program lowered for a TPU or a GPU then has no trace of the CPU's implementation. `lax.platform_dependent` would leave
in it a conditional, the constants of every branch and the residuals that every branch keeps for its gradient.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import PartitionSpec


def platform_primitive(name: str, *, on_cpu: Callable[..., Array], elsewhere: Callable[..., Array]) -> Primitive:
    """Makes a primitive with one result; rules for differentiation and batching are left to the caller.

    Args:
      name: the name of the primitive.
      on_cpu: `(*operands, **static) -> result`, the implementation for a CPU; static arguments must be hashable.
      elsewhere: the same for every other platform.

    Returns:
      A primitive whose operands must vary along the same axes of a `shard_map` (see `sharding.match_varying_axes`), and
      must be whole on every device where axes are explicit (see `sharding.with_auto_axes`).
    """

    def abstract_eval(first: Any, *others: Any, **static: Any) -> Any:
        plain = [jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type) for x in (first, *others)]
        result = jax.eval_shape(partial(elsewhere, **static), *plain)
        spec = PartitionSpec(*[None] * len(result.shape))
        sharding = first.sharding.update(spec=spec)
        return first.update(shape=result.shape, dtype=result.dtype, weak_type=result.weak_type, sharding=sharding)

    def impl(*operands: Array, **static: Any) -> Array:
        jax.eval_shape(partial(elsewhere, **static), *operands)  # refuses what would be refused while tracing
        platforms = {device.platform for operand in operands for device in jnp.asarray(operand).devices()}
        return (on_cpu if platforms == {"cpu"} else elsewhere)(*operands, **static)

    primitive = Primitive(name)
    primitive.def_impl(impl)
    primitive.def_abstract_eval(abstract_eval)
    mlir.register_lowering(primitive, _lowering(elsewhere))
    mlir.register_lowering(primitive, _lowering(on_cpu), platform="cpu")
    return primitive


def move_batch_axes_first(operands: Sequence[Array], axes: Sequence[Any]) -> list[Array]:
    """Moves an axis of models to the front, for a batching rule of `vmap`; what all models share is repeated for each.

    Args:
      operands: the operands of a primitive.
      axes: where each operand has that axis, or None if it has none; at least one has it.
    """
    models = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    return [
        jnp.broadcast_to(x, (models, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]


def _lowering(implementation: Callable[..., Array]) -> Callable[..., Any]:
    """Lowers to a function's operations, on arrays whose types carry no mesh: by then the shards are separate."""
    lower = mlir.lower_fun(implementation, multiple_results=False)

    def rule(context: Any, *operands: Any, **static: Any) -> Any:
        plain = [jax.core.ShapedArray(aval.shape, aval.dtype) for aval in context.avals_in]
        return lower(context.replace(avals_in=plain), *operands, **static)

    return rule
