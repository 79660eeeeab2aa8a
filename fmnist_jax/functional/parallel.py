"""Data parallelism: each device takes its rows of every batch, and all take the same step.

`jax.shard_map` maps over a mesh of one axis, `data`: state and data set are replicated on every device, which gathers
only its own rows of each batch; statistics, loss and gradients are those of the whole batch, because the layers and the
objective sum over the axes along which the batch varies (`functional.sharding`). The step itself is given no
mesh. Random draws are the same bits on any number of devices; sums are the same to rounding.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jax import Array, lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fmnist_jax.functional.descent import TrainStep
from fmnist_jax.functional.eval_step import EvalStep, Predict
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import Sample, TrainChunk, make_train_chunk, refuse_longer, sample_batch

DATA_AXIS = "data"
"""The mesh axis along which the rows of a batch are sharded."""

Function = TypeVar("Function", bound=Callable[..., Any])

_REPLICATED, _ROWS = PartitionSpec(), PartitionSpec(DATA_AXIS)


def over_mesh(function: Function, mesh: Mesh, in_specs: Any, out_specs: Any) -> Function:
    """Maps a function over the shards of its arguments by `jax.shard_map`; returns it unchanged for one device.

    Args:
      function: what each device is to compute, a function of arrays.
      mesh: the mesh of devices.
      in_specs: how each argument is sharded.
      out_specs: how the results are sharded.
    """
    if mesh.size == 1:
        return function
    mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    if AxisType.Explicit not in mesh.axis_types:
        return mapped

    shardings = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), in_specs, is_leaf=lambda spec: isinstance(spec, PartitionSpec)
    )

    def resharded(*args: Any) -> Any:
        # Along explicit axes, `shard_map` takes only what is sharded as its specs say, which host arrays never are.
        return mapped(*jax.reshard(args, shardings))

    return cast(Function, resharded)


def _check_axis(mesh: Mesh) -> None:
    if mesh.axis_names != (DATA_AXIS,):
        raise ValueError(f"the mesh has the axes {', '.join(map(str, mesh.axis_names))}: expected one, {DATA_AXIS!r}")


def sample_own_rows(sample: Sample, axis: str) -> Sample:
    """Makes a `sample` that gathers, on each shard of an axis, only its own rows of the batch.

    Batches follow one another without gaps, so part s of the N parts of batch t is batch t N + s of a size N times
    smaller.

    Args:
      sample: gathers the examples from number `step * batch_size` on, as `sample_batch` does.
      axis: an axis of the `jax.shard_map` that it is called in; the batch size is that of all shards together.

    Raises (what is returned, while it is traced):
      ValueError: the shards cannot have equal parts of a batch.
    """

    def sample_rows(data: Batch, key: Array, step: Array, batch_size: int) -> Batch:
        shards = lax.axis_size(axis)
        if batch_size % shards:
            raise ValueError(f"batches of {batch_size} on {shards} shards: expected a multiple of {shards}")
        return sample(data, key, step * shards + lax.axis_index(axis), batch_size // shards)

    return sample_rows


def make_parallel_chunk(
    step_fn: TrainStep, batch_size: int, max_steps: int, mesh: Mesh, *, sample: Sample = sample_batch
) -> TrainChunk:
    """Makes a chunk: many steps in one compiled loop, each on a batch sharded over the devices of a mesh.

    Args:
      step_fn: what `make_train_step` returns.
      batch_size: B, over all devices together.
      max_steps: the longest chunk, in steps.
      mesh: of one axis, `data`.
      sample: gathers the examples of a batch, as for `sample_own_rows`.

    Returns:
      `chunk(state, data, num_steps) -> (state, metrics)`, as `make_train_chunk` does, with every argument and result on
      every device.

    Raises:
      ValueError: the devices cannot share the batch evenly, or the mesh has other axes. The chunk raises what that of
        `make_train_chunk` does.
    """
    _check_axis(mesh)
    if batch_size % mesh.size:
        raise ValueError(f"batch_size is {batch_size}: expected a multiple of the {mesh.size} devices")
    local_sample = sample if mesh.size == 1 else sample_own_rows(sample, DATA_AXIS)
    mapped = over_mesh(
        make_train_chunk(step_fn, batch_size, max_steps, sample=local_sample),
        mesh,
        (_REPLICATED, _REPLICATED, _REPLICATED),
        _REPLICATED,
    )

    def chunk(state: TrainState, data: Batch, num_steps: Array) -> tuple[TrainState, Any]:
        refuse_longer(num_steps, max_steps)  # here, because it is traced within `shard_map`
        return mapped(state, data, num_steps)

    return chunk


def make_parallel_eval_step(eval_step: EvalStep, mesh: Mesh) -> EvalStep:
    """Makes an evaluation step whose batch is sharded over the devices of a mesh, and whose sums are on each of them.

    Args:
      eval_step: what `make_eval_step` returns.
      mesh: of one axis, `data`, whose size divides the number of rows of a batch.

    Raises:
      ValueError: the mesh has other axes.
    """
    _check_axis(mesh)

    def summed_eval_step(params: Params, batch_stats: BatchStats, batch: Batch) -> Any:
        return lax.psum(eval_step(params, batch_stats, batch), DATA_AXIS)

    return over_mesh(
        summed_eval_step if mesh.size > 1 else eval_step, mesh, (_REPLICATED, _REPLICATED, _ROWS), _REPLICATED
    )


def make_parallel_predict(predict: Predict, mesh: Mesh) -> Predict:
    """Makes a `predict` whose images and results are sharded by row over the devices of a mesh.

    Args:
      predict: what `make_predict` returns.
      mesh: of one axis, `data`, whose size divides the number of images.

    Raises:
      ValueError: the mesh has other axes.
    """
    _check_axis(mesh)
    return over_mesh(predict, mesh, (_REPLICATED, _REPLICATED, _ROWS), _ROWS)
