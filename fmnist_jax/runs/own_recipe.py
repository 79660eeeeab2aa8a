"""What another function than `make_recipe` composes: whether a run can train it, and whose network it is."""

from typing import Any

import jax
import numpy as np

from fmnist_jax.config.schema import Config
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional.eval_step import make_predict
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import Metrics
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import Recipe
from fmnist_jax.functional.state import Weights
from fmnist_jax.functional.transfer import transfer
from fmnist_jax.runs.dataset_record import DatasetRecord


def refuse_unfit(recipe: Recipe, name: str, config: Config, dataset: DatasetRecord) -> None:
    """Checks by shapes, before anything is compiled, that the parts of a recipe are of one another and of the data.

    Args:
      recipe: what a function of somebody's own has composed.
      name: of that function.
      config: of the run.
      dataset: what it is trained on.

    Raises:
      ConfigError: they are not; the message says which.
    """
    state = jax.eval_shape(recipe.init, jax.random.key(0))
    made = jax.eval_shape(recipe.model.init, jax.random.key(0))
    if _described((state.params, state.batch_stats)) != _described(made):
        raise ConfigError(f"{name}: its init makes other weights than its model: {_REPLACED.format('model')}")
    if _described(state.opt_state) != _described(jax.eval_shape(recipe.optimizer.init, state.params)):
        raise ConfigError(f"{name}: its init begins another optimizer than its own: {_REPLACED.format('optimizer')}")
    images: Any = jax.ShapeDtypeStruct((config.train.batch_size, *dataset.image_shape), np.uint8)
    logits = jax.eval_shape(make_predict(recipe.model), *made, images)
    _expect(f"{name}: the model's logits are", logits, (config.train.batch_size, dataset.num_classes))
    batch = Batch(images, jax.ShapeDtypeStruct((config.train.batch_size,), np.int32))
    after, metrics = jax.eval_shape(recipe.step, state, batch)
    if _described(after) != _described(state):
        raise ConfigError(f"{name}: its step returns a state of other arrays than it is given: keep shapes and dtypes")
    if not isinstance(metrics, Metrics):
        raise ConfigError(
            f"{name}: its step returns {type(metrics).__name__}: expected fmnist_jax.Metrics, which a run logs"
        )
    _expect(f"{name}: the step's loss_sum is", metrics.loss_sum, ())


_REPLACED = "name it as `fmnist_jax.make_recipe(config, {0}=...)`, or replace what is made of it, too"


def _described(tree: Any) -> Any:
    """A pytree's structure, with the shape and dtype of each leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _expect(what: str, found: Any, shape: tuple[int, ...]) -> None:
    expected = [_described(jax.ShapeDtypeStruct(shape, dtype)) for dtype in (np.float32, np.float64)]
    if _described(found) not in expected:  # such as bfloat16, which no file of NumPy's has
        told = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(found))
        raise ConfigError(f"{what} {told}: expected float32{list(shape)}")


def refuse_other_start(recipe: Recipe, name: str, source: Weights) -> None:
    """Checks that a recipe begins with the weights that it was given.

    Raises:
      ConfigError: it begins with others.
    """
    state = jax.jit(recipe.init)(jax.random.key(0))
    params, batch_stats, _ = transfer(state.params, state.batch_stats, *source)
    if not jax.tree.all(jax.tree.map(np.array_equal, (state.params, state.batch_stats), (params, batch_stats))):
        raise ConfigError(
            f"{name}: its model does not begin with the weights of --init.from: hand source= on to "
            f"fmnist_jax.make_recipe with the model, or make that by fmnist_jax.start_from(model, source)"
        )


def has_own_network(model: Model, config: Config, dataset: DatasetRecord) -> bool:
    """Whether a model predicts by another program, or other shapes, than the one that the configuration describes."""
    try:
        described = make_model(config.model, image_shape=dataset.image_shape, num_classes=dataset.num_classes)
    except ConfigError:
        return True
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.uint8)

    def program(model: Model) -> str:
        weights = jax.eval_shape(model.init, jax.random.key(0))
        return jax.jit(make_predict(model)).lower(*weights, images).as_text()

    return program(model) != program(described)
