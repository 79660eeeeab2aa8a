"""Which devices a run uses, and how its arrays lie on them."""

import math
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fmnist_jax.config.parallelism import nearest_multiples, sharing_problems
from fmnist_jax.config.schema import Config, ParallelConfig
from fmnist_jax.errors import ConfigError

Tree = TypeVar("Tree")


class Layout(NamedTuple):
    """The devices of a run."""

    mesh: Mesh
    """Of one axis: `data`, or `member`."""

    @property
    def axis(self) -> str:
        """The name of the axis."""
        return str(self.mesh.axis_names[0])

    @property
    def everywhere(self) -> NamedSharding:
        """Whole on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def of_members(self) -> NamedSharding:
        """Where what has an axis of members before all others lies."""
        return NamedSharding(self.mesh, PartitionSpec("member") if self.axis == "member" else PartitionSpec())

    @property
    def of_rows(self) -> NamedSharding:
        """Where a batch lies that is given from outside the compiled loop."""
        return NamedSharding(self.mesh, PartitionSpec("data") if self.axis == "data" else PartitionSpec())

    @property
    def of_stacked_rows(self) -> NamedSharding:
        """Where batches lie that are stacked along an axis before their rows."""
        return NamedSharding(self.mesh, PartitionSpec(None, *self.of_rows.spec))

    def filled_up(self, batch_size: int) -> int:
        """The smallest number of rows, of at least so many, that the devices can share."""
        return math.ceil(batch_size / self.mesh.size) * self.mesh.size if self.axis == "data" else batch_size


def choose(config: Config) -> Layout:
    """Chooses the devices that a configuration asks for: as many of each process.

    Raises:
      ConfigError: there are not so many, or they cannot share the batch or the members.
    """
    per_process = _devices_of_each_process(config.parallel)
    if problems := list(sharing_problems(config, per_process * jax.process_count())):
        raise ConfigError("; ".join(problems))
    used = [
        device
        for process in range(jax.process_count())
        for device in [device for device in jax.devices() if device.process_index == process][:per_process]
    ]
    # The compiler lays out what `shard_map` does not name; explicit axes would have callers name all of it.
    mesh = jax.make_mesh((len(used),), (config.parallel.axis,), axis_types=(AxisType.Auto,), devices=used)
    return Layout(mesh)


def _devices_of_each_process(parallel: ParallelConfig) -> int:
    asked, processes = parallel.devices, jax.process_count()
    there = min(sum(device.process_index == process for device in jax.devices()) for process in range(processes))
    if asked == "all":
        return there
    if asked > there * processes:
        raise ConfigError(
            f"--parallel.devices is {asked}, but there are {there * processes}: choose all, or at most so many"
        )
    if asked % processes:
        raise ConfigError(
            f"--parallel.devices is {asked}, which {processes} processes cannot share evenly: "
            f"choose {nearest_multiples(asked, processes)}"
        )
    return asked // processes


def place(tree: Tree, sharding: NamedSharding) -> Tree:
    """Puts arrays of the host, the same on every process, onto devices.

    Args:
      tree: a pytree of NumPy arrays, numbers, or arrays and keys of this process.
      sharding: of every leaf.
    """
    return jax.tree.map(lambda leaf: _placed(leaf, sharding), tree)


def _placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    # Onto devices of several processes `device_put` would first compare what each of them puts there.
    whole = np.asarray(leaf)
    with jax.transfer_guard("allow"):  # asked for by name, which JAX cannot see
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def gathered(tree: Tree, layout: Layout) -> Tree:
    """Arrays that this process can read as a whole: of members on devices of other processes, copies; all call this."""
    leaves = jax.tree.leaves(tree)
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return tree
    return jax.jit(lambda tree: tree, out_shardings=layout.everywhere)(tree)


def describe(layout: Layout) -> dict[str, Any]:
    """What a run has used, as values that JSON can hold."""
    return {
        "devices": [str(device.device_kind) for device in layout.mesh.devices.flat],
        "devices_seen": jax.device_count(),
        "processes": jax.process_count(),
        "axis": layout.axis,
    }


def in_words(layout: Layout) -> str:
    """How many devices are used of how many there are."""
    used, seen, processes = layout.mesh.size, jax.device_count(), jax.process_count()
    kind = layout.mesh.devices.flat[0].device_kind
    of_all = f"{used} of {seen} {kind} devices" if seen > 1 else f"1 {kind} device"
    return f"{of_all} in {processes} processes" if processes > 1 else of_all
