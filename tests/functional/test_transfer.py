"""Transfer of weights from one network to another, and frozen parameters."""

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


def _trees_equal(left: Any, right: Any) -> bool:
    return all(np.array_equal(*pair) for pair in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def test_transfer_between_identical_networks_takes_everything() -> None:
    own, other = _weights(seed=1), _weights(seed=2)
    params, batch_stats, report = transfer(*own, *other)
    assert _trees_equal((params, batch_stats), other)
    assert jax.tree.map(jnp.shape, Weights(params, batch_stats)) == jax.tree.map(jnp.shape, own)
    assert (report.fresh, report.unused) == ((), ())
    assert {"Conv_0", "Dense_0", "ResidualBlock_1/BatchNorm_0"} <= set(report.taken)


def test_donating_the_state_does_not_delete_the_weights_it_started_from() -> None:
    """With `init_state` called without `jit`, as in research code."""
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
def test_transfer_keeps_own_modules_of_other_shapes(shapes: dict[str, Any], fresh: set[str]) -> None:
    own, other = _weights(seed=1, **shapes), _weights(seed=2)
    params, batch_stats, report = transfer(*own, *other)
    assert set(report.fresh) == set(report.unused) == fresh
    for name in params:
        assert _trees_equal(params[name], own.params[name] if name in fresh else other.params[name])
    assert _trees_equal(batch_stats, other.batch_stats)


def test_transfer_keeps_the_bias_of_a_head_with_other_features() -> None:
    plain = replace(_CONFIG, family="plain")
    own, other = _weights(plain, 1, image_shape=(20, 20, 1)), _weights(plain, 2)
    params, _, report = transfer(*own, *other)
    assert own.params["Dense_0"]["bias"].shape == other.params["Dense_0"]["bias"].shape
    assert report.fresh == ("Dense_0",)
    assert _trees_equal(params["Dense_0"], own.params["Dense_0"])


def test_transfer_takes_a_norm_only_together_with_its_statistics() -> None:
    own, other = _weights(seed=1), _weights(seed=2)
    incomplete_stats = {name: stats for name, stats in other.batch_stats.items() if name != "BatchNorm_0"}
    params, batch_stats, report = transfer(*own, other.params, incomplete_stats)
    assert report.fresh == ("BatchNorm_0",)
    assert _trees_equal(params["BatchNorm_0"], own.params["BatchNorm_0"])
    assert _trees_equal(batch_stats["BatchNorm_0"], own.batch_stats["BatchNorm_0"])


def test_transfer_accepts_any_tree_and_abstract_shapes() -> None:
    shapes = jax.eval_shape(lambda: {"kernel": jnp.zeros((3, 2)), "scale": jnp.zeros(2)})
    params, _, report = transfer(shapes, {}, {"kernel": np.ones((3, 2), np.float32), "scale": np.ones(3)}, {})
    assert (report.taken, report.fresh, report.unused) == (("kernel",), ("scale",), ("scale",))
    np.testing.assert_array_equal(params["kernel"], 1)
    assert params["scale"] == shapes["scale"]


def test_start_from_gives_the_same_weights_for_every_key_except_for_a_new_head() -> None:
    other = _weights(seed=2)
    model = start_from(make_model(_CONFIG, num_classes=5), other)
    params, batch_stats = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), 2))
    assert _trees_equal(jax.tree.map(lambda leaf: leaf[1], batch_stats), other.batch_stats)
    assert _trees_equal(params["Conv_0"]["kernel"][0], other.params["Conv_0"]["kernel"])
    assert not np.array_equal(*params["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
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
def test_pattern_matches_a_path_or_a_module_on_it(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) == expected


def test_freezing_no_parameter_or_every_parameter_is_rejected() -> None:
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
def test_frozen_parameters_stay_bit_identical_and_the_rest_is_trained(optim: OptimConfig, batch: Batch) -> None:
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
    for old, new in ((before, after), (before.averages, after.averages)):
        for name in old.params:
            assert _trees_equal(old.params[name], new.params[name]) == name.startswith("ResidualBlock")
        for name in old.batch_stats:
            assert _trees_equal(old.batch_stats[name], new.batch_stats[name]) == name.startswith("ResidualBlock")
    opt_state_size = sum(leaf.size for leaf in jax.tree.leaves(after.opt_state))
    unfrozen_state = jax.eval_shape(make_recipe(replace(config, init=InitConfig())).init, jax.random.key(0))
    assert opt_state_size < sum(leaf.size for leaf in jax.tree.leaves(unfrozen_state.opt_state)) / 2


def test_freeze_and_frozen_norms_work_in_a_custom_loop(batch: Batch, key: Array) -> None:
    model = make_model(_CONFIG, frozen=frozen_norms("[!D]*"))
    optimizer = freeze(optax.adam(0.1), "[!D]*")
    before = jax.jit(partial(init_state, model, optimizer))(key)
    after, _ = jax.jit(make_train_step(model, optimizer))(before, batch)
    assert [name for name in before.params if not _trees_equal(before.params[name], after.params[name])] == ["Dense_0"]
    assert _trees_equal(before.batch_stats, after.batch_stats)


def test_freeze_rejects_a_pattern_that_matches_no_parameter() -> None:
    params, _ = _weights()
    with pytest.raises(ConfigError, match=r"'Konv', which matches no parameter: choose one that matches some of Batch"):
        freeze(optax.adam(0.1), "Konv").init(params)


def test_optax_tree_map_params_works_on_the_state_of_a_frozen_optimizer() -> None:
    params, _ = _weights()
    optimizer = freeze(optax.adam(0.1), "[!D]*")
    mapped = optax.tree_map_params(optimizer, lambda moment: moment + 1, optimizer.init(params))
    assert {float(leaf.max()) for leaf in jax.tree.leaves(mapped) if leaf.ndim} == {1.0}


def test_norm_is_frozen_only_if_all_its_parameters_are() -> None:
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
def test_optimizer_that_evaluates_the_loss_treats_frozen_parameters_as_constants(
    optimizer: optax.GradientTransformation, batch: Batch
) -> None:
    bias = jnp.arange(10.0) / 10

    def apply_kernel(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        del train, key
        return images.reshape(len(images), -1) @ params["kernel"] + bias[None], batch_stats

    def apply_both(params: Any, batch_stats: Any, images: Array, *, train: bool, key: Array | None = None) -> Any:
        del train, key
        return images.reshape(len(images), -1) @ params["kernel"] + params["bias"][None], batch_stats

    def draw_params(key: Array) -> dict[str, Array]:
        return {"kernel": jax.random.normal(key, (784, 10)) / 28}

    kernel_model = Model(lambda key: (draw_params(key), {}), apply_kernel)
    full_model = Model(lambda key: ({**draw_params(key), "bias": bias}, {}), apply_both)
    kernels = []
    for model, opt in ((kernel_model, optimizer), (full_model, freeze(optimizer, "bias"))):
        step, state = jax.jit(make_train_step(model, opt)), init_state(model, opt, jax.random.key(0))
        for _ in range(3):
            state, _ = step(state, batch)
        kernels.append(state.params["kernel"])
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-5)
    assert np.abs(kernels[0] - draw_params(jax.random.split(jax.random.key(0))[0])["kernel"]).max() > 1e-3
    np.testing.assert_array_equal(state.params["bias"], bias)


def test_start_from_rejects_weights_without_a_fitting_module() -> None:
    weights = _weights()
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), weights)
    for source, model in ((members, make_model(_CONFIG)), (weights, make_model(ModelConfig(widths=(5,), depths=(1,))))):
        with pytest.raises(ConfigError, match=r"^no module of the weights to start from fits the model: of theirs \("):
            start_from(model, source).init(jax.random.key(0))
