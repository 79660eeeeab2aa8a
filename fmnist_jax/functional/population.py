"""Many models trained as one program: members that differ in their seed, and in any floats of the configuration.

Nothing here depends on what a step does: the functions of one model are mapped over a leading axis of members.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from fmnist_jax.config.schema import SECTIONS, Config
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional.eval_step import EvalStep, Predict, make_eval_step, make_predict
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import IMAGE_SHAPE, NUM_CLASSES, Shape
from fmnist_jax.functional.objective import Batch
from fmnist_jax.functional.recipe import MakeRecipe, Recipe, make_recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.functional.train_step import TrainChunk, make_train_chunk

Map = Callable[..., Callable[..., Any]]
"""`map(function, in_axes) -> function` of arrays with a leading axis of members: `jax.vmap`, or `in_turn`."""


def in_turn(function: Callable[..., Any], in_axes: Any = 0) -> Callable[..., Any]:
    """Like `jax.vmap`, but computes one member after another, each to the same bits as alone (see `make_population`).

    Args:
      function: the function of one member.
      in_axes: for each argument, 0 if it has a leading axis of members, None if all members share it.

    Raises:
      ValueError: `in_axes` has another value.
    """
    axis_of_arg = tuple(in_axes) if isinstance(in_axes, tuple | list) else (in_axes,)
    if any(axis is not None and axis != 0 for axis in axis_of_arg):
        raise ValueError(f"in_axes is {in_axes}: expected 0 or None for each argument")

    def mapped(*args: Any) -> Any:
        axes = axis_of_arg if isinstance(in_axes, tuple | list) else axis_of_arg * len(args)
        # None is a pytree without leaves, so what all members share stays out of the loop's arguments.
        mapped_args = [None if axis is None else arg for arg, axis in zip(args, axes, strict=True)]

        def call_member(member_args: list[Any]) -> Any:
            pairs = zip(args, member_args, axes, strict=True)
            return function(*(shared if axis is None else own for shared, own, axis in pairs))

        return lax.map(call_member, mapped_args)

    return mapped


def members_map(platform: str) -> Map:
    """The fastest way to map over members: all at once, but on a CPU, which one member alone keeps busy, one by one.

    Args:
      platform: as `jax.default_backend()` names it.
    """
    return in_turn if platform == "cpu" else jax.vmap


def make_ensemble_predict(predict: Predict, over_members: Map) -> Predict:
    """Makes the `predict` of an ensemble: from the weights of all members, the logarithm of their mean probabilities.

    That is a deep ensemble (Lakshminarayanan et al. 2017, arXiv:1612.01474). The logarithms serve as logits: their
    softmax is the mean itself.

    Args:
      predict: that of one member.
      over_members: `members_map` of the platform.

    Returns:
      `predict(params [M, ...], batch_stats [M, ...], images [B, H, W, C]) -> f32[B, K]`.
    """

    def ensemble_predict(params: Params, batch_stats: BatchStats, images: Any) -> Array:
        return mean_log_probabilities(over_members(predict, (0, 0, None))(params, batch_stats, images))

    return ensemble_predict


def mean_log_probabilities(logits: Array) -> Array:
    """The logarithm of the members' mean probabilities.

    Args:
      logits: f32[M, B, K].

    Returns:
      f32[B, K].
    """
    return jax.nn.logmeanexp(jax.nn.log_softmax(logits), axis=0)


class Population(NamedTuple):
    """Functions of states, weights and metrics that have a leading axis of M members."""

    init: Callable[[Array], TrainState]
    """`keys [M] -> states`, before the first step."""
    step: Callable[[TrainState, Batch], tuple[TrainState, Any]]
    """`(states, batch) -> (states, metrics)`, all members on the same batch."""
    chunk: TrainChunk
    """`(states, data, num_steps) -> (states, metrics)`, each member on batches of its own."""
    eval_step: EvalStep
    """`(params, batch_stats, batch) -> metrics` of each member."""
    predict: Predict
    """`(params, batch_stats, images) -> f32[M, B, K]`."""
    ensemble_predict: Predict
    """`(params, batch_stats, images) -> f32[B, K]`, the logarithm of the members' mean probabilities."""


def make_population(
    config: Config,
    varied: Mapping[str, Array] | None = None,
    *,
    over_members: Map = jax.vmap,
    max_steps: int = 100,
    image_shape: Shape = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    make_recipe: MakeRecipe = make_recipe,
) -> Population:
    """Makes the functions that train many members as one program.

    With threefry keys, a member equals the same run alone to rounding; bit for bit if `over_members` is `in_turn`, only
    seeds differ and XLA compiles both loops alike, which it does on every processor tried except one with AVX-512 under
    jax 0.12. The part of a varied number is switched on for every member; where its value is 0, it changes nothing.
    Members are evaluated by networks of their own where a number of `model` varies; otherwise by one, with weights of
    any members.

    Args:
      config: what the members have in common.
      varied: values of fields of the configuration, one for each member, such as `{"optim.peak_lr": f32[M]}`.
      over_members: `members_map` of the platform.
      max_steps: the longest chunk.
      image_shape: as for `make_recipe`.
      num_classes: as for `make_recipe`.
      make_recipe: composes the recipe of a member.

    Raises:
      ConfigError: a varied field does not hold a float, or the values are not f32[M] of one M, or `make_recipe` is
        `partial(make_recipe, ...)` with a part that takes the place of what a field configures.
    """
    values = _check_values(varied or {})
    _refuse_replaced(values, make_recipe)

    def recipe(member_values: Mapping[str, Array]) -> Recipe:
        return make_recipe(_with_values(config, member_values), image_shape=image_shape, num_classes=num_classes)

    def chunk(
        member_values: Mapping[str, Array], state: TrainState, data: Batch, num_steps: Array
    ) -> tuple[TrainState, Any]:
        member = recipe(member_values)
        member_chunk = make_train_chunk(member.step, config.train.batch_size, max_steps, sample=member.sample)
        return member_chunk(state, data, num_steps)

    def map_over_members(function: Callable[..., Any], in_axes: Any) -> Callable[..., Any]:
        """Maps a function whose first argument is a member's own values."""
        mapped = over_members(function, (0 if values else None, *in_axes))
        return lambda *args: mapped(values, *args)

    def predict(member_values: Mapping[str, Array], params: Params, batch_stats: BatchStats, images: Any) -> Array:
        return make_predict(recipe(member_values).model)(params, batch_stats, images)

    def eval_step(member_values: Mapping[str, Array], params: Params, batch_stats: BatchStats, batch: Batch) -> Any:
        return make_eval_step(partial(predict, member_values))(params, batch_stats, batch)

    def map_networks(function: Callable[..., Any]) -> Callable[..., Any]:
        """Maps `predict` or `eval_step` over the weights of all members or, where networks are alike, of any."""
        if any(name.startswith("model.") for name in values):
            return map_over_members(function, (0, 0, None))
        first = {name: value[0] for name, value in values.items()}
        return over_members(partial(function, first), (0, 0, None))

    predict_members = map_networks(predict)
    return Population(
        init=map_over_members(lambda member_values, key: recipe(member_values).init(key), (0,)),
        step=map_over_members(lambda member_values, state, batch: recipe(member_values).step(state, batch), (0, None)),
        chunk=map_over_members(chunk, (0, None, None)),
        eval_step=map_networks(eval_step),
        predict=predict_members,
        ensemble_predict=lambda *args: mean_log_probabilities(predict_members(*args)),
    )


def _with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The configuration with some values replaced, each named by its section and field."""
    for name, value in values.items():
        section, _, field = name.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{field: value})})
    return config


_REPLACED: Mapping[str, tuple[str, ...]] = {
    "model": ("model.",),
    "optimizer": ("optim.",),
    "loss_fn": ("train.label_smoothing",),
    "augment": ("augment.crop_padding", "augment.rotation", "augment.photo_probability", "augment.erase_probability"),
    "mix": ("augment.mixup_alpha", "augment.cutmix_alpha", "augment.mix_probability"),
}
"""What a part that is passed to `make_recipe` takes the place of, by the beginnings of the fields' names."""


def _refuse_replaced(varied: Mapping[str, Any], composed_by: MakeRecipe) -> None:
    """Checks that varied fields are not those of a part which a finished one takes the place of.

    Raises:
      ConfigError: one is, so that all members would be alike.
    """
    composer: Any = composed_by
    is_partial = isinstance(composer, partial) and composer.func is make_recipe
    given = composer.keywords if is_partial else {}
    for keyword, replaced in _REPLACED.items():
        for name in varied:
            if keyword in given and name.startswith(replaced):
                raise ConfigError(
                    f"{name} is varied, but {keyword}= takes the place of what it configures: make that from `config`, "
                    "in a function of your own that calls make_recipe"
                )


def _check_values(varied: Mapping[str, Any]) -> dict[str, Array]:
    floats = [
        f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
        if getattr(field.type, "__origin__", None) is float
    ]
    for name in varied:
        if name not in floats:
            raise ConfigError(f"{name!r} cannot be varied: choose one of {', '.join(floats)}")
    values = {name: jnp.asarray(value, jnp.float32) for name, value in varied.items()}
    for name, value in values.items():
        if value.ndim != 1:
            raise ConfigError(f"{name} has shape {list(value.shape)}: expected one number for each member")
        if not len(value):
            raise ConfigError(f"{name} has no values: expected one number for each member")
    if len({len(value) for value in values.values()}) > 1:
        sizes = ", ".join(f"{name} {len(value)}" for name, value in values.items())
        raise ConfigError(f"the numbers of members differ ({sizes}): give every field the same number of values")
    return values
