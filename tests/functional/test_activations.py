"""What passes through the layers, against the logits and against layers that only pass on their number."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import ModelConfig, make_activations, make_model


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (
            ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.3),
            [(14, 14, 4), (7, 7, 6), (7, 7, 6), (294,)],
        ),
        (
            ModelConfig(family="resnet", stem="full", widths=(4, 6), depths=(1, 2)),
            [(28, 28, 4), (14, 14, 6), (14, 14, 6), (14, 14, 6), (6,)],
        ),
        (
            ModelConfig(family="resnet", stem="pooled", widths=(4, 6), depths=(1, 2)),
            [(14, 14, 4), (7, 7, 6), (7, 7, 6), (7, 7, 6), (6,)],
        ),
    ],
    ids=["plain", "resnet", "pooled resnet"],
)
def test_activations_are_each_layers_in_order_and_end_in_what_the_head_reads(
    config: ModelConfig, shapes: list[tuple[int, ...]], key: Array
) -> None:
    params, batch_stats = jax.jit(make_model(config).init)(key)
    images = jax.random.uniform(key, (3, 28, 28, 1))
    layers, hidden = jax.jit(make_activations(config))(params, batch_stats, images)
    assert [layer.shape[1:] for layer in [*layers, hidden]] == shapes
    logits, _ = jax.jit(partial(make_model(config).apply, train=False))(params, batch_stats, images)
    head = params["Dense_0"]
    np.testing.assert_allclose(
        np.asarray(hidden) @ np.asarray(head["kernel"]) + np.asarray(head["bias"]), logits, rtol=1e-4, atol=1e-4
    )
    # What the last layer passes on is what is flattened, or averaged over its pixels.
    flat = layers[-1].reshape(3, -1) if config.family == "plain" else layers[-1].mean((1, 2))
    np.testing.assert_allclose(flat, hidden, rtol=1e-4, atol=1e-5)


def test_layers_of_a_deep_network_come_one_after_another(key: Array) -> None:
    config = ModelConfig(family="plain", widths=(2,), depths=(11,), dropout=0.3)
    params, batch_stats = jax.jit(make_model(config).init)(key)
    # Without kernels, a layer passes on its bias alone, which here is its number.
    marked = {
        name: jax.tree.map(lambda leaf, name=name: jnp.full_like(leaf, int(name.rpartition("_")[2])), leaves)
        if name.startswith("BatchNorm")
        else jax.tree.map(jnp.zeros_like, leaves)
        for name, leaves in params.items()
    }
    layers, _ = jax.jit(make_activations(config))(marked, batch_stats, jnp.zeros((1, 28, 28, 1)))
    assert [float(layer.max()) for layer in layers] == list(range(11))


def test_bytes_are_refused() -> None:
    config = ModelConfig(family="plain", widths=(2,), depths=(1,))
    params, batch_stats = jax.eval_shape(make_model(config).init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
    with pytest.raises(ValueError, match="images are uint8: expected floats"):
        jax.eval_shape(make_activations(config), params, batch_stats, images)
