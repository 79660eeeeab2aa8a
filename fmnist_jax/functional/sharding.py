"""What the core knows of meshes: along which axes arrays differ, and which sums go over all of a mesh.

On a mesh with automatic axes none of this is needed. With explicit axes, as `jax.make_mesh` makes them, the compiler is
asked to lay out what a function computes inside; under `shard_map`, sums over the batch go over all of its shards.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import Array, lax
from jax.sharding import PartitionSpec

from fmnist_jax.functional.keys import IMPLEMENTATION, of_threefry

T = TypeVar("T")


def varying(x: Any) -> frozenset[str]:
    """The axes of a `shard_map` along which an array may differ, if its types are checked (`check_vma`)."""
    return jax.typeof(x).manual_axis_type.varying


def alike(*arrays: Array) -> tuple[Array, ...]:
    """The arrays, all marked as varying along every axis of a `shard_map` that any of them varies along."""
    axes = frozenset[str]().union(*map(varying, arrays))
    return tuple(
        lax.pcast(x, missing, to="varying") if (missing := tuple(sorted(axes - varying(x)))) else x for x in arrays
    )


def varying_like(shape: jax.ShapeDtypeStruct, x: Array) -> Array:
    """The array, marked as varying along the axes of a `shard_map` that a result of `jax.eval_shape` varies along."""
    of_shape = shape.manual_axis_type
    axes = () if of_shape is None else tuple(sorted(of_shape.varying - varying(x)))
    return lax.pcast(x, axes, to="varying") if axes else x


def batch_axes(batch: Any, weights: Any) -> tuple[str, ...]:
    """The axes of a `shard_map` over which one batch is spread: along them the batch differs, and the weights do not.

    Args:
      batch: a pytree of arrays.
      weights: a pytree of arrays, or keys, which differ where each shard trains a model of its own.
    """
    spread, own = ({axis for leaf in jax.tree.leaves(tree) for axis in varying(leaf)} for tree in (batch, weights))
    return tuple(sorted(spread - own))


def automatic(function: Callable[..., T], *, rows: bool) -> Callable[..., T]:
    """Has the compiler lay out what a function computes, where the caller's mesh has explicit axes.

    Args:
      function: of arrays, of which the first one's first axis is that of the batch.
      rows: whether every result has that axis, too, and is spread like the first argument; else each is whole.
    """

    def laid_out(*arrays: Array) -> T:
        if not jax.sharding.get_abstract_mesh().explicit_axes:
            return function(*arrays)
        spec = jax.typeof(arrays[0]).sharding.spec
        result = PartitionSpec(spec[0]) if rows and spec else PartitionSpec()
        return jax.sharding.auto_axes(function, out_sharding=result)(*arrays)

    return laid_out


def for_rows(draw: Callable[[Array, int], T], key: Array, batch: Array) -> T:
    """Draws for the rows of a batch; under `shard_map` for those of all its shards, of which each takes its own.

    So the draws are those of one device, wherever the rows lie. Along an axis along which the keys differ, each shard
    has a batch of its own: the draws of a model among others are those of the same model alone.

    Args:
      draw: `(key, n) -> pytree of n rows [n, ...]`.
      key: what to draw by, the same on every shard of one batch.
      batch: whose rows they are for, [B, ...].

    Returns:
      The pytree, of B rows.
    """
    axes, rows = batch_axes(batch, key), batch.shape[0]
    if not axes:
        return draw(key, rows)
    drawn, first = draw(key, rows * lax.axis_size(axes)), lax.axis_index(axes) * rows
    return jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, rows), drawn)


def for_each_image(augment: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Makes an augmentation of batches out of one of a single image, with draws of its own for each.

    They are the same bits on any number of devices.

    Args:
      augment: `(key, image [H, W, C]) -> image`.

    Returns:
      `(key, images [B, H, W, C]) -> images`.

    Examples:
      >>> darken = fj.on_floats(lambda key, image: image * jax.random.uniform(key, minval=0.5))
      >>> fj.for_each_image(darken)(jax.random.key(0), jnp.full((3, 28, 28, 1), 255, jnp.uint8)).dtype
      dtype('uint8')
    """

    def of_batch(key: Array, images: Array) -> Array:
        # As data, because `shard_map` takes slices of numbers, and not of keys.
        rows = for_rows(lambda key, n: jax.random.key_data(jax.random.split(key, n)), of_threefry(key), images)
        return jax.vmap(augment)(jax.random.wrap_key_data(rows, impl=IMPLEMENTATION), images)

    return of_batch


def gathered(batch: Array, key: Array) -> Array:
    """The rows of a batch from all its shards of a `shard_map`, as `for_rows` counts them; without one, the batch.

    Args:
      batch: [B, ...], of one shard.
      key: of the draws that are for all rows.

    Returns:
      [shards * B, ...].
    """
    axes = batch_axes(batch, key)
    return lax.all_gather(batch, axes, tiled=True) if axes else batch
