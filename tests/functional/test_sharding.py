"""What can be known about meshes while tracing a function."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from fmnist_jax.functional.sharding import (
    batch_axes,
    for_each_image,
    for_rows,
    gathered,
    match_varying_axes,
    varying_axes,
    with_auto_axes,
)

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def mesh() -> Any:
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        yield mesh


def test_without_a_mesh_there_are_no_varying_axes() -> None:
    assert varying_axes(ROWS) == varying_axes(jnp.asarray(ROWS)) == frozenset()
    assert batch_axes(ROWS, ()) == ()
    rows = jnp.asarray(ROWS)
    assert [array is rows for array in match_varying_axes(rows, rows)] == [True, True]


def test_batch_axes_are_those_of_the_batch_that_the_weights_do_not_vary_along(mesh: jax.sharding.Mesh) -> None:
    seen: list[Any] = []

    def record(batch: Array, shared: Array, varying: Array) -> Array:
        seen.append((batch_axes({"a": batch}, [shared]), batch_axes(batch, varying), batch_axes(shared, shared)))
        seen.append([varying_axes(array) for array in match_varying_axes(batch, shared)])
        return batch

    rows = jax.device_put(ROWS, NamedSharding(mesh, P("data")))
    specs = (P("data"), P(), P("data"))
    jax.jit(jax.shard_map(record, in_specs=specs, out_specs=P("data")))(rows, jnp.ones(2), rows)
    assert seen[:2] == [(("data",), (), ()), [{"data"}, {"data"}]]


def test_with_auto_axes_returns_row_sharded_or_replicated_results(mesh: jax.sharding.Mesh) -> None:
    rows = jax.device_put(ROWS, NamedSharding(mesh, P("data")))
    sharded = jax.jit(with_auto_axes(lambda x: x.reshape(2, -1).reshape(4, 2) * 2, rows=True))(rows)
    assert sharded.sharding.spec == P("data", None) or sharded.sharding.spec == P("data")
    np.testing.assert_array_equal(sharded, 2 * ROWS)
    replicated = jax.jit(with_auto_axes(lambda x, y: x.T @ y, rows=False))(rows, rows)
    assert replicated.sharding.is_fully_replicated
    np.testing.assert_array_equal(replicated, ROWS.T @ ROWS)


def test_with_auto_axes_works_under_shard_map_over_one_of_two_explicit_axes() -> None:
    mesh = jax.make_mesh((1, 2), ("member", "data"))

    def double(x: Array) -> Array:
        assert jax.sharding.get_abstract_mesh().explicit_axes == ("member",)
        return with_auto_axes(lambda x: x.reshape(1, -1).reshape(x.shape) * 2, rows=True)(x)

    with jax.set_mesh(mesh):
        rows = jax.device_put(ROWS, NamedSharding(mesh, P("data")))
        mapped = jax.shard_map(double, in_specs=P("data"), out_specs=P("data"), axis_names={"data"})
        np.testing.assert_array_equal(jax.jit(mapped)(rows), 2 * ROWS)


@pytest.mark.parametrize("types", [None, (AxisType.Auto,)])
def test_with_auto_axes_calls_the_function_unchanged_without_explicit_axes(types: tuple[AxisType, ...] | None) -> None:
    mesh = jax.make_mesh((2,), ("data",), axis_types=types) if types else None
    with jax.set_mesh(mesh) if mesh else jax.disable_jit(False):
        np.testing.assert_array_equal(with_auto_axes(lambda x: x + 1, rows=True)(ROWS), ROWS + 1)


def draw(key: Array, rows: int) -> Array:
    return jax.random.randint(key, (rows, 2), 0, 1_000)


def test_draws_and_gathered_rows_equal_those_of_the_full_batch(mesh: jax.sharding.Mesh) -> None:
    key = jax.random.key(3)
    np.testing.assert_array_equal(for_rows(draw, key, jnp.asarray(ROWS)), draw(key, 4))
    np.testing.assert_array_equal(gathered(jnp.asarray(ROWS), key), ROWS)
    rows, specs = jax.device_put(ROWS, NamedSharding(mesh, P("data"))), (P(), P("data"))
    drawn = jax.jit(jax.shard_map(lambda k, x: for_rows(draw, k, x), in_specs=specs, out_specs=P("data")))(key, rows)
    np.testing.assert_array_equal(drawn, draw(key, 4))
    all_rows = jax.jit(jax.shard_map(lambda k, x: gathered(x, k)[:2], in_specs=specs, out_specs=P("data")))(key, rows)
    np.testing.assert_array_equal(all_rows, np.concatenate([ROWS[:2], ROWS[:2]]))


def test_shards_with_different_keys_draw_for_their_own_batches() -> None:
    keys, batches = jax.random.split(jax.random.key(3), 2), jnp.stack([ROWS, ROWS + 8])

    def draw_and_gather(keys: Array, batches: Array) -> tuple[Array, Array]:
        drawn, rows = for_rows(draw, keys[0], batches[0]), gathered(batches[0], keys[0])
        return drawn[None], rows[None]

    mesh, rows_spec = jax.make_mesh((2, 2), ("member", "data")), P("member", "data")
    with jax.set_mesh(mesh):
        sharded_keys, sharded_batches = (
            jax.device_put(array, NamedSharding(mesh, spec))
            for array, spec in ((keys, P("member")), (batches, rows_spec))
        )
        drawn, rows = jax.jit(
            jax.shard_map(draw_and_gather, in_specs=(P("member"), rows_spec), out_specs=(rows_spec, rows_spec))
        )(sharded_keys, sharded_batches)
    drawn, rows = jax.device_get((drawn, rows))
    for member in range(2):
        np.testing.assert_array_equal(drawn[member], draw(keys[member], 4))
        np.testing.assert_array_equal(rows[member], np.concatenate([batches[member]] * 2))


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_for_each_image_draws_differ_by_image_but_not_by_number_of_devices(
    implementation: str, mesh: jax.sharding.Mesh
) -> None:
    key = jax.random.key(3, impl=implementation)
    augment = for_each_image(lambda key, image: image + jax.random.normal(key, image.shape))
    expected = augment(key, jnp.zeros((4, 2)))
    assert len(np.unique(expected)) == expected.size
    rows = jax.device_put(np.zeros((4, 2), np.float32), NamedSharding(mesh, P("data")))
    drawn = jax.jit(jax.shard_map(augment, in_specs=(P(), P("data")), out_specs=P("data")))(key, rows)
    np.testing.assert_array_equal(drawn, expected)


def test_rows_sharded_over_two_axes_keep_the_draws_of_one_device_in_the_order_of_the_mesh() -> None:
    mesh, spec = jax.make_mesh((2, 2), ("replica", "data")), P(("replica", "data"))  # not in the order of the alphabet

    def draw(rows: Array) -> Array:
        return for_rows(lambda key, n: jax.random.normal(key, (n,)), jax.random.key(0), rows)

    def gather(rows: Array) -> Array:
        return gathered(rows, jax.random.key(0))[None]

    with jax.set_mesh(mesh):
        rows = jax.device_put(ROWS, NamedSharding(mesh, spec))
        drawn = jax.jit(jax.shard_map(draw, in_specs=spec, out_specs=spec))(rows)
        collected = jax.jit(jax.shard_map(gather, in_specs=spec, out_specs=P(("replica", "data"))))(rows)
    np.testing.assert_array_equal(drawn, draw(jnp.asarray(ROWS)))
    np.testing.assert_array_equal(collected, np.tile(ROWS, (4, 1, 1)))
