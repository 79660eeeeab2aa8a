"""Which devices a run uses, and how arrays are placed on them and gathered."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, ParallelConfig, PopulationConfig, TrainConfig
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs.parallel import choose_layout, describe, gather, place, to_text


def make_config(devices: Any, axis: Any = "data", batch_size: int = 16, seeds: int = 1) -> Config:
    return Config(
        train=TrainConfig(batch_size=batch_size),
        population=PopulationConfig(seeds=seeds),
        parallel=ParallelConfig(devices=devices, axis=axis),
    )


@pytest.mark.parametrize(("devices", "expected"), [("all", 8), (1, 1), (4, 4)])
def test_layout_uses_and_describes_the_requested_number_of_devices(devices: Any, expected: int) -> None:
    layout = choose_layout(make_config(devices))
    assert layout.mesh.size == expected
    assert list(layout.mesh.devices.flat) == jax.devices()[:expected]
    assert to_text(layout) == f"{expected} of 8 cpu devices"
    described = describe(layout)
    assert described == {"devices": ["cpu"] * expected, "devices_seen": 8, "processes": 1, "axis": "data"}


def test_too_many_devices_and_uneven_batches_or_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--parallel\.devices is 9, but there are 8: choose all, or at most"):
        choose_layout(make_config(9, batch_size=18))
    with pytest.raises(ConfigError, match="which 8 devices cannot share evenly: choose 16 or 24, or"):
        choose_layout(make_config("all", batch_size=20))
    with pytest.raises(ConfigError, match=r"--population\.seeds is 3, which 8 devices cannot share evenly: choose 8"):
        choose_layout(make_config("all", axis="member", seeds=3))


def test_padded_batch_size_is_a_multiple_of_the_data_parallel_devices() -> None:
    assert choose_layout(make_config("all")).padded_batch_size(250) == 256
    assert choose_layout(make_config("all")).padded_batch_size(256) == 256
    assert choose_layout(make_config("all", axis="member", seeds=8)).padded_batch_size(250) == 250
    assert choose_layout(make_config(1)).padded_batch_size(250) == 250


def test_arrays_scalars_and_keys_are_placed_on_devices_and_gathered() -> None:
    layout = choose_layout(make_config("all"))
    tree: dict[str, Any] = {"a": np.arange(16.0, dtype=np.float32), "n": np.int32(3), "key": jax.random.key(5)}
    placed = place(tree, layout.replicated)
    assert all(leaf.sharding.is_fully_replicated for leaf in placed.values())
    np.testing.assert_array_equal(placed["a"], tree["a"])
    assert int(placed["n"]) == 3
    np.testing.assert_array_equal(jax.random.key_data(placed["key"]), jax.random.key_data(tree["key"]))
    rows: Any = place(np.arange(16), layout.batch_sharding)
    assert rows.addressable_shards[3].data.tolist() == [6, 7]
    assert gather({"rows": rows}, layout)["rows"] is rows  # not copied, as this process can read all of it


def test_members_are_sharded_on_the_member_axis_and_replicated_otherwise() -> None:
    layout = choose_layout(make_config("all", axis="member", seeds=16))
    assert place(jnp.arange(16), layout.member_sharding).addressable_shards[2].data.tolist() == [4, 5]
    assert layout.batch_sharding.is_fully_replicated
    assert choose_layout(make_config("all", seeds=16)).member_sharding.is_fully_replicated


def test_layout_does_not_depend_on_the_preset_name() -> None:
    first = choose_layout(make_config(2))
    assert choose_layout(replace(make_config(2), preset="fast")) == first
