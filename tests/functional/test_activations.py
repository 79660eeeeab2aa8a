"""Activations of the layers, checked against the logits and against layers that output their own index."""

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
    ids=["plain", "resnet", "resnet-pooled"],
)
def test_activations_list_every_layer_in_order_and_end_with_the_head_input(
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
    # The head's input is the output of the last layer, flattened or averaged over its pixels.
    flat = layers[-1].reshape(3, -1) if config.family == "plain" else layers[-1].mean((1, 2))
    np.testing.assert_allclose(flat, hidden, rtol=1e-4, atol=1e-5)


def test_activations_of_more_than_ten_layers_are_in_numeric_order(key: Array) -> None:
    config = ModelConfig(family="plain", widths=(2,), depths=(11,), dropout=0.3)
    params, batch_stats = jax.jit(make_model(config).init)(key)
    # With zero kernels a layer outputs only its bias, which here is its index.
    indexed_params = {
        name: jax.tree.map(lambda leaf, name=name: jnp.full_like(leaf, int(name.rpartition("_")[2])), leaves)
        if name.startswith("BatchNorm")
        else jax.tree.map(jnp.zeros_like, leaves)
        for name, leaves in params.items()
    }
    layers, _ = jax.jit(make_activations(config))(indexed_params, batch_stats, jnp.zeros((1, 28, 28, 1)))
    assert [float(layer.max()) for layer in layers] == list(range(11))


def test_uint8_images_are_rejected() -> None:
    config = ModelConfig(family="plain", widths=(2,), depths=(1,))
    params, batch_stats = jax.eval_shape(make_model(config).init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.uint8)
    with pytest.raises(ValueError, match="images are uint8: expected floats"):
        jax.eval_shape(make_activations(config), params, batch_stats, images)
