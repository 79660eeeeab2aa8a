"""Bilinear operations on images and a kernel, with their own derivatives of every order in forward and reverse mode.

One trilinear form, the sum over all pixels of `operation(x, kernel) * g`, has three faces: the operation itself, the
gradient of the images, and the gradient of the kernel. Each is bilinear, and its transpose in either argument is one of
the other two: so three primitives are closed under `jvp`, `vjp` and everything built on them. Where both operands are
batched over models, a CPU loops over the models, because its compiler is slow at grouped convolutions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fmnist_jax.functional.platforms import move_batch_axes_first, platform_primitive
from fmnist_jax.functional.sharding import match_varying_axes

Operation = Callable[[Array, Array], Array]
"""`(x [B, H, W, C_in], kernel [K, K, C_in, C_out]) -> [B, H', W', C_out]`, bilinear, the same sums for every image
and every pair of an input and an output channel."""


class BilinearOps(NamedTuple):
    """One implementation of the three faces."""

    operation: Operation
    image_gradient: Callable[..., Array]
    """`(g [B, H', W', C_out], kernel, *, sides=(H, W)) -> [B, H, W, C_in]`."""
    kernel_gradient: Callable[..., Array]
    """`(x, g, *, size=K) -> [K, K, C_in, C_out]`."""


def ops_by_transposition(operation: Operation) -> BilinearOps:
    """The faces of an operation, with its gradients by transposition."""

    def image_gradient(g: Array, kernel: Array, *, sides: tuple[int, int]) -> Array:
        x = jax.ShapeDtypeStruct((g.shape[0], *sides, kernel.shape[2]), g.dtype)
        return jax.linear_transpose(lambda x: operation(x, kernel), x)(g)[0]

    def kernel_gradient(x: Array, g: Array, *, size: int) -> Array:
        kernel = jax.ShapeDtypeStruct((size, size, x.shape[3], g.shape[3]), x.dtype)
        return jax.linear_transpose(lambda kernel: operation(x, kernel), kernel)(g)[0]

    return BilinearOps(operation, image_gradient, kernel_gradient)


def bilinear(name: str, *, on_cpu: BilinearOps, elsewhere: BilinearOps) -> Operation:
    """Makes an operation with one implementation for CPUs and one for other platforms, and derivatives of every order.

    Args:
      name: of its primitive.
      on_cpu: the implementation for a CPU.
      elsewhere: the same sums for every other platform.
    """
    operation = _primitive(name, on_cpu.operation, elsewhere.operation)
    image_gradient_p = _primitive(f"{name}_image_gradient", on_cpu.image_gradient, elsewhere.image_gradient)
    kernel_gradient_p = _primitive(f"{name}_kernel_gradient", on_cpu.kernel_gradient, elsewhere.kernel_gradient)

    # With <a, b> for the sum of all products,
    # <operation(x, k), g> = <x, image_gradient(g, k)> = <k, kernel_gradient(x, g)>.
    # Each rule takes the cotangent first, then both operands; of the one that it transposes, only the shape is known.
    ad.defbilinear(
        operation,
        lambda g, x, kernel, mapped: image_gradient_p.bind(g, kernel, mapped=mapped, sides=_sides(x, mapped)),
        lambda g, x, kernel, mapped: kernel_gradient_p.bind(x, g, mapped=mapped, size=_size(kernel, mapped)),
    )
    ad.defbilinear(
        image_gradient_p,
        lambda x, _, kernel, mapped, **__: operation.bind(x, kernel, mapped=mapped),
        lambda x, g, kernel, mapped, **__: kernel_gradient_p.bind(x, g, mapped=mapped, size=_size(kernel, mapped)),
    )
    ad.defbilinear(
        kernel_gradient_p,
        lambda kernel, x, g, mapped, **_: image_gradient_p.bind(g, kernel, mapped=mapped, sides=_sides(x, mapped)),
        lambda kernel, x, _, mapped, **__: operation.bind(x, kernel, mapped=mapped),
    )
    for primitive, stacking in zip((operation, image_gradient_p, kernel_gradient_p), _STACKING_AXES, strict=True):
        batching.primitive_batchers[primitive] = partial(_batching_rule, primitive, stacking)
    return lambda x, kernel: operation.bind(*match_varying_axes(x, kernel), mapped=False)


def _primitive(name: str, on_cpu: Callable[..., Array], elsewhere: Callable[..., Array]) -> Primitive:
    """A bilinear primitive: `mapped` says whether both operands have a leading axis of models."""

    def sequential(a: Array, b: Array, *, mapped: bool, **static: Any) -> Array:
        one: Operation = partial(on_cpu, **static)
        return lax.map(lambda pair: one(*pair), (a, b)) if mapped else one(a, b)

    def vectorized(a: Array, b: Array, *, mapped: bool, **static: Any) -> Array:
        one: Operation = partial(elsewhere, **static)
        return jax.vmap(one)(a, b) if mapped else one(a, b)

    return platform_primitive(name, on_cpu=sequential, elsewhere=vectorized)


def _sides(x: Any, mapped: bool) -> tuple[int, int]:
    height, width = x.aval.shape[1 + mapped : 3 + mapped]
    return height, width


def _size(kernel: Any, mapped: bool) -> int:
    return kernel.aval.shape[mapped]


class _Stacking(NamedTuple):
    """The axes by which one call of an operation serves many models that share the other operand."""

    operand: int
    """The axis of the operand that the models are stacked along."""
    result: int
    """The axis of the result that the models' results are stacked along."""


# For each face, by whether the first or the second operand has the axis of models: it is folded into the batch or the
# channels of images, and into the channels of kernels.
_STACKING_AXES: tuple[tuple[_Stacking, _Stacking], ...] = (
    (_Stacking(0, 0), _Stacking(3, 3)),
    (_Stacking(0, 0), _Stacking(2, 3)),
    (_Stacking(3, 2), _Stacking(3, 3)),
)


def _batching_rule(
    primitive: Primitive,
    stacking_axes: tuple[_Stacking, _Stacking],
    operands: Sequence[Array],
    axes: Sequence[Any],
    *,
    mapped: bool,
    **static: Any,
) -> tuple[Array, int]:
    """The rule of `vmap`: folds the axis of models of one or both operands into the operation."""
    if None in axes and not mapped:
        batched = 1 if axes[0] is None else 0
        operand_axis, result_axis = stacking_axes[batched]
        unfolded, folded = jnp.moveaxis(operands[batched], axes[batched], operand_axis), list(operands)
        folded[batched] = _merge_axes(unfolded, operand_axis)
        result = primitive.bind(*folded, mapped=False, **static)
        # The images or channels of a model are as many in the result as in the operand.
        return _split_axis(result, result_axis, unfolded.shape[operand_axis : operand_axis + 2]), result_axis
    moved = move_batch_axes_first(operands, axes)
    if not mapped:
        return primitive.bind(*moved, mapped=True, **static), 0
    result = primitive.bind(*(_merge_axes(x, 0) for x in moved), mapped=True, **static)
    return _split_axis(result, 0, moved[0].shape[:2]), 0


def _merge_axes(x: Array, axis: int) -> Array:
    """The array with an axis and the one after it merged."""
    return x.reshape(*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[axis + 2 :])


def _split_axis(x: Array, axis: int, sizes: Sequence[int]) -> Array:
    """The array with an axis split into two of these sizes."""
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])
