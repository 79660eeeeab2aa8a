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

from fmnist_jax.commands import reporting
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
from fmnist_jax.functional.augment import normalize
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import batch_metrics, cross_entropy
from fmnist_jax.functional.objective import Aux, Batch, make_objective
from fmnist_jax.functional.recipe import Recipe, make_recipe
from fmnist_jax.functional.state import Weights
from fmnist_jax.functional.transfer import start_from
from fmnist_jax.runs import loop, own_recipe, parallel, recipe_record, results
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.directory import RunDirectory
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
DATA = Batch(np.zeros((60, 28, 28, 1), np.uint8), np.zeros(60, np.int32))


def check(made: Callable[..., Recipe], devices: int = 1) -> None:
    config = replace(CONFIG, parallel=ParallelConfig(devices=devices))
    layout = parallel.choose_layout(config)
    data = parallel.place(DATA, layout.replicated)
    recipe = made(config, image_shape=(28, 28, 1), num_classes=10)
    own_recipe.refuse_unfit(recipe, "mine", config, layout, data, num_classes=10)


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


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (_with(model=LINEAR), r"init creates different weights from its model's: pass it as .*model=\.\.\."),
        (partial(make_recipe, model=linear_of(20)), r"logits are float32\[20, 20\]: expected float32\[20, 10\]"),
        (partial(make_recipe, model=linear_of(10, jnp.bfloat16)), r"logits are bfloat16\[20, 10\]: expected float32"),
        (
            lambda config, **kind: _two_steps(make_recipe(config, **kind)),
            r"step returns dict: expected fmnist_jax.M",
        ),
    ],
    ids=["model", "classes", "halves", "metrics"],
)
def test_parts_that_do_not_fit_are_told_before_anything_is_compiled(made: Callable[..., Recipe], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine: .*{says}"):
        check(made)


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
    check(made)


def _inverted(config: Config, **kind: Any) -> Recipe:
    usual = make_recipe(config, **kind).model

    def apply(params: Any, batch_stats: Any, images: Any, **how: Any) -> Any:
        return usual.apply(params, batch_stats, 1 - images, **how)

    return make_recipe(config, **kind, model=Model(usual.init, apply))


def test_a_network_is_another_one_if_it_predicts_otherwise() -> None:
    def own(made: Callable[..., Recipe], config: Config = CONFIG) -> bool:
        return own_recipe.has_custom_network(_compose(made).model, config, DATASET)

    assert not own(make_recipe)
    assert not own(partial(make_recipe, optimizer=optax.sgd(0.1)))
    assert own(partial(make_recipe, model=LINEAR))
    assert own(_inverted)
    assert own(make_recipe, replace(CONFIG, model=replace(CONFIG.model, widths=(3,) * 8, depths=(1,) * 8)))


def test_a_recipe_that_makes_no_use_of_the_weights_it_was_given_is_refused() -> None:
    source = Weights(*linear_of(10, seed_shift=1.0).init(jax.random.key(1)))
    without = make_recipe(CONFIG, model=LINEAR)
    own_recipe.refuse_unused_source(without, make_recipe(CONFIG, source=source, model=LINEAR), "mine")
    halved = start_from(LINEAR, jax.tree.map(lambda leaf: leaf / 2, source))
    own_recipe.refuse_unused_source(without, make_recipe(CONFIG, model=halved), "mine")
    with pytest.raises(ConfigError, match=r"mine: it starts from the same weights with and without --init\.from"):
        own_recipe.refuse_unused_source(without, without, "mine")


def _one_hot(recipe: Recipe) -> Recipe:
    """Of batches whose labels are gathered as weights, which only its own objective takes."""

    def sample(*arguments: Any) -> Batch:
        batch = recipe.sample(*arguments)
        return Batch(batch.images, {"weights": jax.nn.one_hot(batch.labels, 10)})

    objective = make_objective(
        LINEAR,
        loss_fn=lambda logits, labels: -(labels["weights"] * jax.nn.log_softmax(logits)).sum(-1),
        metrics_fn=lambda logits, labels, losses: batch_metrics(logits, labels["weights"], losses),
    )
    return recipe._replace(sample=sample, objective=objective, step=recipe.make_step(objective))


def _by_hand(recipe: Recipe) -> Recipe:
    """With means and sums over the axis of the mesh that it writes itself."""

    def objective(params: Any, state: Any, batch: Any) -> Any:
        logits, batch_stats = LINEAR.apply(params, state.batch_stats, normalize(batch.images), train=True)
        losses = cross_entropy(logits, batch.labels)
        metrics = batch_metrics(logits, batch.labels, losses)
        return jax.lax.pmean(losses.mean(), "data"), Aux(batch_stats, jax.lax.psum(metrics, "data"))

    return recipe._replace(objective=objective, step=recipe.make_step(objective))


def _with_a_teacher(recipe: Recipe) -> Recipe:
    """Whose state of the optimiser holds something more."""

    def init(key: Any) -> Any:
        state = recipe.init(key)
        return replace(state, opt_state={"own": state.opt_state, "teacher": jax.tree.map(jnp.copy, state.params)})

    def step(state: Any, batch: Any) -> Any:
        after, metrics = recipe.step(replace(state, opt_state=state.opt_state["own"]), batch)
        return replace(after, opt_state={**state.opt_state, "own": after.opt_state}), metrics

    return recipe._replace(init=init, step=step)


def _fixed_size(recipe: Recipe) -> Recipe:
    def apply(params: Any, batch_stats: Any, images: Any, **how: Any) -> Any:
        return images.reshape(20, 784) @ params["kernel"], batch_stats

    return make_recipe(CONFIG, model=Model(recipe.model.init, apply))


@pytest.mark.parametrize(
    ("change", "devices"),
    [(_one_hot, 1), (_one_hot, 2), (_by_hand, 2), (_with_a_teacher, 1), (_with_a_teacher, 2), (_fixed_size, 1)],
)
def test_what_a_run_can_train_is_not_refused(change: Callable[[Recipe], Recipe], devices: int) -> None:
    check(lambda config, **kind: change(make_recipe(config, **kind, model=LINEAR)), devices)


def test_an_optimizer_that_its_init_does_not_begin_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    check(_with(optimizer=optax.adam(0.1)))
    assert "its init sets up the state of a different optimiser from its own, which" in capsys.readouterr().err
    check(make_recipe)
    assert not capsys.readouterr().err


def test_statistics_of_one_devices_rows_are_told_before_the_run_begins() -> None:
    def init(key: Any) -> Any:
        return LINEAR.init(key)[0], {"mean": jnp.zeros(())}

    def apply(params: Any, batch_stats: Any, images: Any, *, train: bool, key: Any = None) -> Any:
        logits, _ = LINEAR.apply(params, {}, images, train=train)
        return logits, {"mean": images.mean()} if train else batch_stats

    own = partial(make_recipe, model=Model(init, apply))
    check(own)
    with pytest.raises(
        ConfigError, match=r"different values on each device.*fmnist_jax\.batch_norm.*--parallel\.devices 1"
    ):
        check(own, devices=2)


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
    assert recipe_record.custom_recipe_name(of_linear) == "partial(make_recipe, model)"
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    model = load_trained(tmp_path / "own", make_recipe=of_linear)
    expected = images.reshape(3, -1) / 255 @ np.asarray(model.params["kernel"])
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"has a network .* from make_recipe=partial\(make_recipe, model\)"):
        load_trained(tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"now gives it that of its configuration: use the function"):
        recipe_record.refuse_other_network(RunDirectory(tmp_path / "own"), "other", False)
    assert reporting.run(tmp_path / "own").exists()  # of what the run itself has predicted
    capsys.readouterr()
    assert loop.run(config, make_recipe=of_linear) == summary
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'own'} holds a finished run: nothing was trained")
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
    with pytest.raises(CheckpointError, match=r"^--init\.from is .*, whose network .*: give that function to fm"):
        loop.run(replace(further, run=replace(config.run, dir=tmp_path / "another")))
