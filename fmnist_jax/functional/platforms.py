"""Operations that are spelled otherwise on a CPU than elsewhere, by a choice that is made where a program is lowered.

What is lowered for a TPU or a GPU has then no trace of the CPU's spelling. `lax.platform_dependent` would leave in it a
conditional, the constants of every branch and what every branch keeps for its gradient.
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
    """Makes a primitive of one result without rules for derivatives and batches, which are the caller's to add.

    Args:
      name: of the primitive.
      on_cpu: `(*operands, **static) -> result`, the spelling for a CPU; the static ones can be hashed.
      elsewhere: the same for every other platform.

    Returns:
      A primitive whose operands differ along the same axes of a `shard_map`, see `sharding.alike`, and lie whole on
      every device where axes are explicit, see `sharding.automatic`.
    """

    def abstract(first: Any, *others: Any, **static: Any) -> Any:
        plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (first, *others)]
        result = jax.eval_shape(partial(elsewhere, **static), *plain)
        spec = PartitionSpec(*[None] * len(result.shape))
        return first.update(shape=result.shape, dtype=result.dtype, sharding=first.sharding.update(spec=spec))

    def computed(*operands: Array, **static: Any) -> Array:
        platforms = {device.platform for operand in operands for device in jnp.asarray(operand).devices()}
        return (on_cpu if platforms == {"cpu"} else elsewhere)(*operands, **static)

    primitive = Primitive(name)
    primitive.def_impl(computed)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, _lowering(elsewhere))
    mlir.register_lowering(primitive, _lowering(on_cpu), platform="cpu")
    return primitive


def models_first(operands: Sequence[Array], axes: Sequence[Any]) -> list[Array]:
    """Takes an axis of models before all others, for a rule of `vmap`; what all models share is repeated for each.

    Args:
      operands: of a primitive.
      axes: where each of them has the axis; None where it has none, which are not all of them.
    """
    models = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    return [
        jnp.broadcast_to(x, (models, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]


def _lowering(spelling: Callable[..., Array]) -> Callable[..., Any]:
    """Lowers to the operations of a function, of arrays whose types know no mesh: the shards are told apart by then."""
    lower = mlir.lower_fun(spelling, multiple_results=False)

    def rule(context: Any, *operands: Any, **static: Any) -> Any:
        plain = [jax.core.ShapedArray(aval.shape, aval.dtype) for aval in context.avals_in]
        return lower(context.replace(avals_in=plain), *operands, **static)

    return rule
