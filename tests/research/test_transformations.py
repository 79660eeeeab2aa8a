"""Derivatives, meshes and maps, as used in research code."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

import fmnist_jax as fj

CONFIGS = {
    "plain": fj.ModelConfig(family="plain", widths=(4, 6), depths=(1, 1)),
    "winograd": fj.ModelConfig(family="plain", widths=(4, 64), depths=(1, 2)),
    "resnet": fj.ModelConfig(family="resnet", widths=(4, 6), depths=(1, 1)),
}
OPTIMIZER = optax.sgd(0.1, momentum=0.9)

init_state = jax.jit(fj.init_state, static_argnums=(0, 1))


@pytest.fixture(params=["winograd", "resnet"])
def model(request: pytest.FixtureRequest) -> fj.Model:
    return fj.make_model(CONFIGS[request.param])


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-3) -> None:
    """Compares leaf by leaf, relative to the largest absolute value of the expected leaf."""
    for actual_leaf, expected_leaf in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        scale = float(np.max(np.abs(np.asarray(expected_leaf)))) or 1.0
        np.testing.assert_allclose(np.asarray(actual_leaf) / scale, np.asarray(expected_leaf) / scale, atol=tolerance)


def test_forward_over_reverse_hvp_matches_reverse_over_reverse(model: fj.Model, batch: fj.Batch) -> None:
    params, stats = jax.jit(model.init)(jax.random.key(0))
    images = fj.normalize(jnp.asarray(batch.images))

    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(params, stats, images, train=True)
        return fj.cross_entropy(logits, jnp.asarray(batch.labels)).mean()

    vector = jax.tree.map(jnp.cos, params)
    product = jax.jit(lambda p, v: jax.jvp(jax.grad(loss), (p,), (v,))[1])(params, vector)

    reverse_product = jax.jit(
        jax.grad(lambda p: sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(loss)(p), vector)))))
    )
    assert_close(product, reverse_product(params))


def test_gauss_newton_product_has_positive_curvature(model: fj.Model, batch: fj.Batch) -> None:
    params, stats = jax.jit(model.init)(jax.random.key(0))
    images = fj.normalize(jnp.asarray(batch.images))

    def logits(params: Any) -> jax.Array:
        return model.apply(params, stats, images, train=True)[0]

    def product(params: Any, vector: Any) -> Any:
        outputs, pushforward = jax.linearize(logits, params)
        pullback = jax.linear_transpose(pushforward, params)
        cotangent = jax.jvp(
            jax.grad(lambda z: optax.softmax_cross_entropy(z, fj.one_hot(jnp.asarray(batch.labels))).sum()),
            (outputs,),
            (pushforward(vector),),
        )[1]
        return pullback(cotangent)[0]

    vector = jax.tree.map(jnp.cos, params)
    curvature = sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.jit(product)(params, vector), vector))))
    assert float(curvature) > 0, "the Gauss-Newton matrix of a convex loss is positive semi-definite"


def test_jacobian_of_the_logits_in_the_head_bias_is_the_identity(batch: fj.Batch) -> None:
    model = fj.make_model(CONFIGS["plain"])
    params, stats = jax.jit(model.init)(jax.random.key(0))
    image = fj.normalize(jnp.asarray(batch.images[:1]))
    head_bias = params["Dense_0"]["bias"]

    def logits(bias: jax.Array) -> jax.Array:
        updated = {**params, "Dense_0": {**params["Dense_0"], "bias": bias}}
        return model.apply(updated, stats, image, train=False)[0][0]

    np.testing.assert_allclose(jax.jacfwd(logits)(head_bias), np.eye(10), atol=1e-6)
    np.testing.assert_allclose(jax.jacrev(logits)(head_bias), np.eye(10), atol=1e-6)


@pytest.fixture(scope="module")
def batch() -> fj.Batch:
    rng = np.random.default_rng(0)
    return fj.Batch(rng.integers(0, 256, (16, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, 16).astype(np.int32))


def make_step_and_state(model: fj.Model) -> tuple[Any, fj.TrainState]:
    return fj.make_train_step(model, OPTIMIZER), init_state(model, OPTIMIZER, jax.random.key(0))


def assert_like_one_device(actual: Any, expected: Any) -> None:
    (state, metrics), (expected_state, expected_metrics) = actual, expected
    np.testing.assert_allclose(metrics.loss_sum, expected_metrics.loss_sum, rtol=1e-6)
    np.testing.assert_array_equal(metrics.confusion, expected_metrics.confusion)
    assert_close(state.batch_stats, expected_state.batch_stats, 1e-5)
    assert_close(state.params, expected_state.params, 1e-4)


def test_train_step_on_explicit_mesh_axes_matches_one_device(model: fj.Model, batch: fj.Batch) -> None:
    step, state = make_step_and_state(model)
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded_batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        replicated_state = jax.device_put(state, NamedSharding(mesh, P()))
        actual = jax.jit(step)(replicated_state, sharded_batch)
        logits = jax.jit(fj.make_predict(model))(
            replicated_state.params, replicated_state.batch_stats, sharded_batch.images
        )
    assert_like_one_device(actual, jax.jit(step)(state, batch))
    assert logits.sharding.spec[0] == "data"


def test_train_step_under_shard_map_matches_one_device(model: fj.Model, batch: fj.Batch) -> None:
    step, state = make_step_and_state(model)
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded_step = jax.jit(jax.shard_map(step, in_specs=(P(), P("data")), out_specs=P()))
        actual = sharded_step(state, jax.device_put(batch, NamedSharding(mesh, P("data"))))
    assert_like_one_device(actual, jax.jit(step)(state, batch))


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_bfloat16_gradients_are_all_reduced_in_float32(family: Any, batch: fj.Batch) -> None:
    model = fj.make_model(fj.ModelConfig(family=family, widths=(4, 6), depths=(1, 1), dtype="bfloat16"))
    step = fj.make_train_step(model, OPTIMIZER)
    state = jax.eval_shape(partial(fj.init_state, model, OPTIMIZER), jax.random.key(0))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded_step = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    text = jax.jit(sharded_step).trace(state, batch).lower(lowering_platforms=("tpu",)).as_text()
    all_reduces = re.findall(r"all_reduce.*?\}\) : \((.*?)\) ->", text, re.DOTALL)
    assert len(all_reduces) > len(jax.tree.leaves(state.params)) / 2
    assert {re.split("[x<]", operands)[-1] for operands in all_reduces} == {"f32>", "i32>"}
    assert "xbf16>" in text


def test_separate_models_on_each_shard_match_a_single_model(batch: fj.Batch) -> None:
    step, state = make_step_and_state(fj.make_model(CONFIGS["plain"]))
    mesh = jax.make_mesh((2,), ("model",))
    halved = replace(state, params=jax.tree.map(lambda leaf: leaf / 2, state.params))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, halved)

    def vmapped_step(states: fj.TrainState, batch: fj.Batch) -> Any:
        return jax.vmap(step, in_axes=(0, None))(states, batch)

    with jax.set_mesh(mesh):
        states = jax.device_put(stacked, NamedSharding(mesh, P("model")))
        actual = jax.jit(jax.shard_map(vmapped_step, in_specs=(P("model"), P()), out_specs=P("model")))(states, batch)
    for number, alone in enumerate((state, halved)):
        params = jax.tree.map(lambda leaf, number=number: leaf[number], jax.device_get(actual[0].params))
        assert_close(params, jax.jit(step)(alone, batch)[0].params, 1e-4)


@pytest.mark.slow
def test_sharded_members_draw_and_step_like_single_members(batch: fj.Batch) -> None:
    augment_config = fj.AugmentConfig(flip="random", crop_padding=2, rotation=10.0, erase_probability=0.5, cutout=6)
    model = fj.make_model(
        fj.ModelConfig(family="resnet", widths=(4, 6), depths=(1, 1), dropout=0.3, stochastic_depth=0.5)
    )
    optimizer, augment = optax.sgd(0.1), fj.make_augment(augment_config)
    mix = fj.make_cutmix(1.0)
    step = fj.make_train_step(model, optimizer, augment=augment, mix=mix)
    keys = jax.random.split(jax.random.key(1), 4)
    states = jax.jit(jax.vmap(lambda key: fj.init_state(model, optimizer, key)))(keys)
    batches = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), batch)

    def draw_and_step(state: fj.TrainState, batch: fj.Batch) -> Any:
        images = fj.normalize(augment(state.key, jnp.asarray(batch.images)))
        return mix(state.key, images, jnp.asarray(batch.labels)), step(state, batch)

    def step_own_member(states: fj.TrainState, batches: fj.Batch) -> Any:
        member = jax.tree.map(lambda leaf: leaf[0], (states, batches))
        return jax.tree.map(lambda leaf: leaf[None], draw_and_step(*member))

    mesh = jax.make_mesh((4,), ("member",))
    with jax.set_mesh(mesh):
        sharded = jax.device_put((states, batches), NamedSharding(mesh, P("member")))
        all_members = jax.device_get(
            jax.jit(jax.shard_map(step_own_member, in_specs=P("member"), out_specs=P("member")))(*sharded)
        )
    draw_and_step_alone = jax.jit(draw_and_step)
    for i in range(4):
        drawn, stepped = jax.tree.map(lambda leaf, i=i: leaf[i], all_members)
        drawn_alone, stepped_alone = draw_and_step_alone(*jax.tree.map(lambda leaf, i=i: leaf[i], (states, batches)))
        assert_close(
            drawn, tuple(drawn_alone), 1e-6
        )  # two programs round differently; different draws would be far off
        assert_like_one_device(stepped, stepped_alone)


def test_vmapped_train_step_matches_each_model(batch: fj.Batch) -> None:
    model = fj.make_model(CONFIGS["resnet"])
    step = fj.make_train_step(model, OPTIMIZER)
    keys = jax.random.split(jax.random.key(1), 3)
    states = jax.jit(jax.vmap(partial(fj.init_state, model, OPTIMIZER)))(keys)
    mapped, metrics = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, batch)
    for i in range(3):
        expected, expected_metrics = jax.jit(step)(jax.tree.map(lambda leaf, i=i: leaf[i], states), batch)
        np.testing.assert_allclose(metrics.loss_sum[i], expected_metrics.loss_sum, rtol=1e-5)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped.params), expected.params, 1e-4)


@pytest.mark.parametrize(
    ("use_shard_map", "mixture"),
    [(False, {"mixup_alpha": 1.0}), (True, {"cutmix_alpha": 1.0})],
    ids=["explicit axes", "shard_map"],
)
def test_random_draws_on_a_mesh_match_one_device(
    use_shard_map: bool, mixture: dict[str, float], batch: fj.Batch
) -> None:
    augment_config = fj.AugmentConfig(
        flip="random", crop_padding=2, rotation=10.0, erase_probability=0.5, cutout=6, **mixture
    )
    model = fj.make_model(fj.ModelConfig(family="plain", widths=(4, 6), depths=(1, 1), dropout=0.3))
    optimizer = optax.sgd(0.1)
    step = fj.make_train_step(
        model, optimizer, augment=fj.make_augment(augment_config), mix=fj.make_mix(augment_config)
    )
    state = init_state(model, optimizer, jax.random.key(0))
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded_batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        step_on_mesh = jax.shard_map(step, in_specs=(P(), P("data")), out_specs=P()) if use_shard_map else step
        actual = jax.jit(step_on_mesh)(jax.device_put(state, NamedSharding(mesh, P())), sharded_batch)
    assert_like_one_device(actual, jax.jit(step)(state, batch))


@pytest.mark.parametrize("family", ["plain", "resnet"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_dtype_is_promoted_implicitly(family: Any, dtype: Any, batch: fj.Batch) -> None:
    model = fj.make_model(fj.ModelConfig(family=family, widths=(4, 64), depths=(1, 1), dropout=0.2, dtype=dtype))
    augment_config = fj.AugmentConfig(flip="random", crop_padding=2, rotation=10.0, cutmix_alpha=1.0)
    config = fj.OptimConfig(clip_norm=1.0)
    optimizer = fj.make_optimizer(config, fj.make_schedule(config, 10))
    step = fj.make_train_step(
        model, optimizer, augment=fj.make_augment(augment_config), mix=fj.make_mix(augment_config)
    )
    averaging = fj.make_averaging_step(step, 0.9)
    with jax.numpy_dtype_promotion("strict"):  # optax's adam promotes its step count
        state = jax.eval_shape(lambda key: fj.start_average(fj.init_state(model, optimizer, key)), jax.random.key(0))
        jax.eval_shape(averaging, state, batch)
        jax.eval_shape(fj.make_eval_step(fj.make_predict(model)), state.params, state.batch_stats, batch)
