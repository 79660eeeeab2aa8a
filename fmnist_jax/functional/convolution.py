"""A convolution that knows its own derivatives of every order and kind, spelled so that XLA:CPU computes them fast.

One trilinear form, the sum over all pixels of `convolve(x, kernel) * g`, has three faces: the convolution of images by
a kernel, the gradient of the images, and the gradient of the kernel. Each is bilinear, and the transpose of each in one
argument is another of the three: so these three primitives are closed under `jvp`, `vjp` and all that is built of them.
What is batched over models is mapped over them on a CPU, whose compiler is slow at grouped convolutions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from fmnist_jax.functional.sharding import alike

NHWC = ("NHWC", "HWIO", "NHWC")

_Bilinear = Callable[[Array, Array], Array]


def convolve(x: Array, kernel: Array) -> Array:
    """The convolution as XLA spells it: stride 1, zero padding that keeps the spatial size.

    Args:
      x: [B, H, W, C_in].
      kernel: [K, K, C_in, C_out], K odd.

    Returns:
      [B, H, W, C_out].
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def _image_gradient(g: Array, kernel: Array) -> Array:
    """An ordinary convolution of `g` by the turned kernel."""
    # The barriers keep XLA from folding the turned and swapped operands back into the spelling that it is slow at.
    g, kernel = lax.optimization_barrier((g, kernel))
    return convolve(g, lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3)))


def _kernel_gradient(x: Array, g: Array, size: int) -> Array:
    """An ordinary convolution of the images by `g`."""
    x, g = lax.optimization_barrier((x, g))
    # With channels for a batch and the batch for channels, each kernel entry is one place that `g` can lie at.
    x, g = lax.optimization_barrier((_row_major(x.transpose(3, 1, 2, 0)), _row_major(g.transpose(1, 2, 0, 3))))
    padding = [(size // 2, size // 2)] * 2
    return lax.conv_general_dilated(x, g, (1, 1), padding, dimension_numbers=NHWC).transpose(1, 2, 0, 3)


def _row_major(x: Array) -> Array:
    """The same array, laid out in the order of its axes: from jax 0.12 on, a transposed one is else copied twice."""
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _plain_image_gradient(g: Array, kernel: Array) -> Array:
    x = _like(g, (*g.shape[:3], kernel.shape[2]))
    return jax.linear_transpose(lambda x: convolve(x, kernel), x)(g)[0]


def _plain_kernel_gradient(x: Array, g: Array, size: int) -> Array:
    kernel = _like(x, (size, size, x.shape[3], g.shape[3]))
    return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(g)[0]


def _like(x: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """An array of a shape and of the dtype of `x` that differs along the same axes of a `shard_map`."""
    kind = jax.typeof(x)
    # Its mesh is named, because none is set where a primitive is lowered.
    whole = NamedSharding(kind.sharding.mesh, PartitionSpec(*[None] * len(shape)))
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=whole, manual_axis_type=kind.manual_axis_type)


def _primitive(name: str, on_cpu: Callable[..., Array], elsewhere: Callable[..., Array]) -> Primitive:
    """A bilinear primitive: `mapped` says whether both operands have an axis of models before all others."""

    def over_models(a: Array, b: Array, *, mapped: bool, **static: int) -> Array:
        one: _Bilinear = partial(on_cpu, **static)
        return lax.map(lambda pair: one(*pair), (a, b)) if mapped else one(a, b)

    def of_models(a: Array, b: Array, *, mapped: bool, **static: int) -> Array:
        one: _Bilinear = partial(elsewhere, **static)
        return jax.vmap(one)(a, b) if mapped else one(a, b)

    def abstract(a: Any, b: Any, **static: Any) -> Any:
        plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (a, b)]
        shape = jax.eval_shape(partial(of_models, **static), *plain).shape
        return a.update(shape=shape, sharding=a.sharding.update(spec=PartitionSpec(*[None] * len(shape))))

    primitive = Primitive(name)
    primitive.def_impl(over_models)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(of_models, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(over_models, multiple_results=False), platform="cpu")
    return primitive


_conv_p = _primitive("convolution", convolve, convolve)
_image_gradient_p = _primitive("convolution_image_gradient", _image_gradient, _plain_image_gradient)
_kernel_gradient_p = _primitive("convolution_kernel_gradient", _kernel_gradient, _plain_kernel_gradient)


def conv(x: Array, kernel: Array) -> Array:
    """Convolves as `convolve` does."""
    return _conv_p.bind(*alike(x, kernel), mapped=False)


def _size(kernel: Any, mapped: bool) -> int:
    return kernel.aval.shape[1] if mapped else kernel.aval.shape[0]


# With <a, b> for the sum of all products: <conv(x, k), g> = <x, image_gradient(g, k)> = <k, kernel_gradient(x, g)>.
# Each rule takes the cotangent first, then both operands, of which its own is unknown but for its shape.
ad.defbilinear(
    _conv_p,
    lambda g, _, kernel, mapped: _image_gradient_p.bind(g, kernel, mapped=mapped),
    lambda g, x, kernel, mapped: _kernel_gradient_p.bind(x, g, mapped=mapped, size=_size(kernel, mapped)),
)
ad.defbilinear(
    _image_gradient_p,
    lambda x, _, kernel, mapped: _conv_p.bind(x, kernel, mapped=mapped),
    lambda x, g, kernel, mapped: _kernel_gradient_p.bind(x, g, mapped=mapped, size=_size(kernel, mapped)),
)
ad.defbilinear(
    _kernel_gradient_p,
    lambda kernel, _, g, mapped, **__: _image_gradient_p.bind(g, kernel, mapped=mapped),
    lambda kernel, x, _, mapped, **__: _conv_p.bind(x, kernel, mapped=mapped),
)


class _Stacking(NamedTuple):
    """Where one convolution takes in many that share an operand, and where their results then lie."""

    operand: int
    """The axis of the operand that the models are stacked along."""
    result: int
    """The axis of the result that they are found along."""


# By whether the first or the second operand is that of many models: their images make one batch, their kernels one
# kernel of many features.
_STACKED: Mapping[Primitive, tuple[_Stacking, _Stacking]] = {
    _conv_p: (_Stacking(0, 0), _Stacking(3, 3)),
    _image_gradient_p: (_Stacking(0, 0), _Stacking(2, 3)),
    _kernel_gradient_p: (_Stacking(3, 2), _Stacking(3, 3)),
}


def _batch(
    primitive: Primitive, operands: Sequence[Array], axes: Sequence[Any], *, mapped: bool, **static: int
) -> tuple[Array, int]:
    """Takes the axis of models of one or both operands into the operation."""
    (a, b), (of_a, of_b) = operands, axes
    if not mapped and (of_a is None or of_b is None):
        which = 0 if of_b is None else 1
        stacking, many = _STACKED[primitive][which], operands[which]
        models = many.shape[axes[which]]
        pair = [a, b]
        pair[which] = _merged(jnp.moveaxis(many, axes[which], stacking.operand), stacking.operand)
        return _split(primitive.bind(*pair, mapped=False, **static), stacking.result, models), stacking.result
    models = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    first = [
        jnp.moveaxis(x, axis, 0) if axis is not None else jnp.broadcast_to(x, (models, *x.shape))
        for x, axis in zip(operands, axes, strict=True)
    ]
    if not mapped:
        return primitive.bind(*first, mapped=True, **static), 0
    return _split(primitive.bind(*(_merged(x, 0) for x in first), mapped=True, **static), 0, models), 0


def _merged(x: Array, axis: int) -> Array:
    """The array with an axis and the one after it as one."""
    return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])


def _split(x: Array, axis: int, size: int) -> Array:
    """The array with an axis as one of so many and another after it."""
    return x.reshape(*x.shape[:axis], size, -1, *x.shape[axis + 1 :])


for _p in _STACKED:
    batching.primitive_batchers[_p] = partial(_batch, _p)
