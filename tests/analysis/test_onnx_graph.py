"""ONNX graphs in ONNX Runtime, compared with the networks themselves."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from fmnist_jax.analysis.onnx_graph import onnx_model
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.eval_step import make_mirrored_predict, make_predict, make_probabilities
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.state import Weights

pytest.importorskip("onnx", reason="the extra export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra dev is not installed anew")

_SHAPE, _CLASSES = (15, 12, 3), 4  # sides that become odd when halved


def _weights(config: ModelConfig, seed: int = 0) -> Weights:
    """Weights of which none is exactly 0 or 1, as after training."""
    model, rng = make_model(config, image_shape=_SHAPE, num_classes=_CLASSES), np.random.default_rng(seed)
    params, batch_stats = jax.jit(model.init)(jax.random.key(seed))
    perturbed_params = jax.tree.map(lambda leaf: np.float32(leaf + rng.normal(0, 0.1, leaf.shape)), params)
    return Weights(
        perturbed_params, jax.tree.map(lambda leaf: np.float32(leaf + rng.uniform(0, 0.2, leaf.shape)), batch_stats)
    )


def _expected(config: ModelConfig, weights: Weights, images: np.ndarray, mirror: bool) -> np.ndarray:
    predict = make_predict(make_model(config, image_shape=_SHAPE, num_classes=_CLASSES))
    logits_fn = make_mirrored_predict(predict) if mirror else predict
    return np.asarray(jax.jit(make_probabilities(logits_fn))(*weights, images))


def _run_onnx(model: Any, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"images": images})[0])


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *_SHAPE), dtype=np.uint8)


def _network_configs() -> dict[str, ModelConfig]:
    """A small network like that of each preset, and one of each other family, stem and pooling."""
    small = {
        name: replace(preset.model, widths=(4, 6), depths=(1, 2), dtype="float32", stochastic_depth=0.0)
        for name, preset in PRESETS.items()
    }
    plain = ModelConfig(family="plain", widths=(4, 6), depths=(2, 1))
    return small | {
        "plain, maxima": plain,
        "plain, means": replace(plain, pooling="mean"),
        "resnet, full stem, blocks of the same width": ModelConfig(stem="full", widths=(4, 4), depths=(1, 1)),
    }


@pytest.mark.parametrize("kind", _network_configs())
def test_onnx_probabilities_match_the_network(kind: str) -> None:
    config = _network_configs()[kind]
    weights, mirror = _weights(config), kind != "standard"
    model = onnx_model(config, [weights], image_shape=_SHAPE, mirror=mirror, metadata={})
    for count in (1, 3):
        actual, expected = _run_onnx(model, _images(count)), _expected(config, weights, _images(count), mirror)
        assert 1e-3 < expected.min() < expected.max() < 0.999
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert not mirror or np.abs(expected - _expected(config, weights, _images(3), False)).max() > 1e-4


def test_onnx_ensemble_gives_the_mean_of_its_members() -> None:
    config = ModelConfig(widths=(4,), depths=(1,))
    members = [_weights(config, seed) for seed in range(3)]
    model = onnx_model(config, members, image_shape=_SHAPE, mirror=False, metadata={"a": "b"})
    expected = np.mean([_expected(config, member, _images(3), False) for member in members], 0)
    np.testing.assert_allclose(_run_onnx(model, _images(3)), expected, atol=1e-5)
    assert {item.key: item.value for item in model.metadata_props} == {"a": "b"}


def test_onnx_input_and_output_declare_their_shapes() -> None:
    config = ModelConfig(widths=(4,), depths=(1,))
    graph = onnx_model(config, [_weights(config)], image_shape=_SHAPE, mirror=False, metadata={}).graph
    (images,), (probabilities,) = graph.input, graph.output
    assert [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim] == ["batch", *_SHAPE]
    assert [dim.dim_param or dim.dim_value for dim in probabilities.type.tensor_type.shape.dim] == ["batch", _CLASSES]
