"""What may take the place of `make_recipe`: parts that fit one another and the data, and whose network they are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fmnist_jax.config.schema import (
    Config,
    DataConfig,
    InitConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    RunConfig,
    TrainConfig,
)
from fmnist_jax.errors import CheckpointError, ConfigError
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.recipe import Recipe, make_recipe
from fmnist_jax.functional.state import Weights, init_state
from fmnist_jax.functional.transfer import start_from
from fmnist_jax.runs import loop, own_recipe, recipe_record, results
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.trained import load_trained
from tests.undrawn import IN_RESULTS

CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=60, synthetic_test_size=20, validation_size=0),
    model=ModelConfig(family="plain", widths=(3,), depths=(1,), dropout=0.0),
    optim=OptimConfig(peak_lr=0.05, weight_decay=0.0),
    train=TrainConfig(epochs=1, batch_size=20, eval_batch_size=20),
    parallel=ParallelConfig(devices=1),
)
DATASET = DatasetRecord((28, 28, 1), tuple("abcdefghij"))


def linear_of(classes: int, dtype: Any = jnp.float32, seed_shift: float = 0.0) -> Model:
    def init(key: Any) -> Any:
        return {"kernel": jax.random.normal(key, (784, classes)) / 28 + seed_shift}, {}

    def apply(params: Any, batch_stats: Any, images: Any, *, train: bool, key: Any = None) -> Any:
        return (images.reshape(len(images), -1) @ params["kernel"]).astype(dtype), batch_stats

    return Model(init, apply)


LINEAR = linear_of(10)


def _with(**parts: Any) -> Callable[..., Recipe]:
    return lambda config, **kind: make_recipe(config, **kind)._replace(**parts)


def _compose(made: Callable[..., Recipe]) -> Recipe:
    return made(CONFIG, image_shape=(28, 28, 1), num_classes=10)


def _two_steps(recipe: Recipe) -> Recipe:
    def step(state: Any, batch: Any) -> Any:
        after, metrics = recipe.step(state, batch)
        return after, {"loss": metrics.loss_sum}

    return recipe._replace(step=step)


def _halved(recipe: Recipe) -> Recipe:
    def step(state: Any, batch: Any) -> Any:
        after, metrics = recipe.step(state, batch)
        return replace(after, params=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), after.params)), metrics

    return recipe._replace(step=step)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_with(model=LINEAR), r"init makes other weights than its model: name it as .*model=\.\.\."),
        (
            _with(optimizer=optax.adam(0.1)),
            r"begins another optimizer than its own: name it as .*optimizer=\.\.\.",
        ),
        (partial(make_recipe, model=linear_of(20)), r"logits are float32\[20, 20\]: expected float32\[20, 10\]"),
        (partial(make_recipe, model=linear_of(10, jnp.bfloat16)), r"logits are bfloat16\[20, 10\]: expected float32"),
        (
            lambda config, **kind: _two_steps(make_recipe(config, **kind)),
            r"step returns dict: expected fmnist_jax.M",
        ),
        (lambda config, **kind: _halved(make_recipe(config, **kind)), r"step returns a state of other arrays"),
    ],
    ids=["model", "optimizer", "classes", "halves", "metrics", "state"],
)
def test_parts_that_do_not_fit_are_told_before_anything_is_compiled(made: Callable[..., Recipe], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine: .*{says}"):
        own_recipe.refuse_unfit(_compose(made), "mine", CONFIG, DATASET)


@pytest.mark.parametrize(
    "made",
    [
        make_recipe,
        partial(make_recipe, model=LINEAR, optimizer=optax.adam(0.1), schedule=optax.constant_schedule(0.1)),
        partial(make_recipe, loss_fn=optax.softmax_cross_entropy_with_integer_labels),
    ],
    ids=["the package's", "another model", "another loss"],
)
def test_parts_that_fit_are_taken(made: Callable[..., Recipe]) -> None:
    own_recipe.refuse_unfit(_compose(made), "mine", CONFIG, DATASET)


def _inverted(config: Config, **kind: Any) -> Recipe:
    usual = make_recipe(config, **kind).model

    def apply(params: Any, batch_stats: Any, images: Any, **how: Any) -> Any:
        return usual.apply(params, batch_stats, 1 - images, **how)

    return make_recipe(config, **kind, model=Model(usual.init, apply))


def test_a_network_is_another_one_if_it_predicts_otherwise() -> None:
    def own(made: Callable[..., Recipe], config: Config = CONFIG) -> bool:
        return own_recipe.has_own_network(_compose(made).model, config, DATASET)

    assert not own(make_recipe)
    assert not own(partial(make_recipe, optimizer=optax.sgd(0.1)))
    assert own(partial(make_recipe, model=LINEAR))
    assert own(_inverted)
    assert own(make_recipe, replace(CONFIG, model=replace(CONFIG.model, widths=(3,) * 8, depths=(1,) * 8)))


def test_a_recipe_that_does_not_begin_with_the_weights_it_was_given_is_refused() -> None:
    source = Weights(*linear_of(10, seed_shift=1.0).init(jax.random.key(1)))
    given = partial(make_recipe, CONFIG, source=source)
    own_recipe.refuse_other_start(given(model=LINEAR), "mine", source)

    def forgetful() -> Recipe:
        recipe = given(model=LINEAR)
        return recipe._replace(init=lambda key: init_state(LINEAR, recipe.optimizer, key))

    with pytest.raises(ConfigError, match=r"mine: its model does not begin with the weights of --init\.from"):
        own_recipe.refuse_other_start(forgetful(), "mine", source)
    own_recipe.refuse_other_start(make_recipe(CONFIG, model=start_from(LINEAR, source)), "mine", source)


class Unhashable:
    """An object that can be called, and compared, and so not hashed."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, *arguments: Any, **how: Any) -> Any:
        return LINEAR.apply(*arguments, **how)


def test_a_run_of_ones_own_network_is_known_to_its_function_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, undrawn in IN_RESULTS.items():
        monkeypatch.setattr(results, name, undrawn)
    config = replace(CONFIG, run=RunConfig(dir=tmp_path / "own", progress="plain"))
    of_linear = partial(make_recipe, model=Model(LINEAR.init, Unhashable()))
    summary = loop.run(config, make_recipe=of_linear)
    assert recipe_record.name_of(of_linear) == "partial(make_recipe, model)"
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    model = load_trained(tmp_path / "own", make_recipe=of_linear)
    expected = images.reshape(3, -1) / 255 @ np.asarray(model.params["kernel"])
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"has a network .* from make_recipe=partial\(make_recipe, model\)"):
        load_trained(tmp_path / "own")
    capsys.readouterr()
    assert loop.run(config, make_recipe=of_linear) == summary
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'own'} has a run that ended: nothing was trained")
    # From there on: the weights are those of the source, and another network does not pass for it.
    further = replace(
        config,
        init=InitConfig(source=tmp_path / "own"),
        optim=replace(config.optim, peak_lr=1e-9),
        run=replace(config.run, dir=tmp_path / "further"),
    )
    loop.run(further, make_recipe=of_linear)
    after = load_trained(tmp_path / "further", make_recipe=of_linear)
    np.testing.assert_allclose(after.params["kernel"], model.params["kernel"], atol=1e-6)
    with pytest.raises(CheckpointError, match=r"^--init\.from: .* has a network that its configuration does not tell"):
        loop.run(replace(further, run=replace(config.run, dir=tmp_path / "another")))
