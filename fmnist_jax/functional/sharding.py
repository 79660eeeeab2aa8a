"""What the core knows about meshes: along which axes arrays vary, and which sums run over all shards.

On a mesh with automatic axes none of this is needed. With explicit axes, as `jax.make_mesh` makes them, the compiler is
asked to lay out what a function computes inside; under `shard_map`, sums over the batch run over all of its shards.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import Array, lax
from jax.sharding import PartitionSpec

from fmnist_jax.functional.keys import KEY_IMPL, as_threefry

T = TypeVar("T")


def varying_axes(x: Any) -> frozenset[str]:
    """The axes of a `shard_map` along which an array may vary, if its types are checked (`check_vma`)."""
    return jax.typeof(x).manual_axis_type.varying


def match_varying_axes(*arrays: Array) -> tuple[Array, ...]:
    """The arrays, all marked as varying along every axis of a `shard_map` that any of them varies along."""
    axes = frozenset[str]().union(*map(varying_axes, arrays))
    return tuple(
        lax.pcast(x, missing, to="varying") if (missing := tuple(sorted(axes - varying_axes(x)))) else x for x in arrays
    )


def varying_like(shape: jax.ShapeDtypeStruct, x: Array) -> Array:
    """The array, marked as varying along each axis of a `shard_map` that `shape`, of `jax.eval_shape`, varies along."""
    axis_type = shape.manual_axis_type
    axes = () if axis_type is None else tuple(sorted(axis_type.varying - varying_axes(x)))
    return lax.pcast(x, axes, to="varying") if axes else x


def batch_axes(batch: Any, weights: Any) -> tuple[str, ...]:
    """The axes of a `shard_map` over which one batch is sharded: along them the batch varies, and the weights do not.

    Args:
      batch: a pytree of arrays.
      weights: a pytree of arrays, or keys, which vary along an axis if each shard of it trains a model of its own.

    Returns:
      The axes in the order of the mesh, in which rows that are sharded over several must lie too: types do not say.
    """
    data_axes, weight_axes = (
        {axis for leaf in jax.tree.leaves(tree) for axis in varying_axes(leaf)} for tree in (batch, weights)
    )
    mine = data_axes - weight_axes
    return tuple(axis for axis in jax.sharding.get_abstract_mesh().axis_names if axis in mine)


def with_auto_axes(function: Callable[..., T], *, rows: bool, like: int = 0) -> Callable[..., T]:
    """Lets the compiler lay out what a function computes if the caller's mesh has explicit axes.

    Args:
      function: a function of arrays.
      rows: whether the first axis of every result is that of the batch; otherwise each is whole on every device.
      like: the position of the argument that has the batch as its first axis; with `rows`, results are sharded like it.
    """

    def wrapped(*arrays: Array) -> T:
        axes = jax.sharding.get_abstract_mesh().explicit_axes
        if not axes:
            return function(*arrays)
        spec = jax.typeof(arrays[like]).sharding.spec
        result = PartitionSpec(spec[0]) if rows and spec else PartitionSpec()
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=result)(*arrays)

    return wrapped


def for_rows(draw: Callable[[Array, int], T], key: Array, batch: Array) -> T:
    """Draws for the rows of a batch; under `shard_map`, for the rows of all its shards, of which each keeps its own.

    So the draws are the same as on one device, wherever the rows lie; with explicit axes, they are sharded like the
    rows. Along an axis on which the keys vary, each shard has a batch of its own: a model trained beside others gets
    the same draws as alone. (Under `vmap`, this holds for threefry keys only, see `keys`.)

    Args:
      draw: `(key, n) -> pytree of n rows [n, ...]`.
      key: the key of the draws, the same on every shard of one batch.
      batch: [B, ...], the batch to draw for; sharded over several axes, in their order in the mesh.

    Returns:
      The pytree, with B rows.
    """
    axes, rows = batch_axes(batch, key), batch.shape[0]
    if axes:
        drawn, first = draw(key, rows * lax.axis_size(axes)), lax.axis_index(axes) * rows
        return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, rows), drawn)
    drawn = draw(key, rows)
    if not jax.sharding.get_abstract_mesh().explicit_axes:
        return drawn
    spec = PartitionSpec(jax.typeof(batch).sharding.spec[0])  # `vmap` wants the draws sharded like the rows
    return jax.tree.map(lambda leaf: jax.reshard(leaf, spec), drawn)


def for_each_image(augment: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Makes an augmentation of batches out of one of a single image, with independent draws for each image.

    The draws are the same bits on any number of devices.

    Args:
      augment: `(key, image [H, W, C]) -> image`.

    Returns:
      `(key, images [B, H, W, C]) -> images`.

    Examples:
      >>> darken = fj.on_floats(lambda key, image: image * jax.random.uniform(key, minval=0.5))
      >>> fj.for_each_image(darken)(jax.random.key(0), jnp.full((3, 28, 28, 1), 255, jnp.uint8)).dtype
      dtype('uint8')
    """

    def batched(key: Array, images: Array) -> Array:
        # As raw key data, because `shard_map` can slice arrays of numbers, but not of keys.
        rows = for_rows(lambda key, n: jax.random.key_data(jax.random.split(key, n)), as_threefry(key), images)
        return jax.vmap(augment)(jax.random.wrap_key_data(rows, impl=KEY_IMPL), images)

    return batched


def gathered(batch: Array, key: Array) -> Array:
    """The rows of a batch from all its shards of a `shard_map`, in the order of `for_rows`; without one, the batch.

    Args:
      batch: [B, ...], the rows of one shard.
      key: the key of the draws for all rows.

    Returns:
      [shards * B, ...].
    """
    axes = batch_axes(batch, key)
    return lax.all_gather(batch, axes, tiled=True) if axes else batch
