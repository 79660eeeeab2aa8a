"""The network against a forward pass of the same weights in NumPy, and against a twin in PyTorch."""

import re
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import Array

from fmnist_jax import Batch, ConfigError, Model, ModelConfig, cross_entropy, make_model, make_predict, normalize
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import Dropout
from tests.functional.oracles import numpy_conv, window_pixels

Tree = dict[str, dict[str, np.ndarray]]

CONFIGS = [
    ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.3),
    ModelConfig(family="plain", widths=(5,), depths=(3,), dropout=0.3),
    ModelConfig(family="plain", widths=(3, 4, 5, 6), depths=(2, 1, 1, 1), dropout=0.3),
    ModelConfig(family="plain", pooling="mean", widths=(3, 4, 5), depths=(2, 1, 1), dropout=0.3),
    # This one uses Winograd's algorithm for its convolutions.
    ModelConfig(family="plain", widths=(3, 64, 64), depths=(1, 2, 1), dropout=0.3),
]


@partial(jax.jit, static_argnums=0, static_argnames="train")
def apply(
    model: Model, params: Params, batch_stats: BatchStats, images: np.ndarray, *, train: bool, key: Array | None = None
) -> tuple[Array, BatchStats]:
    return model.apply(params, batch_stats, jnp.asarray(images), train=train, key=key)


def draw_images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(count, 28, 28, 1)).astype(np.float32)


def draw_variables(config: ModelConfig) -> tuple[Tree, Tree]:
    """Weights and statistics, none 0 or 1 and some near epsilon, so that omitting any of them changes the result."""
    rng = np.random.default_rng(0)
    params, batch_stats = jax.eval_shape(make_model(config).init, jax.random.key(0))
    drawn: Tree = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)
    for name, leaves in drawn.items():
        if name.startswith("BatchNorm"):
            leaves["scale"] = leaves["scale"] + 1.1
    statistics: Tree = jax.tree.map(lambda leaf: 10 ** rng.uniform(-3, 0.3, leaf.shape).astype(np.float32), batch_stats)
    return drawn, statistics


def numpy_pool(x: np.ndarray, pooling: str) -> np.ndarray:
    pixels = window_pixels(x)
    return {"max": pixels.max(0), "mean": pixels.mean(0)}[pooling]


def numpy_logits(params: Tree, batch_stats: Tree, config: ModelConfig, images: np.ndarray) -> np.ndarray:
    x, index = images.astype(np.float64), 0
    for stage, depth in enumerate(config.depths):
        for layer in range(depth):
            x = numpy_conv(x, params[f"Conv_{index}"]["kernel"])
            if layer == 0:
                x = numpy_pool(x, config.pooling if stage else "max")
            norm, statistics = params[f"BatchNorm_{index}"], batch_stats[f"BatchNorm_{index}"]
            x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * norm["scale"] + norm["bias"]
            x, index = np.maximum(x, 0), index + 1
    return x.reshape(len(x), -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]


@pytest.mark.parametrize("config", CONFIGS)
def test_eval_logits_equal_a_forward_pass_in_numpy(config: ModelConfig) -> None:
    params, batch_stats = draw_variables(config)
    images = draw_images()
    logits, _ = apply(make_model(config), params, batch_stats, images, train=False)
    expected = numpy_logits(params, batch_stats, config, images)
    assert (logits.shape, logits.dtype) == ((3, 10), jnp.float32)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def torch_logits(torch: Any, weights: dict[str, Any], config: ModelConfig, images: np.ndarray, train: bool) -> Any:
    functional = torch.nn.functional
    x, index = torch.from_numpy(images).permute(0, 3, 1, 2), 0
    for stage, depth in enumerate(config.depths):
        pool = functional.avg_pool2d if stage and config.pooling == "mean" else functional.max_pool2d
        for layer in range(depth):
            x = functional.conv2d(x, weights[f"Conv_{index}/kernel"].permute(3, 2, 0, 1), padding="same")
            x = x if layer else pool(x, 2)
            norm = f"BatchNorm_{index}"
            statistics = [None if train else weights[f"{norm}/{name}"].detach() for name in ("mean", "var")]
            x = functional.batch_norm(x, *statistics, weights[f"{norm}/scale"], weights[f"{norm}/bias"], train)
            x, index = functional.relu(x), index + 1
    x = x.permute(0, 2, 3, 1).flatten(1)
    return functional.linear(x, weights["Dense_0/kernel"].T, weights["Dense_0/bias"])


def torch_weights(torch: Any, *trees: Tree) -> dict[str, Any]:
    leaves = {f"{module}/{name}": leaf for tree in trees for module in tree for name, leaf in tree[module].items()}
    return {name: torch.tensor(leaf, requires_grad=True) for name, leaf in leaves.items()}


@pytest.mark.parametrize("config", CONFIGS)
def test_eval_logits_equal_those_of_a_pytorch_twin(config: ModelConfig) -> None:
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch, which nothing else needs")
    params, batch_stats = draw_variables(config)
    images = draw_images()
    logits, _ = apply(make_model(config), params, batch_stats, images, train=False)
    twin = torch_logits(torch, torch_weights(torch, params, batch_stats), config, images, train=False)
    np.testing.assert_allclose(logits, twin.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_training_gradients_of_every_parameter_equal_those_of_a_pytorch_twin() -> None:
    torch = pytest.importorskip("torch", reason="the twin is written in PyTorch, which nothing else needs")
    config = ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.0)
    model = make_model(config)
    params, batch_stats = draw_variables(config)
    images, labels = draw_images(6), np.array([3, 1, 4, 1, 5, 9], np.int32)

    def mean_loss(params: Tree) -> Array:
        logits, _ = model.apply(params, batch_stats, jnp.asarray(images), train=True)
        return cross_entropy(logits, jnp.asarray(labels)).mean()

    loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(params)
    weights = torch_weights(torch, params)
    logits = torch_logits(torch, weights, config, images, train=True)
    twin = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
    twin.backward()
    np.testing.assert_allclose(loss, twin.item(), rtol=1e-5)
    for module, leaves in gradients.items():
        for name, leaf in leaves.items():
            np.testing.assert_allclose(leaf, weights[f"{module}/{name}"].grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_updates_the_running_statistics_with_the_batch_statistics(momentum: float) -> None:
    config = ModelConfig(family="plain", widths=(5,), depths=(1,), batch_norm_momentum=momentum, dropout=0.3)
    params, old = draw_variables(config)
    images = draw_images()
    _, new = apply(make_model(config), params, old, images, train=True, key=jax.random.key(0))
    x = numpy_pool(numpy_conv(images.astype(np.float64), params["Conv_0"]["kernel"]), "max")
    for name, value in (("mean", x.mean((0, 1, 2))), ("var", x.var((0, 1, 2)))):
        expected = momentum * old["BatchNorm_0"][name] + (1 - momentum) * value
        np.testing.assert_allclose(new["BatchNorm_0"][name], expected, rtol=1e-4, atol=1e-5)


def test_evaluation_keeps_the_running_statistics_and_training_changes_them_all(
    model: Model, variables: tuple[Params, BatchStats], key: Array
) -> None:
    images = draw_images()
    _, kept = apply(model, *variables, images, train=False, key=key)
    _, updated = apply(model, *variables, images, train=True, key=key)
    jax.tree.map(np.testing.assert_array_equal, variables[1], kept)
    assert all(jax.tree.leaves(jax.tree.map(lambda old, new: (old != new).all(), variables[1], updated)))


def test_dropout_is_determined_by_its_key_and_off_in_evaluation_without_one(
    model: Model, variables: tuple[Params, BatchStats], key: Array
) -> None:
    images, other_key = draw_images(), jax.random.key(1)

    def logits(train: bool, key: Array | None) -> np.ndarray:
        return np.asarray(apply(model, *variables, images, train=train, key=key)[0])

    np.testing.assert_array_equal(logits(True, key), logits(True, key))
    assert np.all(np.any(logits(True, key) != logits(True, other_key), axis=-1))
    without_dropout = make_model(ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.0))
    np.testing.assert_array_equal(logits(False, None), apply(without_dropout, *variables, images, train=False)[0])


def test_dropout_preserves_the_mean_logits_and_drops_at_the_configured_rate() -> None:
    config = ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3)
    params, batch_stats = draw_variables(config)
    images, samples = jnp.asarray(draw_images(2)), 1000
    # With equal weights for one class, the variance of its logit measures the dropout rate.
    params["Dense_0"]["kernel"][:, 0] = 0.1

    def logits(config: ModelConfig, key: Array) -> Array:
        return make_model(config).apply(params, batch_stats, images, train=True, key=key)[0]

    without_dropout = np.asarray(jax.jit(partial(logits, replace(config, dropout=0.0)))(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), samples)
    dropped = np.asarray(jax.jit(jax.vmap(partial(logits, config)))(keys))
    standard_error = dropped.std(0) / np.sqrt(samples)
    assert np.all(np.abs(dropped.mean(0) - without_dropout) < 4.5 * standard_error)

    x = numpy_pool(numpy_conv(np.asarray(images, np.float64), params["Conv_0"]["kernel"]), "max")
    norm = params["BatchNorm_0"]
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5) * norm["scale"] + norm["bias"]
    features = np.maximum(x, 0).reshape(2, -1)
    expected = 0.3 / 0.7 * (0.1**2 * features**2).sum(-1)
    np.testing.assert_allclose(dropped[:, :, 0].var(0), expected, rtol=0.2)


def test_training_without_dropout_needs_no_key() -> None:
    config = ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.0)
    logits, _ = apply(make_model(config), *draw_variables(config), draw_images(), train=True)
    assert np.all(np.isfinite(np.asarray(logits)))


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_computes_in_half_precision_with_float32_variables_and_logits(
    variables: tuple[Params, BatchStats], model_config: ModelConfig, model: Model, key: Array, train: bool
) -> None:
    half = make_model(replace(model_config, dtype="bfloat16"))
    fresh = jax.eval_shape(half.init, key)
    logits, updated = apply(half, *variables, draw_images(), train=train, key=key)
    # Lowered for a GPU: on a CPU the statistics are computed by float32 products.
    traced = apply.trace(half, *variables, draw_images(), train=train, key=key)
    lowered = traced.lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in lowered.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot" in line]
    assert len(products) >= 4
    assert all("xbf16>" in line and "xf32>" not in line for line in products)
    assert {leaf.dtype for leaf in jax.tree.leaves((fresh, updated, logits))} == {jnp.dtype("float32")}
    expected = np.asarray(apply(model, *variables, draw_images(), train=train, key=key)[0])
    assert 1e-4 < np.abs(np.asarray(logits) - expected).max() < 0.1 * np.abs(expected).max()


def test_init_is_determined_by_its_key(model: Model, variables: tuple[Params, BatchStats], key: Array) -> None:
    init = jax.jit(model.init)
    again, other = init(key), init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    for mine, theirs in zip(jax.tree.leaves(variables[0]), jax.tree.leaves(other[0]), strict=True):
        assert mine.ndim == 1 or np.all(np.asarray(mine) != np.asarray(theirs))


def test_vmapped_init_equals_one_call_per_key_with_he_variance_and_identity_norms() -> None:
    model = make_model(ModelConfig(family="plain", widths=(64,), depths=(1,)))
    keys = jax.random.split(jax.random.key(0), 3)
    init, mapped = jax.jit(model.init), jax.jit(jax.vmap(model.init))(keys)
    for i in range(3):
        params, batch_stats = jax.tree.map(lambda stack, i=i: stack[i], mapped)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), (params, batch_stats), init(keys[i]))
        assert np.asarray(params["Conv_0"]["kernel"]).std() == pytest.approx(np.sqrt(2 / 9), rel=0.15)
        identity_norm = {"scale": np.ones(64), "bias": np.zeros(64)}, {"mean": np.zeros(64), "var": np.ones(64)}
        jax.tree.map(np.testing.assert_array_equal, (params["BatchNorm_0"], batch_stats["BatchNorm_0"]), identity_norm)


@pytest.mark.parametrize("dims", [(), (1, 2, 3)])
def test_dropout_draws_the_same_bits_as_flax(dims: tuple[int, ...], key: Array) -> None:
    x, rngs = jax.random.normal(key, (5, 3, 3, 4)), {"dropout": jax.random.key(1)}
    expected: Any = nn.Dropout(0.3, broadcast_dims=dims, deterministic=False).apply({}, x, rngs=rngs)
    np.testing.assert_array_equal(Dropout(0.3, dims).apply({}, x, True, rngs=rngs), expected)
    traced = jax.jit(lambda rate: Dropout(rate, dims).apply({}, x, True, rngs=rngs))(0.3)
    np.testing.assert_allclose(traced, expected, rtol=1e-6)
    np.testing.assert_array_equal(Dropout(jnp.float32(0.0), dims).apply({}, x, True, rngs=rngs), x)


def test_dropout_with_an_array_rate_keeps_the_input_dtype(key: Array) -> None:
    x = jnp.ones((4, 4), jnp.bfloat16)
    dropped: Any = Dropout(jnp.float32(0.5)).apply({}, x, True, rngs={"dropout": key})
    assert dropped.dtype == jnp.bfloat16


def test_gradient_of_dropout_at_a_rate_of_one_is_zero(key: Array) -> None:
    def total(x: Array, rate: Array) -> Any:
        dropped: Any = Dropout(rate).apply({}, x, True, rngs={"dropout": key})
        return dropped.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 3)), jnp.float32(1.0)), 0)


def test_evaluation_with_a_key_applies_dropout_and_keeps_the_statistics(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    images = normalize(jnp.asarray(batch.images))
    deterministic, _ = apply(model, *variables, images, train=False)
    first, batch_stats = apply(model, *variables, images, train=False, key=jax.random.key(1))
    again, _ = apply(model, *variables, images, train=False, key=jax.random.key(1))
    other, _ = apply(model, *variables, images, train=False, key=jax.random.key(2))
    np.testing.assert_array_equal(first, again)
    assert (first != deterministic).any()
    assert (first != other).any()
    jax.tree.map(np.testing.assert_array_equal, batch_stats, variables[1])


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_frozen_norms_keep_and_use_their_running_statistics(
    family: Literal["plain", "resnet"], batch: Batch, key: Array
) -> None:
    config = ModelConfig(family=family, widths=(4, 6), depths=(1, 1))
    params, batch_stats = jax.jit(make_model(config).init)(key)
    batch_stats = jax.tree.map(lambda leaf: leaf + 0.5, batch_stats)
    images = normalize(jnp.asarray(batch.images))
    paths: list[str] = []

    def is_frozen(path: str) -> bool:
        paths.append(path)
        return path.endswith("BatchNorm_0")

    _, kept = apply(make_model(config, frozen=is_frozen), params, batch_stats, images, train=True)
    jax.tree.map(np.testing.assert_array_equal, kept["BatchNorm_0"], batch_stats["BatchNorm_0"])
    if family == "resnet":
        assert set(paths) == {"BatchNorm_0"} | {f"ResidualBlock_{i}/BatchNorm_{j}" for i in (0, 1) for j in (0, 1)}
        block, before = kept["ResidualBlock_1"], batch_stats["ResidualBlock_1"]
        jax.tree.map(np.testing.assert_array_equal, block["BatchNorm_0"], before["BatchNorm_0"])
        assert (block["BatchNorm_1"]["mean"] != before["BatchNorm_1"]["mean"]).any()
    else:
        assert (kept["BatchNorm_1"]["mean"] != batch_stats["BatchNorm_1"]["mean"]).any()
    frozen = make_model(config, frozen=lambda _: True)
    trained, kept = apply(frozen, params, batch_stats, images, train=True)
    jax.tree.map(np.testing.assert_array_equal, kept, batch_stats)
    np.testing.assert_array_equal(trained, apply(frozen, params, batch_stats, images, train=False)[0])


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [("family", "vit", "plain, resnet"), ("stem", "pool", "pooled, full"), ("pooling", "avg", "max, mean")],
)
def test_unknown_choices_are_rejected(name: str, value: str, choices: str) -> None:
    unknown: Any = ModelConfig(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"--model\.{name} is '{value}': choose one of {choices}$"):
        make_model(unknown)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(family="plain", stem="full"), "--model.stem is full, but plain pools its first convolution"),
        (
            ModelConfig(family="plain", stochastic_depth=0.1),
            "--model.stochastic-depth is 0.1, but plain has no",
        ),
        (ModelConfig(widths=(8, 16), depths=(1,)), "--model.widths has 2 stages and --model.depths 1"),
        (ModelConfig(widths=(), depths=()), "--model.widths has no stage"),
    ],
)
def test_options_that_do_not_fit_the_family_or_stages_are_rejected(config: ModelConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_model(config)


@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_predict_of_an_empty_batch_returns_no_rows(family: Literal["plain", "resnet"], key: Array) -> None:
    model = make_model(ModelConfig(family=family, widths=(4, 6), depths=(1, 1)))
    variables = jax.jit(model.init)(key)
    assert jax.jit(make_predict(model))(*variables, np.zeros((0, 28, 28, 1), np.uint8)).shape == (0, 10)


@pytest.mark.parametrize("train", [True, False])
def test_uint8_images_are_rejected_by_apply(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch, train: bool
) -> None:
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]; call normalize"):
        model.apply(*variables, jnp.asarray(batch.images), train=train, key=jax.random.key(0))


@pytest.mark.parametrize("shape", [(2, 28, 28), (28, 28, 1), (2, 28, 28, 3)])
def test_images_of_wrong_rank_or_channel_count_are_rejected(shape: tuple[int, ...]) -> None:
    model = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,)))
    params, batch_stats = jax.eval_shape(model.init, jax.random.key(0))
    message = rf"^images have shape {re.escape(str(list(shape)))}: expected \[B, H, W, 1\]"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make_predict(model), params, batch_stats, jax.ShapeDtypeStruct(shape, np.uint8))


@pytest.mark.parametrize(("widths", "depths", "name"), [((8,), (0,), "depths"), ((8, 0), (1, 1), "widths")])
def test_stage_without_layers_or_channels_is_refused(
    widths: tuple[int, ...], depths: tuple[int, ...], name: str
) -> None:
    with pytest.raises(ConfigError, match=rf"--model\.{name} is .*: choose 1 or more in each stage"):
        make_model(ModelConfig(family="plain", widths=widths, depths=depths))
