"""Which devices a run takes, and how arrays come onto them and back."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.schema import Config, ParallelConfig, PopulationConfig, TrainConfig
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs.parallel import choose_layout, describe, gather, place, to_text


def config(devices: Any, axis: Any = "data", batch_size: int = 16, seeds: int = 1) -> Config:
    return Config(
        train=TrainConfig(batch_size=batch_size),
        population=PopulationConfig(seeds=seeds),
        parallel=ParallelConfig(devices=devices, axis=axis),
    )


@pytest.mark.parametrize(("devices", "used"), [("all", 8), (1, 1), (4, 4)])
def test_as_many_devices_are_used_as_are_asked_for_and_the_run_says_so(devices: Any, used: int) -> None:
    layout = choose_layout(config(devices))
    assert layout.mesh.size == used
    assert list(layout.mesh.devices.flat) == jax.devices()[:used]
    assert to_text(layout) == f"{used} of 8 cpu devices"
    described = describe(layout)
    assert described == {"devices": ["cpu"] * used, "devices_seen": 8, "processes": 1, "axis": "data"}


def test_more_devices_than_there_are_and_a_batch_that_they_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--parallel\.devices is 9, but there are 8: choose all, or at most"):
        choose_layout(config(9, batch_size=18))
    with pytest.raises(ConfigError, match="which 8 devices cannot share evenly: choose 16 or 24, or"):
        choose_layout(config("all", batch_size=20))
    with pytest.raises(ConfigError, match=r"--population\.seeds is 3, which 8 devices cannot share evenly: choose 8"):
        choose_layout(config("all", axis="member", seeds=3))


def test_batches_of_evaluation_are_filled_up_to_the_devices() -> None:
    assert choose_layout(config("all")).padded_batch_size(250) == 256
    assert choose_layout(config("all")).padded_batch_size(256) == 256
    assert choose_layout(config("all", axis="member", seeds=8)).padded_batch_size(250) == 250
    assert choose_layout(config(1)).padded_batch_size(250) == 250


def test_arrays_numbers_and_keys_come_onto_the_devices_and_back() -> None:
    layout = choose_layout(config("all"))
    tree: dict[str, Any] = {"a": np.arange(16.0, dtype=np.float32), "n": np.int32(3), "key": jax.random.key(5)}
    placed = place(tree, layout.replicated)
    assert all(leaf.sharding.is_fully_replicated for leaf in placed.values())
    np.testing.assert_array_equal(placed["a"], tree["a"])
    assert int(placed["n"]) == 3
    np.testing.assert_array_equal(jax.random.key_data(placed["key"]), jax.random.key_data(tree["key"]))
    rows: Any = place(np.arange(16), layout.batch_sharding)
    assert rows.addressable_shards[3].data.tolist() == [6, 7]
    assert gather({"rows": rows}, layout)["rows"] is rows  # which this process can read


def test_members_lie_on_devices_of_their_own_or_on_all() -> None:
    own = choose_layout(config("all", axis="member", seeds=16))
    assert place(jnp.arange(16), own.member_sharding).addressable_shards[2].data.tolist() == [4, 5]
    assert own.batch_sharding.is_fully_replicated
    assert choose_layout(config("all", seeds=16)).member_sharding.is_fully_replicated


def test_what_is_chosen_hangs_on_the_parallel_section_alone() -> None:
    first = choose_layout(config(2))
    assert choose_layout(replace(config(2), preset="fast")) == first
