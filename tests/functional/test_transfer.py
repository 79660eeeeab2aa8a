"""What one network takes of another, and that what is frozen keeps its bits."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array

from fmnist_jax import (
    Batch,
    Config,
    ConfigError,
    DataConfig,
    InitConfig,
    Model,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    Weights,
    freeze,
    frozen_norms,
    init_state,
    make_model,
    make_recipe,
    make_train_step,
    start_from,
    transfer,
)
from fmnist_jax.functional.transfer import frozen_parameters, matches

_CONFIG = ModelConfig(widths=(4, 6), depths=(1, 1))


def _weights(config: ModelConfig = _CONFIG, seed: int = 1, **shapes: Any) -> Weights:
    params, batch_stats = jax.jit(make_model(config, **shapes).init)(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    return Weights(*jax.tree.map(lambda leaf: leaf + np.float32(rng.uniform(size=leaf.shape)), (params, batch_stats)))


def _same(left: Any, right: Any) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(left), jax.tree.leaves(right)))


def test_the_same_network_takes_all() -> None:
    own, other = _weights(seed=1), _weights(seed=2)
    params, batch_stats, report = transfer(*own, *other)
    assert _same((params, batch_stats), other)
    assert jax.tree.map(jnp.shape, Weights(params, batch_stats)) == jax.tree.map(jnp.shape, own)
    assert (report.fresh, report.unused) == ((), ())
    assert {"Conv_0", "Dense_0", "ResidualBlock_1/BatchNorm_0"} <= set(report.taken)


def test_a_step_that_is_given_the_memory_of_the_state_leaves_the_other_weights() -> None:
    """As research code calls it, without `jit` around `init_state`."""
    other, optimizer = _weights(seed=2), optax.sgd(0.1)
    model = start_from(make_model(_CONFIG), other)
    step = jax.jit(make_train_step(model, optimizer), donate_argnums=0)
    batch = Batch(np.zeros((4, 28, 28, 1), np.uint8), np.arange(4))
    for _ in range(2):
        state, _ = step(init_state(model, optimizer, jax.random.key(0)), batch)
        assert int(state.step) == 1
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(other))


@pytest.mark.parametrize(
    ("shapes", "fresh"),
    [
        ({"num_classes": 5}, {"Dense_0"}),
        ({"image_shape": (28, 28, 3)}, {"Conv_0"}),
    ],
)
def test_a_module_of_other_shapes_stays_as_it_was(shapes: dict[str, Any], fresh: set[str]) -> None:
    own, other = _weights(seed=1, **shapes), _weights(seed=2)
    params, batch_stats, report = transfer(*own, *other)
    assert set(report.fresh) == set(report.unused) == fresh
    for name in params:
        assert _same(params[name], own.params[name] if name in fresh else other.params[name])
    assert _same(batch_stats, other.batch_stats)


def test_a_head_of_other_features_keeps_its_bias_too() -> None:
    plain = replace(_CONFIG, family="plain")
    own, other = _weights(plain, 1, image_shape=(20, 20, 1)), _weights(plain, 2)
    params, _, report = transfer(*own, *other)
    assert own.params["Dense_0"]["bias"].shape == other.params["Dense_0"]["bias"].shape
    assert report.fresh == ("Dense_0",)
    assert _same(params["Dense_0"], own.params["Dense_0"])


def test_a_norm_is_taken_with_its_statistics_or_not_at_all() -> None:
    own, other = _weights(seed=1), _weights(seed=2)
    without = {name: stats for name, stats in other.batch_stats.items() if name != "BatchNorm_0"}
    params, batch_stats, report = transfer(*own, other.params, without)
    assert report.fresh == ("BatchNorm_0",)
    assert _same(params["BatchNorm_0"], own.params["BatchNorm_0"])
    assert _same(batch_stats["BatchNorm_0"], own.batch_stats["BatchNorm_0"])


def test_networks_of_any_tree_and_shapes_without_values_will_do() -> None:
    shapes = jax.eval_shape(lambda: {"kernel": jnp.zeros((3, 2)), "scale": jnp.zeros(2)})
    params, _, report = transfer(shapes, {}, {"kernel": np.ones((3, 2), np.float32), "scale": np.ones(3)}, {})
    assert (report.taken, report.fresh, report.unused) == (("kernel",), ("scale",), ("scale",))
    np.testing.assert_array_equal(params["kernel"], 1)
    assert params["scale"] == shapes["scale"]


def test_a_model_starts_from_weights_for_every_key_alike_but_for_its_head() -> None:
    other = _weights(seed=2)
    model = start_from(make_model(_CONFIG, num_classes=5), other)
    params, batch_stats = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), 2))
    assert _same(jax.tree.map(lambda leaf: leaf[1], batch_stats), other.batch_stats)
    assert _same(params["Conv_0"]["kernel"][0], other.params["Conv_0"]["kernel"])
    assert not np.array_equal(*params["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    ("pattern", "path", "matched"),
    [
        ("Conv_0", "Conv_0/kernel", True),
        ("Conv_*", "Conv_0/kernel", True),
        ("Conv_*", "ResidualBlock_0/Conv_0/kernel", False),
        ("*/Conv_?", "ResidualBlock_0/Conv_0/kernel", True),
        ("*/kernel", "ResidualBlock_0/Conv_0/kernel", True),
        ("ResidualBlock_0", "ResidualBlock_0/Conv_0/kernel", True),
        ("ResidualBlock_0", "ResidualBlock_01/Conv_0/kernel", False),
        ("[!D]*", "Dense_0/kernel", False),
        ("[!D]*", "Conv_0/kernel", True),
        ("conv_0", "Conv_0/kernel", False),
        ("", "Conv_0/kernel", False),
    ],
)
def test_a_pattern_is_of_a_path_or_of_a_module_on_it(pattern: str, path: str, matched: bool) -> None:
    assert matches(pattern, path) == matched


def test_a_pattern_of_nothing_and_of_all_is_refused() -> None:
    params, _ = _weights()
    assert frozen_parameters("Dense_0", params) == ("Dense_0/bias", "Dense_0/kernel")
    with pytest.raises(ConfigError, match=r"'Konv', which matches no parameter: choose one that matches some of Batch"):
        frozen_parameters("Konv", params)
    with pytest.raises(ConfigError, match=r"'\*', which leaves no parameter to train"):
        frozen_parameters("*", params)
    with pytest.raises(ConfigError, match="matches no parameter"):
        make_recipe(Config(init=InitConfig(freeze="Konv")))


@pytest.mark.parametrize(
    "optim", [OptimConfig(clip_norm=0.1), OptimConfig(name="adamw", peak_lr=0.01), OptimConfig(name="muon")]
)
def test_what_is_frozen_keeps_its_bits_and_the_rest_is_trained(optim: OptimConfig, batch: Batch) -> None:
    pattern = "ResidualBlock_*"
    config = Config(
        data=DataConfig(name="synthetic", synthetic_train_size=30, validation_size=0),
        model=_CONFIG,
        optim=replace(optim, schedule="constant"),
        init=InitConfig(freeze=pattern),
        train=TrainConfig(epochs=1, batch_size=8, average_decay=0.9),
    )
    recipe = make_recipe(config, source=_weights(seed=2))
    before = after = jax.jit(recipe.init)(jax.random.key(0))
    step = jax.jit(recipe.step)
    for _ in range(3):
        after, _ = step(after, batch)
    assert before.averages is not None
    assert after.averages is not None
    for was, now in ((before, after), (before.averages, after.averages)):
        for name in was.params:
            assert _same(was.params[name], now.params[name]) == name.startswith("ResidualBlock")
        for name in was.batch_stats:
            assert _same(was.batch_stats[name], now.batch_stats[name]) == name.startswith("ResidualBlock")
    moved = sum(leaf.size for leaf in jax.tree.leaves(after.opt_state))
    whole = jax.eval_shape(make_recipe(replace(config, init=InitConfig())).init, jax.random.key(0))
    assert moved < sum(leaf.size for leaf in jax.tree.leaves(whole.opt_state)) / 2


def test_the_parts_freeze_a_network_in_ones_own_loop(batch: Batch, key: Array) -> None:
    model = make_model(_CONFIG, frozen=frozen_norms("[!D]*"))
    optimizer = freeze(optax.adam(0.1), "[!D]*")
    before = jax.jit(partial(init_state, model, optimizer))(key)
    after, _ = jax.jit(make_train_step(model, optimizer))(before, batch)
    assert [name for name in before.params if not _same(before.params[name], after.params[name])] == ["Dense_0"]
    assert _same(before.batch_stats, after.batch_stats)


def test_a_pattern_that_freezes_nothing_is_refused_in_ones_own_loop() -> None:
    params, _ = _weights()
    with pytest.raises(ConfigError, match=r"'Konv', which matches no parameter: choose one that matches some of Batch"):
        freeze(optax.adam(0.1), "Konv").init(params)


def test_the_state_of_a_frozen_optimiser_can_be_mapped_over_by_optax() -> None:
    params, _ = _weights()
    optimizer = freeze(optax.adam(0.1), "[!D]*")
    mapped = optax.tree_map_params(optimizer, lambda moment: moment + 1, optimizer.init(params))
    assert {float(leaf.max()) for leaf in jax.tree.leaves(mapped) if leaf.ndim} == {1.0}


def test_a_norm_of_which_a_half_is_frozen_keeps_counting() -> None:
    assert frozen_norms("BatchNorm_0")("BatchNorm_0")
    assert frozen_norms("*/BatchNorm_*")("ResidualBlock_0/BatchNorm_1")
    assert not frozen_norms("*/scale")("BatchNorm_0")


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.contrib.sam(optax.sgd(0.05), optax.sgd(0.1), opaque_mode=True),
        optax.contrib.sophia(0.01, update_interval=2),
    ],
    ids=["lbfgs", "sam", "sophia"],
)
def test_an_optimiser_with_the_loss_as_a_function_trains_the_rest_as_if_the_frozen_were_constants(
    optimizer: optax.GradientTransformation, batch: Batch
) -> None:
    bias = jnp.arange(10.0) / 10

    def of_kernel(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        del train, key
        return images.reshape(len(images), -1) @ params["kernel"] + bias[None], batch_stats

    def of_both(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        del train, key
        return images.reshape(len(images), -1) @ params["kernel"] + params["bias"][None], batch_stats

    def drawn(key: Array) -> dict[str, Array]:
        return {"kernel": jax.random.normal(key, (784, 10)) / 28}

    alone = Model(lambda key: (drawn(key), {}), of_kernel)
    frozen = Model(lambda key: ({**drawn(key), "bias": bias}, {}), of_both)
    kernels = []
    for model, own in ((alone, optimizer), (frozen, freeze(optimizer, "bias"))):
        step, state = jax.jit(make_train_step(model, own)), init_state(model, own, jax.random.key(0))
        for _ in range(3):
            state, _ = step(state, batch)
        kernels.append(state.params["kernel"])
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-5)
    assert np.abs(kernels[0] - drawn(jax.random.split(jax.random.key(0))[0])["kernel"]).max() > 1e-3
    np.testing.assert_array_equal(state.params["bias"], bias)


def test_weights_of_which_nothing_fits_are_refused() -> None:
    weights = _weights()
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), weights)
    for source, model in ((members, make_model(_CONFIG)), (weights, make_model(ModelConfig(widths=(5,), depths=(1,))))):
        with pytest.raises(ConfigError, match=r"^no module of the weights to start from fits the model: of theirs \("):
            start_from(model, source).init(jax.random.key(0))
