"""Saliency against finite differences, projections against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from fmnist_jax import Batch, Model
from fmnist_jax.analysis import inspection
from fmnist_jax.analysis.inspection import first_filters, make_saliency, principal_plane
from fmnist_jax.config.schema import ModelConfig
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.pixels import normalize


def test_saliency_matches_finite_differences_of_the_highest_logit(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    images = np.asarray(batch.images[:3])
    saliency = np.asarray(jax.jit(make_saliency(model))(*variables, images))
    assert saliency.shape == (3, 28, 28)
    pixels = np.asarray(normalize(jnp.asarray(images)))

    apply = jax.jit(lambda values: model.apply(*variables, values, train=False)[0].max(-1))

    def highest_logit(values: np.ndarray, image: int) -> float:
        return float(apply(values)[image])

    for image, row, column in ((0, 5, 9), (1, 14, 14), (2, 27, 3)):
        perturbation = np.zeros_like(pixels)
        perturbation[image, row, column] = 1e-3
        slope = (highest_logit(pixels + perturbation, image) - highest_logit(pixels - perturbation, image)) / 2e-3
        assert saliency[image, row, column] == pytest.approx(abs(slope), rel=0.05, abs=1e-3)
    assert saliency.max() > 1e-3


def test_saliency_does_not_depend_on_other_images_of_the_batch(
    model: Model, variables: tuple[Params, BatchStats], batch: Batch
) -> None:
    saliency = jax.jit(make_saliency(model))
    batch_saliency = saliency(*variables, batch.images)
    np.testing.assert_allclose(saliency(*variables, batch.images[2:3])[0], batch_saliency[2], rtol=1e-4, atol=1e-6)


def test_first_filters_are_the_kernels_of_the_first_convolution(variables: tuple[Params, BatchStats]) -> None:
    filters = first_filters(variables[0])
    kernel = np.asarray(variables[0]["Conv_0"]["kernel"])
    assert filters.shape == (4, 3, 3)
    assert np.array_equal(filters[2], kernel[:, :, 0, 2])


@pytest.mark.parametrize("shape", [(40, 7), (5, 30), (3, 2)])
def test_principal_plane_matches_scikit_learns_pca(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)
    ours, theirs = principal_plane(features.astype(np.float32)), PCA(2).fit(features)
    points = theirs.transform(features)
    for axis in range(2):
        sign = np.sign(points[:, axis] @ ours.points[:, axis])
        np.testing.assert_allclose(sign * ours.points[:, axis], points[:, axis], atol=1e-4)
    np.testing.assert_allclose(ours.shares, theirs.explained_variance_ratio_, atol=1e-6)


def test_principal_plane_is_the_same_if_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(2).normal(size=(6, 30))
    unchunked = principal_plane(features)
    monkeypatch.setattr(inspection, "_CHUNK_FEATURES", 7)
    for actual, expected in zip(principal_plane(features), unchunked, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (1, 1)])
def test_principal_plane_supports_a_single_point_or_feature(shape: tuple[int, int]) -> None:
    features = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    projection = principal_plane(features)
    assert projection.points.shape == (shape[0], 2)
    assert np.ptp(projection.points[:, 1]) == pytest.approx(0)
    assert np.isnan(projection.shares).all() == (shape[0] == 1)


def test_principal_plane_signs_do_not_depend_on_the_order_of_points() -> None:
    features = np.random.default_rng(1).normal(size=(30, 4))
    np.testing.assert_allclose(
        principal_plane(features).points[::-1], principal_plane(features[::-1]).points, atol=1e-9
    )


def test_colour_saliency_is_the_maximum_over_channels_and_filters_keep_channels() -> None:
    model = make_model(ModelConfig(family="plain", widths=(4,), depths=(1,)), image_shape=(8, 9, 3), num_classes=3)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)

    def sum_of_highest_logits(pixels: jax.Array) -> jax.Array:
        return model.apply(params, stats, pixels, train=False)[0].max(-1).sum()

    gradients = jax.jit(jax.grad(sum_of_highest_logits))(normalize(jnp.asarray(images)))
    saliency = jax.jit(make_saliency(model))(params, stats, images)
    np.testing.assert_allclose(saliency, np.abs(gradients).max(-1), rtol=1e-5)
    np.testing.assert_array_equal(first_filters(params)[1], params["Conv_0"]["kernel"][..., 1])
