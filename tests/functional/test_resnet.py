"""The residual network against a forward pass of the same weights in NumPy, and stochastic depth by its statistics."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import ModelConfig, cross_entropy, make_model
from tests.functional.oracles import numpy_conv, window_pixels

Tree = dict[str, Any]

CONFIG = ModelConfig(family="resnet", stem="full", widths=(4, 6), depths=(2, 1), dropout=0.0)
CONFIGS = [
    CONFIG,
    replace(CONFIG, widths=(5,), depths=(1,)),
    replace(CONFIG, widths=(3, 3, 4, 4), depths=(1, 1, 2, 1)),  # halves with the shortcut unprojected; 28, 14, 7, 3
    replace(CONFIG, stem="pooled"),
]


def draw_images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(count, 28, 28, 1)).astype(np.float32)


def draw_variables(config: ModelConfig) -> tuple[Tree, Tree]:
    """Weights and statistics that are never 0 or 1, so that leaving any of them out changes the result."""
    rng = np.random.default_rng(0)
    params, batch_stats = jax.eval_shape(make_model(config).init, jax.random.key(0))
    drawn = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return drawn, jax.tree.map(lambda leaf: rng.uniform(0.5, 2, leaf.shape).astype(np.float32), batch_stats)


def average_pool(x: np.ndarray) -> np.ndarray:
    return window_pixels(x).mean(0)


def norm_relu(x: np.ndarray, norm: Tree, statistics: Tree) -> np.ndarray:
    x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5) * norm["scale"] + norm["bias"]
    return np.maximum(x, 0)


def numpy_logits(params: Tree, batch_stats: Tree, config: ModelConfig, images: np.ndarray) -> np.ndarray:
    x = numpy_conv(images.astype(np.float64), params["Conv_0"]["kernel"])
    if config.stem == "pooled":
        x = window_pixels(x).max(0)
    index = 0
    for stage, depth in enumerate(config.depths):
        for layer in range(depth):
            block, statistics = params[f"ResidualBlock_{index}"], batch_stats[f"ResidualBlock_{index}"]
            kernels = [block[name]["kernel"] for name in sorted(block) if name.startswith("Conv")]
            normalized = norm_relu(x, block["BatchNorm_0"], statistics["BatchNorm_0"])
            pool = average_pool if stage and not layer else np.asarray
            shortcut = pool(x)
            if len(kernels) == 3:
                shortcut = numpy_conv(pool(normalized), kernels.pop(0))
            y = norm_relu(pool(numpy_conv(normalized, kernels[0])), block["BatchNorm_1"], statistics["BatchNorm_1"])
            x, index = shortcut + numpy_conv(y, kernels[1]), index + 1
    x = norm_relu(x, params["BatchNorm_0"], batch_stats["BatchNorm_0"]).mean((1, 2))
    return x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]


@pytest.mark.parametrize("config", CONFIGS)
def test_eval_logits_equal_a_forward_pass_in_numpy(config: ModelConfig) -> None:
    params, batch_stats = draw_variables(config)
    images = draw_images()
    model = make_model(replace(config, stochastic_depth=0.5, dropout=0.5))  # neither applies in evaluation
    logits, kept = jax.jit(partial(model.apply, train=False))(params, batch_stats, images)
    expected = numpy_logits(params, batch_stats, config, images)
    assert (logits.shape, logits.dtype) == ((3, 10), jnp.float32)
    assert expected.std() > 0.05
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, kept, batch_stats)


@pytest.mark.parametrize("config", CONFIGS)
def test_evaluation_with_norms_folded_into_the_preceding_kernels_equals_unfolded(config: ModelConfig) -> None:
    """As done for deployment: the scale is folded into the kernel, the rest into a bias."""
    params, batch_stats = draw_variables(config)
    folded, statistics = jax.tree.map(np.copy, (params, batch_stats))
    for name in [name for name in folded if name.startswith("ResidualBlock")]:
        block, norm, stats = folded[name], folded[name]["BatchNorm_1"], statistics[name]["BatchNorm_1"]
        conv_name = sorted(kernel for kernel in block if kernel.startswith("Conv"))[-2]  # a 1x1 shortcut has Conv_0
        factor = norm["scale"] / np.sqrt(stats["var"] + 1e-5)
        block[conv_name]["kernel"] *= factor
        norm["bias"] -= stats["mean"] * factor
        norm["scale"][:], stats["mean"][:], stats["var"][:] = 1, 0, 1 - 1e-5  # so that only the bias is left
    apply, images = jax.jit(partial(make_model(config).apply, train=False)), jnp.asarray(draw_images())
    logits, _ = apply(folded, statistics, images)
    expected = np.asarray(apply(params, batch_stats, images)[0])
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_new_block_equals_its_shortcut_and_still_learns() -> None:
    config = replace(CONFIG, widths=(4,), depths=(2,))
    model = make_model(config)
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    images, labels = jnp.asarray(draw_images()), jnp.array([3, 1, 4])

    def mean_loss(params: Any) -> Array:
        return cross_entropy(model.apply(params, batch_stats, images, train=True)[0], labels).mean()

    perturbed = {**params, "ResidualBlock_0": jax.tree.map(lambda leaf: 0.5 + leaf, params["ResidualBlock_0"])}
    perturbed["ResidualBlock_0"]["Conv_1"] = params["ResidualBlock_0"]["Conv_1"]
    assert not np.any(params["ResidualBlock_0"]["Conv_1"]["kernel"])
    loss_and_gradient = jax.jit(jax.value_and_grad(mean_loss))
    loss, gradient = loss_and_gradient(params)
    assert loss == loss_and_gradient(perturbed)[0]
    for _ in range(2):
        params = jax.tree.map(lambda leaf, step: leaf - 0.1 * step, params, gradient)
        gradient = loss_and_gradient(params)[1]
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("stem", ["full", "pooled"])
def test_training_gradients_equal_finite_differences(stem: Any) -> None:
    config = replace(CONFIG, stem=stem, widths=(3, 4), depths=(1, 1))
    params, batch_stats = draw_variables(config)
    images, labels = jnp.asarray(draw_images(4)), jnp.array([3, 1, 4, 1])

    @jax.jit
    def mean_loss(params: Any) -> Array:
        return cross_entropy(make_model(config).apply(params, batch_stats, images, train=True)[0], labels).mean()

    gradient = jax.grad(mean_loss)(params)
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    ahead, behind = (
        mean_loss(jax.tree.map(lambda leaf, step, sign=sign: leaf + sign * 1e-3 * step, params, direction))
        for sign in (1, -1)
    )
    expected = sum(jax.tree.leaves(jax.tree.map(lambda a, b: float((a * b).sum()), gradient, direction)))
    assert float(ahead - behind) / 2e-3 == pytest.approx(expected, rel=0.05)


def test_stochastic_depth_skips_the_configured_fraction_of_images() -> None:
    """On copies of one image, with one block, the logits are those of the shortcut or those of the scaled residual."""
    config, count = replace(CONFIG, widths=(4,), depths=(1,)), 4000
    params, batch_stats = draw_variables(config)
    images = np.repeat(draw_images(1), count, axis=0)[:, :4, :4]

    def logits(rate: float, residual: float = 1.0) -> np.ndarray:
        """In training, but with the norms of evaluation: those of a batch would mix skipped images with others."""
        block = params["ResidualBlock_0"]
        scaled = {**block, "Conv_1": {"kernel": residual * block["Conv_1"]["kernel"]}}
        apply = make_model(replace(config, stochastic_depth=rate), frozen=lambda _: True).apply
        variables = {**params, "ResidualBlock_0": scaled}, batch_stats
        return np.asarray(jax.jit(partial(apply, train=True))(*variables, images, key=jax.random.key(1))[0])

    drawn = logits(0.3)
    skipped, taken = (np.abs(drawn - logits(0.0, residual)).max(-1) < 1e-3 for residual in (0.0, 1 / 0.7))
    assert (skipped ^ taken).all()
    assert skipped.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / count))


def test_mean_over_stochastic_depth_equals_the_full_block() -> None:
    from fmnist_jax.functional import model as module

    block = module.ResidualBlock(3, halve=False, drop_path_rate=0.4, momentum=0.9, dtype=jnp.dtype("float32"))
    full_block = replace(block, drop_path_rate=0.0)
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 5, 3)).astype(np.float32))
    variables = block.init(jax.random.key(0), x, train=False)
    params = jax.tree.map(lambda leaf: leaf + 0.2, variables["params"])
    variables = {"params": params, "batch_stats": variables["batch_stats"]}

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0))
    def outputs(variables: Any, key: Array) -> Array:
        return block.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])[0]

    expected, _ = full_block.apply(variables, x, train=True, mutable=["batch_stats"])
    drawn = np.asarray(outputs(variables, jax.random.split(jax.random.key(1), 2000)))
    residual = np.abs(np.asarray(expected) - x).max()
    assert residual > 0.5
    np.testing.assert_allclose(drawn.mean(0), expected, atol=4.5 * residual * np.sqrt(0.4 / 0.6 / 2000))
    shortcut_alone = np.all(drawn == np.asarray(x)[None], axis=(2, 3, 4))
    assert shortcut_alone.mean() == pytest.approx(0.4, abs=0.04)
    assert np.corrcoef(shortcut_alone[:, 0], shortcut_alone[:, 1])[0, 1] == pytest.approx(0, abs=0.1)


def test_drop_rate_grows_linearly_with_the_depth_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmnist_jax.functional import model as module

    seen = []
    original = module.ResidualBlock

    def spy(features: int, halve: bool, drop_rate: float, *others: Any) -> Any:
        seen.append((features, halve, drop_rate))
        return original(features, halve, drop_rate, *others)

    monkeypatch.setattr(module, "ResidualBlock", spy)
    config = replace(CONFIG, widths=(3, 4), depths=(2, 2), stochastic_depth=0.2)
    jax.eval_shape(make_model(config).init, jax.random.key(0))
    assert [entry[:2] for entry in seen] == [(3, False), (3, False), (4, True), (4, False)]
    assert [entry[2] for entry in seen] == pytest.approx([0.05, 0.1, 0.15, 0.2])


def test_bfloat16_computes_in_half_precision_with_float32_variables_and_logits() -> None:
    params, batch_stats = draw_variables(CONFIG)
    half = make_model(replace(CONFIG, dtype="bfloat16"))
    apply = jax.jit(partial(half.apply, train=True))
    logits, updated = apply(params, batch_stats, draw_images())
    # Lowered for a GPU: on a CPU the statistics are computed by float32 products.
    lowered = apply.trace(params, batch_stats, draw_images()).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in lowered.splitlines() if "stablehlo.convolution" in line or "stablehlo.dot" in line]
    # One of the stem, six of the blocks, one of a shortcut, and last that of the head, in float32.
    assert len(products) == 9
    assert all("xbf16>" in line and "xf32>" not in line for line in products[:-1])
    assert {leaf.dtype for leaf in jax.tree.leaves((updated, logits))} == {jnp.dtype("float32")}
    expected = jax.jit(partial(make_model(CONFIG).apply, train=True))(params, batch_stats, draw_images())[0]
    assert 1e-4 < np.abs(np.asarray(logits) - expected).max() < 0.1 * np.abs(expected).max()


def test_dropout_and_the_momentum_of_norms_are_those_of_the_configuration() -> None:
    config = replace(CONFIG, stem="pooled", widths=(4,), depths=(1,))
    params, old = draw_variables(config)

    def train(**changes: Any) -> tuple[Array, Tree]:
        apply = make_model(replace(config, **changes)).apply
        return jax.jit(partial(apply, train=True))(params, old, draw_images(), key=jax.random.key(0))

    logits, of_batch = train(batch_norm_momentum=0.0)
    dropped, updated = train(batch_norm_momentum=0.75, dropout=0.5)
    assert (logits != dropped).any(-1).all()
    expected = jax.tree.map(lambda before, value: 0.75 * before + 0.25 * value, old, of_batch)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), updated, expected)
