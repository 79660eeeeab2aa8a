"""Custom functions in place of `make_recipe`: their parts must match, and custom networks are recorded."""

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
from fmnist_jax.data.dataset import load
from fmnist_jax.errors import CheckpointError, ConfigError
from fmnist_jax.functional.interface import Model
from fmnist_jax.functional.metrics import batch_metrics, cross_entropy
from fmnist_jax.functional.objective import Aux, Batch, make_objective
from fmnist_jax.functional.pixels import normalize
from fmnist_jax.functional.recipe import Recipe, make_recipe
from fmnist_jax.functional.state import Weights
from fmnist_jax.functional.transfer import start_from
from fmnist_jax.runs import loop, own_recipe, parallel, recipe_record, results
from fmnist_jax.runs.dataset_record import DatasetRecord
from fmnist_jax.runs.directory import RunDirectory
from fmnist_jax.runs.trained import load_trained
from tests.undrawn import RESULTS_STUBS

CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=60, synthetic_test_size=20, validation_size=0),
    model=ModelConfig(family="plain", widths=(3,), depths=(1,), dropout=0.0),
    optim=OptimConfig(peak_lr=0.05, weight_decay=0.0),
    train=TrainConfig(epochs=1, batch_size=20, eval_batch_size=20),
    parallel=ParallelConfig(devices=1),
)
DATASET = DatasetRecord((28, 28, 1), tuple("abcdefghij"))
DATA = Batch(np.zeros((60, 28, 28, 1), np.uint8), np.zeros(60, np.int32))


def check_recipe(factory: Callable[..., Recipe], devices: int = 1) -> None:
    config = replace(CONFIG, parallel=ParallelConfig(devices=devices))
    layout = parallel.choose_layout(config)
    data = parallel.place(DATA, layout.replicated)
    recipe = factory(config, image_shape=(28, 28, 1), num_classes=10)
    own_recipe.refuse_unfit(recipe, "mine", config, layout, data, num_classes=10)


def make_linear(num_classes: int, dtype: Any = jnp.float32, seed_shift: float = 0.0) -> Model:
    def init(key: Any) -> Any:
        return {"kernel": jax.random.normal(key, (784, num_classes)) / 28 + seed_shift}, {}

    def apply(params: Any, batch_stats: Any, images: Any, *, train: bool, key: Any = None) -> Any:
        return (images.reshape(len(images), -1) @ params["kernel"]).astype(dtype), batch_stats

    return Model(init, apply)


LINEAR = make_linear(10)


def _replacing(**parts: Any) -> Callable[..., Recipe]:
    return lambda config, **kwargs: make_recipe(config, **kwargs)._replace(**parts)


def _build(factory: Callable[..., Recipe]) -> Recipe:
    return factory(CONFIG, image_shape=(28, 28, 1), num_classes=10)


def _with_dict_metrics(recipe: Recipe) -> Recipe:
    def step(state: Any, batch: Any) -> Any:
        new_state, metrics = recipe.step(state, batch)
        return new_state, {"loss": metrics.loss_sum}

    return recipe._replace(step=step)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (_replacing(model=LINEAR), r"init creates different weights from its model's: pass it as .*model=\.\.\."),
        (partial(make_recipe, model=make_linear(20)), r"logits are float32\[20, 20\]: expected float32\[20, 10\]"),
        (partial(make_recipe, model=make_linear(10, jnp.bfloat16)), r"logits are bfloat16\[20, 10\]: expected float32"),
        (
            lambda config, **kwargs: _with_dict_metrics(make_recipe(config, **kwargs)),
            r"step returns dict: expected fmnist_jax.M",
        ),
    ],
    ids=["model", "number of classes", "bfloat16", "metrics"],
)
def test_refuse_unfit_names_the_mismatched_part(factory: Callable[..., Recipe], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^mine: .*{message}"):
        check_recipe(factory)


@pytest.mark.parametrize(
    "factory",
    [
        make_recipe,
        partial(make_recipe, model=LINEAR, optimizer=optax.adam(0.1), schedule=optax.constant_schedule(0.1)),
        partial(make_recipe, loss_fn=optax.softmax_cross_entropy_with_integer_labels),
    ],
    ids=["package default", "custom model and optimizer", "custom loss"],
)
def test_refuse_unfit_accepts_matching_parts(factory: Callable[..., Recipe]) -> None:
    check_recipe(factory)


def _on_inverted_images(config: Config, **kwargs: Any) -> Recipe:
    default_model = make_recipe(config, **kwargs).model

    def apply(params: Any, batch_stats: Any, images: Any, **options: Any) -> Any:
        return default_model.apply(params, batch_stats, 1 - images, **options)

    return make_recipe(config, **kwargs, model=Model(default_model.init, apply))


def test_network_is_custom_if_its_predictions_differ() -> None:
    def is_custom(factory: Callable[..., Recipe], config: Config = CONFIG) -> bool:
        return own_recipe.has_custom_network(_build(factory).model, config, DATASET)

    assert not is_custom(make_recipe)
    assert not is_custom(partial(make_recipe, optimizer=optax.sgd(0.1)))
    assert is_custom(partial(make_recipe, model=LINEAR))
    assert is_custom(_on_inverted_images)
    assert is_custom(make_recipe, replace(CONFIG, model=replace(CONFIG.model, widths=(3,) * 8, depths=(1,) * 8)))


def test_recipe_that_ignores_its_source_weights_is_refused() -> None:
    source = Weights(*make_linear(10, seed_shift=1.0).init(jax.random.key(1)))
    from_scratch = make_recipe(CONFIG, model=LINEAR)
    own_recipe.refuse_unused_source(from_scratch, make_recipe(CONFIG, source=source, model=LINEAR), "mine")
    halved = start_from(LINEAR, jax.tree.map(lambda leaf: leaf / 2, source))
    own_recipe.refuse_unused_source(from_scratch, make_recipe(CONFIG, model=halved), "mine")
    with pytest.raises(ConfigError, match=r"mine: it starts from the same weights with and without --init\.from"):
        own_recipe.refuse_unused_source(from_scratch, from_scratch, "mine")


def _with_label_weights(recipe: Recipe) -> Recipe:
    """A recipe whose batches have label weights, which only its own objective accepts."""

    def sample(*args: Any) -> Batch:
        batch = recipe.sample(*args)
        return Batch(batch.images, {"weights": jax.nn.one_hot(batch.labels, 10)})

    objective = make_objective(
        LINEAR,
        loss_fn=lambda logits, labels: -(labels["weights"] * jax.nn.log_softmax(logits)).sum(-1),
        metrics_fn=lambda logits, labels, losses: batch_metrics(logits, labels["weights"], losses),
    )
    return recipe._replace(sample=sample, objective=objective, step=recipe.make_step(objective))


def _with_manual_collectives(recipe: Recipe) -> Recipe:
    """A recipe with its own means and sums over the mesh axis."""

    def objective(params: Any, state: Any, batch: Any) -> Any:
        logits, batch_stats = LINEAR.apply(params, state.batch_stats, normalize(batch.images), train=True)
        losses = cross_entropy(logits, batch.labels)
        metrics = batch_metrics(logits, batch.labels, losses)
        return jax.lax.pmean(losses.mean(), "data"), Aux(batch_stats, jax.lax.psum(metrics, "data"))

    return recipe._replace(objective=objective, step=recipe.make_step(objective))


def _with_teacher_in_opt_state(recipe: Recipe) -> Recipe:
    """A recipe whose optimiser state also holds the weights of a teacher."""

    def init(key: Any) -> Any:
        state = recipe.init(key)
        return replace(state, opt_state={"own": state.opt_state, "teacher": jax.tree.map(jnp.copy, state.params)})

    def step(state: Any, batch: Any) -> Any:
        new_state, metrics = recipe.step(replace(state, opt_state=state.opt_state["own"]), batch)
        return replace(new_state, opt_state={**state.opt_state, "own": new_state.opt_state}), metrics

    return recipe._replace(init=init, step=step)


def _with_fixed_batch_size(recipe: Recipe) -> Recipe:
    def apply(params: Any, batch_stats: Any, images: Any, **options: Any) -> Any:
        return images.reshape(20, 784) @ params["kernel"], batch_stats

    return make_recipe(CONFIG, model=Model(recipe.model.init, apply))


@pytest.mark.parametrize(
    ("change", "devices"),
    [
        (_with_label_weights, 1),
        (_with_label_weights, 2),
        (_with_manual_collectives, 2),
        (_with_teacher_in_opt_state, 1),
        (_with_teacher_in_opt_state, 2),
        (_with_fixed_batch_size, 1),
    ],
)
def test_refuse_unfit_accepts_unusual_but_trainable_recipes(change: Callable[[Recipe], Recipe], devices: int) -> None:
    check_recipe(lambda config, **kwargs: change(make_recipe(config, **kwargs, model=LINEAR)), devices)


def test_note_if_init_creates_the_state_of_a_different_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    check_recipe(_replacing(optimizer=optax.adam(0.1)))
    assert "its init sets up the state of a different optimiser from its own, which" in capsys.readouterr().err
    check_recipe(make_recipe)
    assert not capsys.readouterr().err


def test_batch_statistics_of_a_single_devices_rows_are_refused() -> None:
    def init(key: Any) -> Any:
        return LINEAR.init(key)[0], {"mean": jnp.zeros(())}

    def apply(params: Any, batch_stats: Any, images: Any, *, train: bool, key: Any = None) -> Any:
        logits, _ = LINEAR.apply(params, {}, images, train=train)
        return logits, {"mean": images.mean()} if train else batch_stats

    factory = partial(make_recipe, model=Model(init, apply))
    check_recipe(factory)
    with pytest.raises(
        ConfigError, match=r"different values on each device.*fmnist_jax\.batch_norm.*--parallel\.devices 1"
    ):
        check_recipe(factory, devices=2)


class Unhashable:
    """A callable that defines `__eq__` and so cannot be hashed."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return LINEAR.apply(*args, **options)


def test_run_with_a_custom_network_requires_its_make_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, stub in RESULTS_STUBS.items():
        monkeypatch.setattr(results, name, stub)
    config = replace(CONFIG, run=RunConfig(dir=tmp_path / "own", progress="plain"))
    make_linear_recipe = partial(make_recipe, model=Model(LINEAR.init, Unhashable()))
    summary = loop.run(config, make_recipe=make_linear_recipe)
    assert recipe_record.custom_recipe_name(make_linear_recipe) == "partial(make_recipe, model)"
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)
    model = load_trained(tmp_path / "own", make_recipe=make_linear_recipe)
    expected = images.reshape(3, -1) / 255 @ np.asarray(model.params["kernel"])
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"has a network .* from make_recipe=partial\(make_recipe, model\)"):
        load_trained(tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"now gives it that of its configuration: use the function"):
        recipe_record.refuse_other_network(RunDirectory(tmp_path / "own"), "other", False)
    assert reporting.run(tmp_path / "own").exists()  # from the predictions that the run has saved
    capsys.readouterr()
    assert loop.run(config, make_recipe=make_linear_recipe) == summary
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'own'} holds a finished run: nothing was trained")
    # A warm start takes the weights of the source, and one with another network is refused.
    warm_config = replace(
        config,
        init=InitConfig(source=tmp_path / "own"),
        optim=replace(config.optim, peak_lr=1e-9),
        run=replace(config.run, dir=tmp_path / "further"),
    )
    loop.run(warm_config, make_recipe=make_linear_recipe)
    warm_model = load_trained(tmp_path / "further", make_recipe=make_linear_recipe)
    np.testing.assert_allclose(warm_model.params["kernel"], model.params["kernel"], atol=1e-6)
    with pytest.raises(CheckpointError, match=r"^--init\.from is .*, whose network .*: give that function to fm"):
        loop.run(replace(warm_config, run=replace(config.run, dir=tmp_path / "another")))


def _averaging(config: Config, **options: Any) -> Recipe:
    """Keeps an average of the weights, which the configuration does not ask for."""
    return make_recipe(replace(config, train=replace(config.train, average_decay=0.5)), **options)


@pytest.mark.parametrize(
    "factory",
    [partial(make_recipe, optimizer=optax.adam(1e-3), schedule=optax.constant_schedule(1e-3)), _averaging],
    ids=["optimiser", "average"],
)
def test_run_of_your_own_optimiser_or_average_is_evaluated_without_it(
    factory: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, stub in RESULTS_STUBS.items():
        monkeypatch.setattr(results, name, stub)
    config = replace(CONFIG, run=RunConfig(dir=tmp_path / "own", progress="plain"))
    loop.run(config, make_recipe=factory)
    known, unknown = load_trained(tmp_path / "own", make_recipe=factory), load_trained(tmp_path / "own")
    jax.tree.map(np.testing.assert_array_equal, unknown.weights, known.weights)
    with np.load(tmp_path / "own" / "predictions.npz") as saved:
        test = load(config.data).test
        np.testing.assert_allclose(unknown.predict(test.images), saved["logits"], atol=1e-4)
