"""What is compiled: a preset's training chunk, evaluation step and prediction, over all chips of a mesh."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fmnist_jax import (
    Batch,
    Config,
    make_eval_step,
    make_parallel_chunk,
    make_parallel_eval_step,
    make_parallel_predict,
    make_predict,
    make_recipe,
    weights_to_score,
)

Part = Literal["training", "evaluation", "prediction"]
PARTS: tuple[Part, ...] = ("training", "evaluation", "prediction")

AXIS = "data"
_IMAGE = (28, 28, 1)


class FunctionSpec(NamedTuple):
    """A function with the shapes, dtypes and shardings of its arguments, and which of them it may overwrite."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donate_argnums: tuple[int, ...] = ()

    def lower(self, platform: str) -> Any:
        """Lowers for a platform that need not be present."""
        traced = jax.jit(self.function, donate_argnums=self.donate_argnums).trace(*self.arguments)
        return traced.lower(lowering_platforms=(platform,))


def parts(config: Config, mesh: Mesh) -> Mapping[Part, Callable[[], FunctionSpec]]:
    """Makes each function of a preset on demand.

    Args:
      config: of a run.
      mesh: with one axis, `data`.
    """
    recipe = make_recipe(config)
    predict = make_predict(recipe.model)
    replicated, sharded = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(AXIS)))
    state = _with_sharding(jax.eval_shape(recipe.init, jax.random.key(0)), replicated)
    data = _with_sharding(_abstract_batch(config.data.train_size), replicated)
    # Rows are padded to a multiple of the chips, as `padded_batch_size` does in a run.
    rows = -(-config.train.eval_batch_size // mesh.size) * mesh.size
    batch = _with_sharding(_abstract_batch(rows), sharded)

    def training() -> FunctionSpec:
        chunk = make_parallel_chunk(
            recipe.step, config.train.batch_size, config.run.log_every, mesh, sample=recipe.sample
        )
        return FunctionSpec(
            chunk, (state, data, _with_sharding(jax.ShapeDtypeStruct((), jnp.int32), replicated)), donate_argnums=(0,)
        )

    def evaluation() -> FunctionSpec:
        return FunctionSpec(make_parallel_eval_step(make_eval_step(predict), mesh), (*weights_to_score(state), batch))

    def prediction() -> FunctionSpec:
        return FunctionSpec(make_parallel_predict(predict, mesh), (*weights_to_score(state), batch.images))

    return {"training": training, "evaluation": evaluation, "prediction": prediction}


def _abstract_batch(count: int) -> Any:
    images, labels = jax.ShapeDtypeStruct((count, *_IMAGE), jnp.uint8), jax.ShapeDtypeStruct((count,), jnp.int32)
    return Batch(images, labels)  # type: ignore[arg-type]  # shapes stand for arrays


def _with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    make_struct = partial(jax.ShapeDtypeStruct, sharding=sharding)
    return jax.tree.map(lambda leaf: make_struct(leaf.shape, leaf.dtype), tree)
