"""Derivatives, meshes and maps, as research code asks for them."""

import re
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

initialized = jax.jit(fj.init_state, static_argnums=(0, 1))


@pytest.fixture(params=["winograd", "resnet"])
def model(request: pytest.FixtureRequest) -> fj.Model:
    return fj.make_model(CONFIGS[request.param])


def assert_close(got: Any, expected: Any, tolerance: float = 1e-3) -> None:
    """Compares each leaf with the largest value of its counterpart for a scale."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        scale = float(np.max(np.abs(np.asarray(b)))) or 1.0
        np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, atol=tolerance)


def test_a_hessian_vector_product_forward_over_reverse(model: fj.Model, batch: fj.Batch) -> None:
    params, stats = jax.jit(model.init)(jax.random.key(0))
    images = fj.normalize(jnp.asarray(batch.images))

    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(params, stats, images, train=True)
        return fj.cross_entropy(logits, jnp.asarray(batch.labels)).mean()

    vector = jax.tree.map(jnp.cos, params)
    product = jax.jit(lambda p, v: jax.jvp(jax.grad(loss), (p,), (v,))[1])(params, vector)

    dot = jax.jit(jax.grad(lambda p: sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(loss)(p), vector))))))
    assert_close(product, dot(params))


def test_a_gauss_newton_product(model: fj.Model, batch: fj.Batch) -> None:
    params, stats = jax.jit(model.init)(jax.random.key(0))
    images = fj.normalize(jnp.asarray(batch.images))

    def logits(params: Any) -> jax.Array:
        return model.apply(params, stats, images, train=True)[0]

    def product(params: Any, vector: Any) -> Any:
        outputs, pushforward = jax.linearize(logits, params)
        pullback = jax.linear_transpose(pushforward, params)
        curved = jax.jvp(
            jax.grad(lambda z: optax.softmax_cross_entropy(z, fj.one_hot(jnp.asarray(batch.labels))).sum()),
            (outputs,),
            (pushforward(vector),),
        )[1]
        return pullback(curved)[0]

    vector = jax.tree.map(jnp.cos, params)
    curvature = sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.jit(product)(params, vector), vector))))
    assert float(curvature) > 0, "the Gauss-Newton matrix of a convex loss is positive semi-definite"


def test_the_jacobian_of_the_logits(batch: fj.Batch) -> None:
    model = fj.make_model(CONFIGS["plain"])
    params, stats = jax.jit(model.init)(jax.random.key(0))
    image = fj.normalize(jnp.asarray(batch.images[:1]))
    head = params["Dense_0"]["bias"]

    def logits(bias: jax.Array) -> jax.Array:
        own = {**params, "Dense_0": {**params["Dense_0"], "bias": bias}}
        return model.apply(own, stats, image, train=False)[0][0]

    np.testing.assert_allclose(jax.jacfwd(logits)(head), np.eye(10), atol=1e-6)
    np.testing.assert_allclose(jax.jacrev(logits)(head), np.eye(10), atol=1e-6)


@pytest.fixture(scope="module")
def batch() -> fj.Batch:
    rng = np.random.default_rng(0)
    return fj.Batch(rng.integers(0, 256, (16, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, 16).astype(np.int32))


def setup(model: fj.Model) -> tuple[Any, fj.TrainState]:
    return fj.make_train_step(model, OPTIMIZER), initialized(model, OPTIMIZER, jax.random.key(0))


def assert_like_one_device(got: Any, expected: Any) -> None:
    (state, metrics), (one, of_one) = got, expected
    np.testing.assert_allclose(metrics.loss_sum, of_one.loss_sum, rtol=1e-6)
    np.testing.assert_array_equal(metrics.confusion, of_one.confusion)
    assert_close(state.batch_stats, one.batch_stats, 1e-5)
    assert_close(state.params, one.params, 1e-4)


def test_a_step_on_a_mesh_with_explicit_axes(model: fj.Model, batch: fj.Batch) -> None:
    step, state = setup(model)
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        spread = jax.device_put(batch, NamedSharding(mesh, P("data")))
        whole = jax.device_put(state, NamedSharding(mesh, P()))
        got = jax.jit(step)(whole, spread)
        logits = jax.jit(fj.make_predict(model))(whole.params, whole.batch_stats, spread.images)
    assert_like_one_device(got, jax.jit(step)(state, batch))
    assert logits.sharding.spec[0] == "data"


def test_a_step_under_shard_map(model: fj.Model, batch: fj.Batch) -> None:
    step, state = setup(model)
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        sharded = jax.jit(jax.shard_map(step, in_specs=(P(), P("data")), out_specs=P()))
        got = sharded(state, jax.device_put(batch, NamedSharding(mesh, P("data"))))
    assert_like_one_device(got, jax.jit(step)(state, batch))


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_half_precision_sums_its_gradients_over_the_shards_in_float32(family: Any, batch: fj.Batch) -> None:
    model = fj.make_model(fj.ModelConfig(family=family, widths=(4, 6), depths=(1, 1), dtype="bfloat16"))
    step = fj.make_train_step(model, OPTIMIZER)
    state = jax.eval_shape(partial(fj.init_state, model, OPTIMIZER), jax.random.key(0))
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    text = jax.jit(sharded).trace(state, batch).lower(lowering_platforms=("tpu",)).as_text()
    summed = re.findall(r"all_reduce.*?\}\) : \((.*?)\) ->", text, re.DOTALL)
    assert len(summed) > len(jax.tree.leaves(state.params)) / 2
    assert {re.split("[x<]", operand)[-1] for operand in summed} == {"f32>", "i32>"}
    assert "xbf16>" in text


def test_models_of_their_own_on_each_shard(batch: fj.Batch) -> None:
    step, state = setup(fj.make_model(CONFIGS["plain"]))
    mesh = jax.make_mesh((2,), ("model",))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)

    def own_step(states: fj.TrainState, batch: fj.Batch) -> Any:
        return jax.vmap(step, in_axes=(0, None))(states, batch)

    with jax.set_mesh(mesh):
        states = jax.device_put(several, NamedSharding(mesh, P("model")))
        got = jax.jit(jax.shard_map(own_step, in_specs=(P("model"), P()), out_specs=P("model")))(states, batch)
    second = jax.tree.map(lambda leaf: leaf[1], jax.device_get(got[0].params))
    assert_close(second, jax.jit(step)(state, batch)[0].params, 1e-4)


def test_members_on_shards_of_their_own_draw_as_each_alone(batch: fj.Batch) -> None:
    chosen = fj.AugmentConfig(flip="random", crop_padding=2, rotation=10.0, erase_probability=0.5, cutout=6)
    model = fj.make_model(
        fj.ModelConfig(family="resnet", widths=(4, 6), depths=(1, 1), dropout=0.3, stochastic_depth=0.5)
    )
    optimizer, augment = optax.sgd(0.1), fj.make_augment(chosen)
    mix = fj.make_cutmix(1.0)
    step = fj.make_train_step(model, optimizer, augment=augment, mix=mix)
    keys = jax.random.split(jax.random.key(1), 4)
    states = jax.jit(jax.vmap(lambda key: fj.init_state(model, optimizer, key)))(keys)
    batches = jax.tree.map(lambda leaf: leaf.reshape(4, 4, *leaf.shape[1:]), batch)

    def drawn_and_stepped(state: fj.TrainState, batch: fj.Batch) -> Any:
        images = fj.normalize(augment(state.key, jnp.asarray(batch.images)))
        return mix(state.key, images, jnp.asarray(batch.labels)), step(state, batch)

    def own(states: fj.TrainState, batches: fj.Batch) -> Any:
        first = jax.tree.map(lambda leaf: leaf[0], (states, batches))
        return jax.tree.map(lambda leaf: leaf[None], drawn_and_stepped(*first))

    mesh = jax.make_mesh((4,), ("member",))
    with jax.set_mesh(mesh):
        spread = jax.device_put((states, batches), NamedSharding(mesh, P("member")))
        together = jax.device_get(jax.jit(jax.shard_map(own, in_specs=P("member"), out_specs=P("member")))(*spread))
    alone = jax.jit(drawn_and_stepped)
    for i in range(4):
        drawn, stepped = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        drawn_alone, stepped_alone = alone(*jax.tree.map(lambda leaf, i=i: leaf[i], (states, batches)))
        assert_close(drawn, tuple(drawn_alone), 1e-6)  # two programs round otherwise; other draws would be far off
        assert_like_one_device(stepped, stepped_alone)


def test_a_step_mapped_over_models_is_that_of_each(batch: fj.Batch) -> None:
    model = fj.make_model(CONFIGS["resnet"])
    step = fj.make_train_step(model, OPTIMIZER)
    keys = jax.random.split(jax.random.key(1), 3)
    states = jax.jit(jax.vmap(partial(fj.init_state, model, OPTIMIZER)))(keys)
    together, metrics = jax.jit(jax.vmap(step, in_axes=(0, None)))(states, batch)
    for i in range(3):
        alone, of_one = jax.jit(step)(jax.tree.map(lambda leaf, i=i: leaf[i], states), batch)
        np.testing.assert_allclose(metrics.loss_sum[i], of_one.loss_sum, rtol=1e-5)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together.params), alone.params, 1e-4)


@pytest.mark.parametrize(
    ("manual", "mixture"),
    [(False, {"mixup_alpha": 1.0}), (True, {"cutmix_alpha": 1.0})],
    ids=["explicit axes", "shard_map"],
)
def test_every_random_draw_is_that_of_one_device(manual: bool, mixture: dict[str, float], batch: fj.Batch) -> None:
    chosen = fj.AugmentConfig(flip="random", crop_padding=2, rotation=10.0, erase_probability=0.5, cutout=6, **mixture)
    model = fj.make_model(fj.ModelConfig(family="plain", widths=(4, 6), depths=(1, 1), dropout=0.3))
    optimizer = optax.sgd(0.1)
    step = fj.make_train_step(model, optimizer, augment=fj.make_augment(chosen), mix=fj.make_mix(chosen))
    state = initialized(model, optimizer, jax.random.key(0))
    mesh = jax.make_mesh((2,), ("data",))
    with jax.set_mesh(mesh):
        spread = jax.device_put(batch, NamedSharding(mesh, P("data")))
        mapped = jax.shard_map(step, in_specs=(P(), P("data")), out_specs=P()) if manual else step
        got = jax.jit(mapped)(jax.device_put(state, NamedSharding(mesh, P())), spread)
    assert_like_one_device(got, jax.jit(step)(state, batch))


@pytest.mark.parametrize("family", ["plain", "resnet"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_type_is_promoted_silently(family: Any, dtype: Any, batch: fj.Batch) -> None:
    model = fj.make_model(fj.ModelConfig(family=family, widths=(4, 64), depths=(1, 1), dropout=0.2, dtype=dtype))
    chosen = fj.AugmentConfig(flip="random", crop_padding=2, rotation=10.0, cutmix_alpha=1.0)
    config = fj.OptimConfig(clip_norm=1.0)
    optimizer = fj.make_optimizer(config, fj.make_schedule(config, 10))
    step = fj.make_train_step(model, optimizer, augment=fj.make_augment(chosen), mix=fj.make_mix(chosen))
    averaging = fj.make_averaging_step(step, 0.9)
    with jax.numpy_dtype_promotion("strict"):  # optax's adam promotes the count of its steps
        state = jax.eval_shape(lambda key: fj.start_average(fj.init_state(model, optimizer, key)), jax.random.key(0))
        jax.eval_shape(averaging, state, batch)
        jax.eval_shape(fj.make_eval_step(fj.make_predict(model)), state.params, state.batch_stats, batch)
