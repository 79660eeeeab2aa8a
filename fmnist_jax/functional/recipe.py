"""What a configuration trains, as pure functions: everything but the data, the files and the clock."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import optax
from jax import Array

from fmnist_jax.config.schema import Config
from fmnist_jax.config.values import switched_off
from fmnist_jax.functional.augment import make_augment
from fmnist_jax.functional.averaging import make_averaging_step, start_average
from fmnist_jax.functional.descent import TrainStep, make_descent
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import make_cross_entropy
from fmnist_jax.functional.mixing import make_mix
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
    optimizer: optax.GradientTransformation
    objective: Objective
    """With the loss, the augmentation and the mixing that the configuration names."""
    init: Callable[[Array], TrainState]
    """`key [] -> state`, before the first step."""
    sample: Sample
    step: TrainStep
    """`make_step(objective)`."""
    make_step: Callable[[Objective], TrainStep]
    """Makes the step down an objective by the optimiser, which also moves the average of the weights if one is kept."""


class MakeRecipe(Protocol):
    """A function that may take the place of `make_recipe`: by an own one, `fmnist_jax.run` trains what it composes."""

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
) -> Recipe:
    """Composes the parts that a configuration names.

    One of them is replaced by composing those behind it anew, such as `recipe.make_step(penalised)`.

    Its `data`, `run` and `init.source` are not looked at, but for the number of steps over which the learning rate
    goes.

    Args:
      config: of the run.
      image_shape: height, width and channels; `Dataset.image_shape`.
      num_classes: C; `Dataset.num_classes`.
      source: weights of another network, of which `init` takes what fits, see `transfer`; without it, all start afresh.

    Raises:
      ConfigError: there is no such network for such images, how many there are is not known yet, or `init.freeze`
        matches no parameter or all.
    """
    frozen = None if config.init.freeze is None else frozen_norms(config.init.freeze)
    model = make_model(config.model, image_shape=image_shape, num_classes=num_classes, frozen=frozen)
    schedule = make_schedule(config.optim, config.total_steps)
    optimizer = make_optimizer(config.optim, schedule)
    if config.init.freeze is not None:
        frozen_parameters(config.init.freeze, jax.eval_shape(lambda: model.init(jax.random.key(0)))[0])
        optimizer = freeze(optimizer, config.init.freeze)
    if source is not None:
        model = start_from(model, source)
    objective = make_objective(
        model,
        loss_fn=make_cross_entropy(config.train.label_smoothing),
        augment=make_augment(config.augment),
        mix=make_mix(config.augment, num_classes),
    )

    averages = not switched_off(config.train.average_decay)

    def init(key: Array) -> TrainState:
        state = init_state(model, optimizer, key)
        return start_average(state) if averages else state

    def make_step(objective: Objective) -> TrainStep:
        step = make_descent(objective, optimizer)
        return make_averaging_step(step, config.train.average_decay) if averages else step

    sample = make_sample(config.augment)
    return Recipe(model, schedule, optimizer, objective, init, sample, make_step(objective), make_step)
