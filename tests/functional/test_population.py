"""Many members as one program, each of them as it is alone."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import (
    AugmentConfig,
    Batch,
    Config,
    ConfigError,
    DataConfig,
    Model,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    in_turn,
    make_ensemble_predict,
    make_eval_step,
    make_population,
    make_predict,
    make_recipe,
    make_train_chunk,
    mean_log_probabilities,
    members_map,
    validate,
)
from fmnist_jax.config.schema import SECTIONS

CONFIG = Config(
    preset="demo",
    data=DataConfig(name="synthetic", synthetic_train_size=96, synthetic_test_size=32, validation_size=32),
    model=ModelConfig(family="resnet", widths=(4,), depths=(1,), dropout=0.2, stochastic_depth=0.2),
    augment=AugmentConfig(erase_probability=0.5),
    train=TrainConfig(epochs=2, batch_size=16, average_decay=0.9),
)
STEPS = 3
FLOATS = [
    f"{section}.{field.name}"
    for section, kind in SECTIONS.items()
    for field in dataclasses.fields(kind)
    if str(field.type).startswith("typing.Annotated[float")
]


@pytest.fixture(scope="module")
def data() -> Batch:
    rng = np.random.default_rng(0)
    return Batch(jnp.asarray(rng.integers(0, 256, (64, 28, 28, 1), np.uint8)), jnp.arange(64, dtype=jnp.int32) % 10)


@functools.cache
def compiled(config: Config) -> tuple[Any, Any]:
    """What begins a run of one model, and its chunk."""
    recipe = make_recipe(config)
    chunk = make_train_chunk(recipe.step, config.train.batch_size, STEPS, sample=recipe.sample)
    return jax.jit(recipe.init), jax.jit(chunk)


def alone(config: Config, key: Array, data: Batch) -> Any:
    """The state and metrics of a run of one model."""
    init, chunk = compiled(config)
    return chunk(init(key), data, jnp.int32(STEPS))


def together(config: Config, keys: Array, data: Batch, **options: Any) -> Any:
    population = make_population(config, max_steps=STEPS, **options)
    return jax.jit(population.chunk)(jax.jit(population.init)(keys), data, jnp.int32(STEPS))


def without_keys(tree: Any) -> list[np.ndarray]:
    data = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    ]
    return [np.asarray(leaf) for leaf in data]


def member(tree: Any, number: int) -> list[np.ndarray]:
    return [leaf[number] for leaf in without_keys(tree)]


def test_in_turn_eight_members_are_eight_single_runs_but_for_last_bits(data: Batch) -> None:
    seeds = jax.vmap(jax.random.key)(jnp.arange(8))
    population, recipe = make_population(CONFIG, max_steps=STEPS, over_members=in_turn), make_recipe(CONFIG)
    # As users compile: the other tests have LLVM optimise nothing, and then the two programs add in other orders.
    as_users: dict[str, Any] = {"xla_backend_optimization_level": "3"}
    if jax.__version_info__ < (0, 11):
        as_users["xla_cpu_use_fusion_emitters"] = True
    members = jax.jit(population.chunk, compiler_options=as_users)(
        jax.jit(population.init)(seeds), data, jnp.int32(STEPS)
    )
    single = make_train_chunk(recipe.step, CONFIG.train.batch_size, STEPS, sample=recipe.sample)
    chunk, init = jax.jit(single, compiler_options=as_users), jax.jit(recipe.init)
    for seed in range(8):
        run = chunk(init(jax.random.key(seed)), data, jnp.int32(STEPS))
        for got, expected in zip(member(members, seed), without_keys(run), strict=True):
            # Bit for bit on jax 0.10, and with AVX2; jax 0.12 adds in another order in the two loops with AVX-512.
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_side_by_side_they_are_the_same_runs_to_rounding(data: Batch) -> None:
    seeds = jax.vmap(jax.random.key)(jnp.array([3, 5]))
    states, metrics = together(CONFIG, seeds, data)
    for number, seed in enumerate((3, 5)):
        single, rows = alone(CONFIG, jax.random.key(seed), data)
        np.testing.assert_allclose(metrics.loss_sum[number][0], rows.loss_sum[0], rtol=1e-6)
        np.testing.assert_allclose(metrics.loss_sum[number], rows.loss_sum, rtol=1e-3)
        np.testing.assert_array_equal(jax.random.key_data(states.key[number]), jax.random.key_data(single.key))


VARIED = {
    "optim": {"momentum": 0.5, "clip_norm": 0.5, "peak_lr": 0.4, "warmup": 0.5, "final_lr": 0.5, "weight_decay": 1.0},
    "augment": {
        **{"rotation": 30.0, "photo_probability": 0.3, "erase_probability": 0.9},
        **{"mixup_alpha": 1.0, "mix_probability": 0.9},
    },
    "train": {"label_smoothing": 0.3, "average_decay": 0.05},
    "model": {"dropout": 0.6, "stochastic_depth": 0.6, "batch_norm_momentum": 0.3},
}


def test_the_floating_numbers_of_the_configuration_are_those_of_the_test_below() -> None:
    names = {f"{section}.{field}" for section, fields in VARIED.items() for field in fields}
    # cutmix_alpha excludes mixup_alpha, and is read where that is; rest_lr is of muon alone.
    assert names == set(FLOATS) - {"augment.cutmix_alpha", "optim.rest_lr"}


def _changed(config: Config, changes: dict[str, dict[str, float]]) -> Config:
    sections = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in changes.items()}
    return dataclasses.replace(config, **sections)


def test_every_floating_number_may_differ_between_members(data: Batch) -> None:
    """The second of two members has other numbers, and is the run with those; the first is the run as configured."""
    config = dataclasses.replace(
        CONFIG, optim=OptimConfig(clip_norm=1.0), augment=AugmentConfig(rotation=10.0, mixup_alpha=0.2)
    )
    keys = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32))
    varied = {
        f"{section}.{name}": [getattr(getattr(config, section), name), value]
        for section, fields in VARIED.items()
        for name, value in fields.items()
    }
    states, metrics = together(config, keys, data, varied=varied, over_members=in_turn)
    for number, single_config in enumerate((config, _changed(config, VARIED))):
        single, rows = alone(single_config, jax.random.key(0), data)
        np.testing.assert_allclose(metrics.loss_sum[number], rows.loss_sum, rtol=2e-3)
        for got, expected in zip(member(states, number), without_keys(single), strict=True):
            np.testing.assert_allclose(got, expected, atol=3e-3)


ZEROS = {
    "optim": ("clip_norm", "final_lr", "momentum", "warmup", "weight_decay"),
    # Of what draws, erasing alone is on: it is to draw the same, whether the others are off or a 0.
    "augment": ("cutmix_alpha", "photo_probability", "rotation"),
    "train": ("average_decay", "label_smoothing"),
    "model": ("batch_norm_momentum", "dropout", "stochastic_depth"),
}


def test_zeros_that_are_varied_are_a_run_without(data: Batch) -> None:
    config = dataclasses.replace(CONFIG, optim=OptimConfig(clip_norm=1.0))
    varied = {f"{section}.{name}": [0.0, 0.5] for section, names in ZEROS.items() for name in names}
    keys = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32))
    states, metrics = together(config, keys, data, varied=varied, over_members=in_turn)
    without = _changed(config, {section: dict.fromkeys(names, 0.0) for section, names in ZEROS.items()})
    single, rows = alone(without, jax.random.key(0), data)
    np.testing.assert_allclose(metrics.loss_sum[0], rows.loss_sum, rtol=2e-3)
    for got, expected in zip(member(states.params, 0), without_keys(single.params), strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-3)


def test_a_number_that_is_varied_is_its_members_own(data: Batch) -> None:
    """Each member but the first differs from it in one number: of those left out above, and the last rate."""
    config = dataclasses.replace(
        CONFIG,
        # The rate falls from the first step on, so what it falls to shows in the few that are taken.
        optim=OptimConfig(name="muon", warmup=0.0),
        augment=AugmentConfig(flip="none", erase_probability=0.0, cutmix_alpha=1.0),
    )
    varied = {
        "augment.mix_probability": [0.5, 1.0, 0.5, 0.5],
        "optim.rest_lr": [0.01, 0.01, 0.1, 0.01],
        "optim.final_lr": [0.0, 0.0, 0.0, 1.0],
    }
    keys = jax.vmap(jax.random.key)(jnp.zeros(4, jnp.uint32))
    _, metrics = together(config, keys, data, varied=varied, over_members=in_turn)
    assert len(np.unique(metrics.loss_sum[:, -1])) == 4


def test_what_cannot_be_varied_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'train.epochs' cannot be varied: choose one of .*optim.peak_lr"):
        make_population(CONFIG, {"train.epochs": jnp.ones(2)})
    with pytest.raises(ConfigError, match=r"'optim.schedule' cannot be varied"):
        make_population(CONFIG, {"optim.schedule": ["cosine", "step"]})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"optim.peak_lr has shape \[\]: expected one number for each member"):
        make_population(CONFIG, {"optim.peak_lr": jnp.float32(1)})
    with pytest.raises(ConfigError, match=r"optim.peak_lr 2, optim.momentum 3"):
        make_population(CONFIG, {"optim.peak_lr": jnp.ones(2), "optim.momentum": jnp.ones(3)})


def test_a_step_takes_all_members_on_the_same_batch(data: Batch) -> None:
    population = make_population(CONFIG, {"optim.peak_lr": jnp.array([0.1, 0.2])}, over_members=in_turn)
    states = jax.jit(population.init)(jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32)))
    states, metrics = jax.jit(population.step)(states, Batch(data.images[:16], data.labels[:16]))
    assert metrics.loss_sum[0] == metrics.loss_sum[1]
    assert states.step.tolist() == [1, 1]


def test_members_and_their_ensemble_are_evaluated(data: Batch) -> None:
    population = make_population(CONFIG, over_members=in_turn)
    states = jax.jit(population.init)(jax.vmap(jax.random.key)(jnp.arange(3)))
    predict = make_predict(make_recipe(CONFIG).model)
    predict_one, evaluate_one = jax.jit(predict), jax.jit(make_eval_step(predict))
    metrics = jax.jit(population.eval_step)(states.params, states.batch_stats, data)
    logits = jax.jit(population.predict)(states.params, states.batch_stats, data.images)
    for number in range(3):
        weights = jax.tree.map(lambda leaf, n=number: leaf[n], (states.params, states.batch_stats))
        np.testing.assert_array_equal(logits[number], predict_one(*weights, data.images))
        np.testing.assert_array_equal(metrics.confusion[number], evaluate_one(*weights, data).confusion)
    together = jax.jit(population.ensemble_predict)(states.params, states.batch_stats, data.images)
    probabilities = np.exp(np.asarray(logits, np.float64))
    mean = (probabilities / probabilities.sum(-1, keepdims=True)).mean(0)
    np.testing.assert_allclose(np.exp(together), mean, rtol=1e-5)


def test_the_mean_of_probabilities_is_a_distribution_even_where_members_are_certain() -> None:
    logits = jnp.array([[[0.0, 1000.0, -1000.0]], [[1000.0, 0.0, -1000.0]]])
    np.testing.assert_allclose(jax.nn.softmax(mean_log_probabilities(logits)), [[0.5, 0.5, 0.0]], rtol=1e-6)


def test_on_a_cpu_members_go_in_turn_and_elsewhere_side_by_side() -> None:
    assert members_map("cpu") is in_turn
    assert members_map("gpu") is members_map("tpu") is jax.vmap


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_in_turn_is_vmap_for_shared_and_own_arguments(axes: tuple[int | None, int | None]) -> None:
    arguments = [jnp.arange(6.0).reshape(3, 2) + number for number in range(2)]

    def function(a: Array, b: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        return a * 2, {"sum": a.sum() + b["x"].sum()}

    given = arguments[0], {"x": arguments[1]}
    got, expected = (over(function, axes)(*given) for over in (in_turn, jax.vmap))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_in_turn_takes_a_list_as_vmap_does_and_refuses_other_axes() -> None:
    of_members, shared = jnp.arange(6.0).reshape(3, 2), jnp.arange(3.0)
    got, expected = (over(lambda a, b: a.sum() * b, [0, None])(of_members, shared) for over in (in_turn, jax.vmap))
    np.testing.assert_array_equal(got, expected)
    for axes in (1, -1, (0, 1), [None, 2], ({"x": 0},)):
        with pytest.raises(ValueError, match="expected 0 or None for each argument"):
            in_turn(jnp.add, axes)


def test_an_ensemble_of_one_predicts_as_its_member() -> None:
    def by_scale(params: Any, batch_stats: Any, images: Any) -> Array:
        return images * params["scale"] + batch_stats["shift"]

    images = jnp.array([[1.0, 2.0]])
    predict = make_ensemble_predict(by_scale, in_turn)
    got = jax.nn.softmax(predict({"scale": jnp.ones(1)}, {"shift": jnp.zeros(1)}, images))
    np.testing.assert_allclose(got, jax.nn.softmax(images), rtol=1e-6)


def test_the_configuration_of_these_tests_is_valid() -> None:
    validate(CONFIG)


def test_members_are_evaluated_with_their_own_varied_numbers(data: Batch) -> None:
    """A network that uses a number of the configuration in evaluation, too, as those of this package do not."""

    def scaled(config: Config, **kind: Any) -> Any:
        def init(key: Array) -> Any:
            return {"kernel": jax.random.normal(key, (784, 10)) / 28}, {}

        def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
            del train, key
            return (1 - config.model.dropout) * images.reshape(len(images), -1) @ params["kernel"], batch_stats

        return make_recipe(config, model=Model(init, apply), **kind)

    population = make_population(CONFIG, {"model.dropout": jnp.array([0.0, 0.5])}, make_recipe=scaled)
    states = population.init(jnp.stack([jax.random.key(0)] * 2))
    first, second = population.predict(states.params, states.batch_stats, data.images)
    np.testing.assert_allclose(second, first / 2, rtol=1e-5)
    losses = population.eval_step(states.params, states.batch_stats, data).loss_sum
    assert losses[0] != losses[1]
    ensemble = population.ensemble_predict(states.params, states.batch_stats, data.images)
    expected = (jax.nn.softmax(first) + jax.nn.softmax(first / 2)) / 2
    np.testing.assert_allclose(jnp.exp(ensemble), expected, rtol=1e-5)
