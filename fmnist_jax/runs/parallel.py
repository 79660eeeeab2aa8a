"""Which devices a run uses, and how its arrays are placed on them."""

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
    """Has one axis: `data` or `member`."""

    @property
    def axis(self) -> str:
        """The name of the axis."""
        return str(self.mesh.axis_names[0])

    @property
    def replicated(self) -> NamedSharding:
        """Replicated: whole on each device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def member_sharding(self) -> NamedSharding:
        """The sharding of arrays whose leading axis is that of the members."""
        return NamedSharding(self.mesh, PartitionSpec("member") if self.axis == "member" else PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        """The sharding of a batch that is passed in from outside the compiled loop."""
        return NamedSharding(self.mesh, PartitionSpec("data") if self.axis == "data" else PartitionSpec())

    @property
    def stacked_batch_sharding(self) -> NamedSharding:
        """The sharding of batches that are stacked along an axis before their rows."""
        return NamedSharding(self.mesh, PartitionSpec(None, *self.batch_sharding.spec))

    def padded_batch_size(self, batch_size: int) -> int:
        """The batch size, rounded up to a number of rows that the devices can share evenly."""
        return math.ceil(batch_size / self.mesh.size) * self.mesh.size if self.axis == "data" else batch_size


def choose_layout(config: Config) -> Layout:
    """Chooses the devices that a configuration asks for, the same number from each process.

    Raises:
      ConfigError: there are too few, or they cannot share the batch or the members evenly.
    """
    per_process = _devices_per_process(config.parallel)
    if problems := list(sharing_problems(config, per_process * jax.process_count())):
        raise ConfigError("; ".join(problems))
    used = [
        device
        for process in range(jax.process_count())
        for device in [device for device in jax.devices() if device.process_index == process][:per_process]
    ]
    # The compiler shards what `shard_map` does not specify; explicit axes would make callers specify everything.
    mesh = jax.make_mesh((len(used),), (config.parallel.axis,), axis_types=(AxisType.Auto,), devices=used)
    return Layout(mesh)


def _devices_per_process(parallel: ParallelConfig) -> int:
    requested, processes = parallel.devices, jax.process_count()
    available = min(sum(device.process_index == process for device in jax.devices()) for process in range(processes))
    if requested == "all":
        return available
    if requested > available * processes:
        raise ConfigError(
            f"--parallel.devices is {requested}, but there are {available * processes}: choose all, or at most "
            "that many"
        )
    if requested % processes:
        raise ConfigError(
            f"--parallel.devices is {requested}, which {processes} processes cannot share evenly: "
            f"choose {nearest_multiples(requested, processes)}"
        )
    return requested // processes


def place(tree: Tree, sharding: NamedSharding) -> Tree:
    """Puts host arrays, the same in every process, onto devices.

    Args:
      tree: a pytree of NumPy arrays, numbers, or this process's arrays and keys.
      sharding: the sharding of every leaf.
    """
    return jax.tree.map(lambda leaf: _put_leaf(leaf, sharding), tree)


def _put_leaf(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put_leaf(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
    # With devices of several processes, `device_put` would first compare what each of them passes.
    array = np.asarray(leaf)
    with jax.transfer_guard("allow"):  # an explicit transfer, though JAX cannot tell
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def gather(tree: Tree, layout: Layout) -> Tree:
    """Arrays that this process can read whole, copying members from other processes; all processes must call this."""
    leaves = jax.tree.leaves(tree)
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return tree
    return jax.jit(_identity, out_shardings=layout.replicated)(tree)


def _identity(tree: Tree) -> Tree:
    # A function of its own, because a lambda would be compiled anew at each call.
    return tree


def describe(layout: Layout) -> dict[str, Any]:
    """The devices and processes of a run, as values that JSON can hold."""
    return {
        "devices": [str(device.device_kind) for device in layout.mesh.devices.flat],
        "devices_seen": jax.device_count(),
        "processes": jax.process_count(),
        "axis": layout.axis,
    }


def to_text(layout: Layout) -> str:
    """Says how many of the available devices are used."""
    used, seen, processes = layout.mesh.size, jax.device_count(), jax.process_count()
    kind = layout.mesh.devices.flat[0].device_kind
    of_all = f"{used} of {seen} {kind} devices" if seen > 1 else f"1 {kind} device"
    return f"{of_all} in {processes} processes" if processes > 1 else of_all
