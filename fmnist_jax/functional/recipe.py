"""What a configuration trains, as pure functions: everything but the data, the files and the clock."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import optax
from jax import Array

from fmnist_jax.config.schema import Config
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.functional.augment import Augment, make_augment
from fmnist_jax.functional.averaging import make_averaging_step, start_average
from fmnist_jax.functional.descent import TrainStep, make_descent
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import LossFn, MetricsFn, batch_metrics, make_cross_entropy
from fmnist_jax.functional.mixing import Mix, make_mix
from fmnist_jax.functional.model import IMAGE_SHAPE, NUM_CLASSES, Shape, make_model
from fmnist_jax.functional.objective import Objective, make_objective
from fmnist_jax.functional.optim import make_optimizer, make_schedule
from fmnist_jax.functional.state import TrainState, Weights, init_state
from fmnist_jax.functional.train_step import Sample, make_sample
from fmnist_jax.functional.transfer import freeze, frozen_norms, frozen_parameters, start_from


class Recipe(NamedTuple):
    """The parts of a training run, to be jitted, mapped or replaced one by one."""

    model: Model
    schedule: optax.Schedule
    """The learning rate, which a run logs."""
    optimizer: optax.GradientTransformation
    objective: Objective
    """With the loss, the augmentation and the mixing that the configuration names."""
    init: Callable[[Array], TrainState]
    """`key [] -> state`, before the first step."""
    sample: Sample
    """Gathers the batches, mirrored in every other epoch where the configuration has `flip="alternating"`."""
    step: TrainStep
    """`make_step(objective)`, for batches as `sample` gathers them."""
    make_step: Callable[[Objective], TrainStep]
    """Makes the optimiser's step down an objective; it also moves the average of the weights if one is kept."""


class MakeRecipe(Protocol):
    """A function to use in place of `make_recipe`: given one, `fmnist_jax.run` trains what it composes."""

    def __call__(
        self, config: Config, *, image_shape: Shape, num_classes: int, source: Weights | None = None
    ) -> Recipe:
        """Composes the parts of a run; arguments as for `make_recipe`."""
        ...


def make_recipe(
    config: Config,
    *,
    image_shape: Shape = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    source: Weights | None = None,
    model: Model | None = None,
    optimizer: optax.GradientTransformation | None = None,
    schedule: optax.Schedule | None = None,
    loss_fn: LossFn | None = None,
    augment: Augment | None = None,
    mix: Mix | None = None,
    metrics_fn: MetricsFn = batch_metrics,
) -> Recipe:
    """Composes the parts that a configuration names, or replacements for them.

    A part given here is used in every part that depends on it: `partial(make_recipe, model=mine)` is a `MakeRecipe`.
    In a finished recipe, replace a part together with those that depend on it: an objective, for example, by
    `recipe._replace(objective=penalised, step=recipe.make_step(penalised))`.

    The configuration's `data`, `run` and `init.source` are ignored, except that `data` determines the number of steps
    of the learning-rate schedule.

    Args:
      config: the configuration of the run.
      image_shape: height, width and channels; `Dataset.image_shape`.
      num_classes: C; `Dataset.num_classes`.
      source: weights of another network, of which `init` takes those that fit (see `transfer`); if None, all parameters
        are newly initialised.
      model: replaces the network that `config.model` describes, which is then ignored. It must itself leave the
        statistics of frozen norms unchanged, as `make_model(..., frozen=frozen_norms(pattern))` does.
      optimizer: replaces that of `config.optim`; give its schedule, too, because a run logs it.
      schedule: replaces that of `config.optim`.
      loss_fn: as for `make_objective`, in place of cross-entropy with label smoothing.
      augment: as for `make_objective`, in place of the augmentations of `config.augment`, except `flip="alternating"`,
        which `sample` applies.
      mix: as for `make_objective`, in place of the mixing of `config.augment`.
      metrics_fn: as for `make_objective`, for labels that only your own loss takes; a run needs it to return `Metrics`.

    Raises:
      ConfigError: the configuration describes no network for such images, names a part that does not exist or selects
        two mixes, the number of training images is not known yet, or `init.freeze` matches no parameter or all.
    """
    frozen = None if config.init.freeze is None else frozen_norms(config.init.freeze)
    if model is None:
        model = make_model(config.model, image_shape=image_shape, num_classes=num_classes, frozen=frozen)
    if schedule is None:
        schedule = make_schedule(config.optim, config.total_steps)
    if optimizer is None:
        optimizer = make_optimizer(config.optim, schedule)
    if config.init.freeze is not None:
        frozen_parameters(config.init.freeze, jax.eval_shape(model.init, jax.random.key(0))[0])
        optimizer = freeze(optimizer, config.init.freeze)
    if source is not None:
        model = start_from(model, source)
    objective = make_objective(
        model,
        loss_fn=make_cross_entropy(config.train.label_smoothing) if loss_fn is None else loss_fn,
        augment=make_augment(config.augment) if augment is None else augment,
        mix=make_mix(config.augment, num_classes) if mix is None else mix,
        metrics_fn=metrics_fn,
    )

    keeps_average = not is_static_zero(config.train.average_decay)

    def init(key: Array) -> TrainState:
        state = init_state(model, optimizer, key)
        return start_average(state) if keeps_average else state

    def make_step(objective: Objective) -> TrainStep:
        step = make_descent(objective, optimizer)
        return make_averaging_step(step, config.train.average_decay) if keeps_average else step

    sample = make_sample(config.augment)
    return Recipe(model, schedule, optimizer, objective, init, sample, make_step(objective), make_step)
