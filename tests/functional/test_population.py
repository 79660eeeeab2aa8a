"""Populations as one program: every member equals the same run alone."""

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
FLOAT_FIELDS = [
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
def compile_single_run(config: Config) -> tuple[Any, Any]:
    """The compiled init and chunk of a run of one model."""
    recipe = make_recipe(config)
    chunk = make_train_chunk(recipe.step, config.train.batch_size, STEPS, sample=recipe.sample)
    return jax.jit(recipe.init), jax.jit(chunk)


def run_alone(config: Config, key: Array, data: Batch) -> Any:
    """The state and metrics of a run of one model."""
    init, chunk = compile_single_run(config)
    return chunk(init(key), data, jnp.int32(STEPS))


def run_population(config: Config, keys: Array, data: Batch, **options: Any) -> Any:
    population = make_population(config, max_steps=STEPS, **options)
    return jax.jit(population.chunk)(jax.jit(population.init)(keys), data, jnp.int32(STEPS))


def numpy_leaves(tree: Any) -> list[np.ndarray]:
    data = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    ]
    return [np.asarray(leaf) for leaf in data]


def member_leaves(tree: Any, index: int) -> list[np.ndarray]:
    return [leaf[index] for leaf in numpy_leaves(tree)]


def test_eight_members_in_turn_equal_single_runs_up_to_the_last_bits(data: Batch) -> None:
    seeds = jax.vmap(jax.random.key)(jnp.arange(8))
    population, recipe = make_population(CONFIG, max_steps=STEPS, over_members=in_turn), make_recipe(CONFIG)
    # Compiled as users do; unoptimised by LLVM, as in the other tests, the two programs sum in different orders.
    options: dict[str, Any] = {"xla_backend_optimization_level": "3"}
    if jax.__version_info__ < (0, 11):
        options["xla_cpu_use_fusion_emitters"] = True
    members = jax.jit(population.chunk, compiler_options=options)(
        jax.jit(population.init)(seeds), data, jnp.int32(STEPS)
    )
    single = make_train_chunk(recipe.step, CONFIG.train.batch_size, STEPS, sample=recipe.sample)
    chunk, init = jax.jit(single, compiler_options=options), jax.jit(recipe.init)
    for seed in range(8):
        run = chunk(init(jax.random.key(seed)), data, jnp.int32(STEPS))
        for actual, expected in zip(member_leaves(members, seed), numpy_leaves(run), strict=True):
            # Bit-identical on jax 0.10, and with AVX2; with AVX-512, jax 0.12 sums in different orders in the loops.
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_vmapped_members_equal_single_runs_up_to_rounding(data: Batch) -> None:
    seeds = jax.vmap(jax.random.key)(jnp.array([3, 5]))
    states, metrics = run_population(CONFIG, seeds, data)
    for index, seed in enumerate((3, 5)):
        single, single_metrics = run_alone(CONFIG, jax.random.key(seed), data)
        np.testing.assert_allclose(metrics.loss_sum[index][0], single_metrics.loss_sum[0], rtol=1e-6)
        np.testing.assert_allclose(metrics.loss_sum[index], single_metrics.loss_sum, rtol=1e-3)
        np.testing.assert_array_equal(jax.random.key_data(states.key[index]), jax.random.key_data(single.key))


VARIED_VALUES = {
    "optim": {"momentum": 0.5, "clip_norm": 0.5, "peak_lr": 0.4, "warmup": 0.5, "final_lr": 0.5, "weight_decay": 1.0},
    "augment": {
        **{"rotation": 30.0, "photo_probability": 0.3, "erase_probability": 0.9},
        **{"mixup_alpha": 1.0, "mix_probability": 0.9},
    },
    "train": {"label_smoothing": 0.3, "average_decay": 0.05},
    "model": {"dropout": 0.6, "stochastic_depth": 0.6, "batch_norm_momentum": 0.3},
}


def test_varied_values_cover_every_float_field_of_the_configuration() -> None:
    names = {f"{section}.{field}" for section, fields in VARIED_VALUES.items() for field in fields}
    # cutmix_alpha excludes mixup_alpha and is read at the same place; only muon has rest_lr.
    assert names == set(FLOAT_FIELDS) - {"augment.cutmix_alpha", "optim.rest_lr"}


def _replace_fields(config: Config, changes: dict[str, dict[str, float]]) -> Config:
    sections = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in changes.items()}
    return dataclasses.replace(config, **sections)


def test_every_float_field_may_differ_between_members(data: Batch) -> None:
    """The first of two members equals the run as configured, the second the run with all these fields changed."""
    config = dataclasses.replace(
        CONFIG, optim=OptimConfig(clip_norm=1.0), augment=AugmentConfig(rotation=10.0, mixup_alpha=0.2)
    )
    keys = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32))
    varied = {
        f"{section}.{name}": [getattr(getattr(config, section), name), value]
        for section, fields in VARIED_VALUES.items()
        for name, value in fields.items()
    }
    states, metrics = run_population(config, keys, data, varied=varied, over_members=in_turn)
    for index, single_config in enumerate((config, _replace_fields(config, VARIED_VALUES))):
        single, single_metrics = run_alone(single_config, jax.random.key(0), data)
        np.testing.assert_allclose(metrics.loss_sum[index], single_metrics.loss_sum, rtol=2e-3)
        for actual, expected in zip(member_leaves(states, index), numpy_leaves(single), strict=True):
            np.testing.assert_allclose(actual, expected, atol=3e-3)


ZEROED_FIELDS = {
    "optim": ("clip_norm", "final_lr", "momentum", "warmup", "weight_decay"),
    # Of the random augmentations only erasing is on; it must draw the same whether the others are off or a 0.
    "augment": ("cutmix_alpha", "photo_probability", "rotation"),
    "train": ("average_decay", "label_smoothing"),
    "model": ("batch_norm_momentum", "dropout", "stochastic_depth"),
}


def test_varied_zeros_equal_a_run_without_those_parts(data: Batch) -> None:
    config = dataclasses.replace(CONFIG, optim=OptimConfig(clip_norm=1.0))
    varied = {f"{section}.{name}": [0.0, 0.5] for section, names in ZEROED_FIELDS.items() for name in names}
    keys = jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32))
    states, metrics = run_population(config, keys, data, varied=varied, over_members=in_turn)
    config_without = _replace_fields(
        config, {section: dict.fromkeys(names, 0.0) for section, names in ZEROED_FIELDS.items()}
    )
    single, single_metrics = run_alone(config_without, jax.random.key(0), data)
    np.testing.assert_allclose(metrics.loss_sum[0], single_metrics.loss_sum, rtol=2e-3)
    for actual, expected in zip(member_leaves(states.params, 0), numpy_leaves(single.params), strict=True):
        np.testing.assert_allclose(actual, expected, atol=3e-3)


def test_each_varied_value_affects_the_loss_of_its_member(data: Batch) -> None:
    """Each member but the first differs from it in one field: those not covered above, and the final rate."""
    config = dataclasses.replace(
        CONFIG,
        # The rate decays from the first step on, so its final value matters within the few steps taken.
        optim=OptimConfig(name="muon", warmup=0.0),
        augment=AugmentConfig(flip="none", erase_probability=0.0, cutmix_alpha=1.0),
    )
    varied = {
        "augment.mix_probability": [0.5, 1.0, 0.5, 0.5],
        "optim.rest_lr": [0.01, 0.01, 0.1, 0.01],
        "optim.final_lr": [0.0, 0.0, 0.0, 1.0],
    }
    keys = jax.vmap(jax.random.key)(jnp.zeros(4, jnp.uint32))
    _, metrics = run_population(config, keys, data, varied=varied, over_members=in_turn)
    assert len(np.unique(metrics.loss_sum[:, -1])) == 4


def test_invalid_varied_fields_are_rejected_by_name() -> None:
    with pytest.raises(ConfigError, match=r"'train.epochs' cannot be varied: choose one of .*optim.peak_lr"):
        make_population(CONFIG, {"train.epochs": jnp.ones(2)})
    with pytest.raises(ConfigError, match=r"'optim.schedule' cannot be varied"):
        make_population(CONFIG, {"optim.schedule": ["cosine", "step"]})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"optim.peak_lr has shape \[\]: expected one number for each member"):
        make_population(CONFIG, {"optim.peak_lr": jnp.float32(1)})
    with pytest.raises(ConfigError, match=r"optim.peak_lr has no values: expected one number for each member"):
        make_population(CONFIG, {"optim.peak_lr": jnp.ones(0)})
    with pytest.raises(ConfigError, match=r"optim.peak_lr 2, optim.momentum 3"):
        make_population(CONFIG, {"optim.peak_lr": jnp.ones(2), "optim.momentum": jnp.ones(3)})


def test_population_step_trains_all_members_on_the_same_batch(data: Batch) -> None:
    population = make_population(CONFIG, {"optim.peak_lr": jnp.array([0.1, 0.2])}, over_members=in_turn)
    states = jax.jit(population.init)(jax.vmap(jax.random.key)(jnp.zeros(2, jnp.uint32)))
    states, metrics = jax.jit(population.step)(states, Batch(data.images[:16], data.labels[:16]))
    assert metrics.loss_sum[0] == metrics.loss_sum[1]
    assert states.step.tolist() == [1, 1]


def test_population_evaluates_each_member_and_averages_them_in_the_ensemble(data: Batch) -> None:
    population = make_population(CONFIG, over_members=in_turn)
    states = jax.jit(population.init)(jax.vmap(jax.random.key)(jnp.arange(3)))
    predict = make_predict(make_recipe(CONFIG).model)
    predict_one, evaluate_one = jax.jit(predict), jax.jit(make_eval_step(predict))
    metrics = jax.jit(population.eval_step)(states.params, states.batch_stats, data)
    logits = jax.jit(population.predict)(states.params, states.batch_stats, data.images)
    for index in range(3):
        weights = jax.tree.map(lambda leaf, index=index: leaf[index], (states.params, states.batch_stats))
        np.testing.assert_array_equal(logits[index], predict_one(*weights, data.images))
        np.testing.assert_array_equal(metrics.confusion[index], evaluate_one(*weights, data).confusion)
    ensemble = jax.jit(population.ensemble_predict)(states.params, states.batch_stats, data.images)
    probabilities = np.exp(np.asarray(logits, np.float64))
    mean = (probabilities / probabilities.sum(-1, keepdims=True)).mean(0)
    np.testing.assert_allclose(np.exp(ensemble), mean, rtol=1e-5)


def test_mean_log_probabilities_are_a_distribution_even_for_extreme_logits() -> None:
    logits = jnp.array([[[0.0, 1000.0, -1000.0]], [[1000.0, 0.0, -1000.0]]])
    np.testing.assert_allclose(jax.nn.softmax(mean_log_probabilities(logits)), [[0.5, 0.5, 0.0]], rtol=1e-6)


def test_members_map_is_in_turn_on_a_cpu_and_vmap_elsewhere() -> None:
    assert members_map("cpu") is in_turn
    assert members_map("gpu") is members_map("tpu") is jax.vmap


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_in_turn_equals_vmap_for_shared_and_mapped_arguments(axes: tuple[int | None, int | None]) -> None:
    arguments = [jnp.arange(6.0).reshape(3, 2) + offset for offset in range(2)]

    def function(a: Array, b: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        return a * 2, {"sum": a.sum() + b["x"].sum()}

    operands = arguments[0], {"x": arguments[1]}
    actual, expected = (transform(function, axes)(*operands) for transform in (in_turn, jax.vmap))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_in_turn_accepts_a_list_of_axes_and_rejects_axes_other_than_zero_or_none() -> None:
    mapped, shared = jnp.arange(6.0).reshape(3, 2), jnp.arange(3.0)
    actual, expected = (
        transform(lambda a, b: a.sum() * b, [0, None])(mapped, shared) for transform in (in_turn, jax.vmap)
    )
    np.testing.assert_array_equal(actual, expected)
    for axes in (1, -1, (0, 1), [None, 2], ({"x": 0},)):
        with pytest.raises(ValueError, match="expected 0 or None for each argument"):
            in_turn(jnp.add, axes)


def test_ensemble_of_one_predicts_like_its_member() -> None:
    def scale_and_shift(params: Any, batch_stats: Any, images: Any) -> Array:
        return images * params["scale"] + batch_stats["shift"]

    images = jnp.array([[1.0, 2.0]])
    predict = make_ensemble_predict(scale_and_shift, in_turn)
    actual = jax.nn.softmax(predict({"scale": jnp.ones(1)}, {"shift": jnp.zeros(1)}, images))
    np.testing.assert_allclose(actual, jax.nn.softmax(images), rtol=1e-6)


def test_configuration_of_these_tests_is_valid() -> None:
    validate(CONFIG)


def test_members_are_evaluated_with_their_own_varied_values(data: Batch) -> None:
    """Uses a network that, unlike those of this package, reads a varied field in evaluation, too."""

    def make_scaled_recipe(config: Config, **options: Any) -> Any:
        def init(key: Array) -> Any:
            return {"kernel": jax.random.normal(key, (784, 10)) / 28}, {}

        def apply(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
            del train, key
            return (1 - config.model.dropout) * images.reshape(len(images), -1) @ params["kernel"], batch_stats

        return make_recipe(config, model=Model(init, apply), **options)

    population = make_population(CONFIG, {"model.dropout": jnp.array([0.0, 0.5])}, make_recipe=make_scaled_recipe)
    states = population.init(jnp.stack([jax.random.key(0)] * 2))
    first, second = population.predict(states.params, states.batch_stats, data.images)
    np.testing.assert_allclose(second, first / 2, rtol=1e-5)
    losses = population.eval_step(states.params, states.batch_stats, data).loss_sum
    assert losses[0] != losses[1]
    ensemble = population.ensemble_predict(states.params, states.batch_stats, data.images)
    expected = (jax.nn.softmax(first) + jax.nn.softmax(first / 2)) / 2
    np.testing.assert_allclose(jnp.exp(ensemble), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("keyword", "field"),
    [
        ("optimizer", "optim.peak_lr"),
        ("model", "model.dropout"),
        ("loss_fn", "train.label_smoothing"),
        ("augment", "augment.rotation"),
        ("mix", "augment.mixup_alpha"),
    ],
)
def test_varied_number_that_a_given_part_would_ignore_is_refused(keyword: str, field: str) -> None:
    with_own_part = functools.partial(make_recipe, **{keyword: object()})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"^{field} is varied, but {keyword}= takes the place of what it configures"):
        make_population(Config(), {field: jnp.array([0.1, 0.2])}, make_recipe=with_own_part)
    make_population(Config(), {"train.average_decay": jnp.array([0.1, 0.2])}, make_recipe=with_own_part)
