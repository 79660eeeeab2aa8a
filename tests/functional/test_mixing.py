"""Mixup and CutMix: label weights are checked against the share of the pixels that came from each image."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from fmnist_jax import AugmentConfig, ConfigError, Mix, make_cutmix, make_mix, make_mixup, one_hot, unmixed

COUNT = 400
MIXTURES: list[Mix] = [make_mixup(0.4), make_cutmix(1.0), make_mixup(1.0, 0.5), make_cutmix(1.0, 0.5)]


def index_images(count: int = COUNT, size: int = 28) -> Array:
    """Images whose pixels all equal their index in the batch."""
    return jnp.broadcast_to(jnp.arange(count, dtype=jnp.float32).reshape(-1, 1, 1, 1), (count, size, size, 1))


def labels_by_index(count: int = COUNT) -> Array:
    return jnp.arange(count) % 10


@partial(jax.jit, static_argnums=0)
def apply_mix(make: Any, alpha: float, probability: float, *batch: Array) -> tuple[Array, Array]:
    return make(alpha, probability)(*batch)


def find_pairs(mixed: np.ndarray) -> list[tuple[int, float, int]]:
    """Index, share of its own pixels, and index of the other image, for each image that CutMix changed."""
    pairs = []
    for index, image in enumerate(mixed[..., 0]):
        others = np.unique(image[image != index])
        assert len(others) <= 1
        if len(others):
            pairs.append((index, float((image == index).mean()), int(others[0])))
    return pairs


def test_cutmix_weights_labels_by_the_pixel_share_of_each_image(key: Array) -> None:
    images, weights = apply_mix(make_cutmix, 1.0, 1.0, key, index_images(), labels_by_index())
    pairs = find_pairs(np.asarray(images))
    assert len(pairs) > 0.9 * COUNT
    for index, share, other in pairs:
        expected = share * np.eye(10)[index % 10] + (1 - share) * np.eye(10)[other % 10]
        np.testing.assert_allclose(weights[index], expected, atol=1e-5)


def test_cutmix_pastes_boxes_with_the_image_aspect_at_the_same_position(key: Array) -> None:
    images = np.random.default_rng(0).uniform(size=(COUNT, 28, 28, 1)).astype(np.float32)
    mixed = np.asarray(apply_mix(make_cutmix, 1.0, 1.0, key, jnp.asarray(images), labels_by_index())[0])
    num_interior = 0
    for index, image in enumerate(mixed):
        pasted = (image != images[index])[..., 0]
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert pasted[box].all()
            assert any(np.array_equal(image[box], other[box]) for other in images)
            is_interior = {rows[0], columns[0]}.isdisjoint({0}) and {rows[-1], columns[-1]}.isdisjoint({27})
            num_interior += is_interior
            assert not is_interior or len(rows) == len(columns)
    assert num_interior > 10


def test_cutmix_boxes_of_oblong_images_keep_their_aspect_and_reach_every_edge(key: Array) -> None:
    images = np.random.default_rng(0).uniform(size=(COUNT, 12, 24, 1)).astype(np.float32)
    mixed = np.asarray(apply_mix(make_cutmix, 1.0, 1.0, key, jnp.asarray(images), labels_by_index())[0])
    pasted = (mixed != images)[..., 0]
    assert pasted.any((0, 1)).all()
    assert pasted.any((0, 2)).all()
    extents = [[np.flatnonzero(box.any(axis)) for axis in (1, 0)] for box in pasted if box.any()]
    inside = [
        (len(rows), len(columns)) for rows, columns in extents
        if rows[0] > 0 and rows[-1] < 11 and columns[0] > 0 and columns[-1] < 23
    ]  # fmt: skip
    assert len(inside) > COUNT / 10
    assert all(columns // 2 == rows for rows, columns in inside)


def test_cutmix_shares_are_distributed_as_in_the_paper() -> None:
    """Boxes of relative side sqrt(1 - Beta(1, 1)), centred on a uniform pixel and clipped at the border."""
    labels = jnp.arange(COUNT) % 2
    _, weights = apply_mix(make_cutmix, 1.0, 1.0, jax.random.key(3), index_images(), labels)
    rng = np.random.default_rng(0)
    sides = (28 * np.sqrt(1 - rng.uniform(size=20_000))).astype(int)
    starts = rng.integers(0, 28, (2, 20_000)) - sides // 2
    height, width = np.minimum(starts + sides, 28) - np.maximum(starts, 0)
    expected_shares = 1 - height * width / 784
    shares = np.asarray(weights)[np.arange(COUNT), labels]
    mixed = shares < 1
    assert shares[mixed].mean() == pytest.approx(expected_shares[expected_shares < 1].mean(), abs=0.05)


def test_mixup_averages_pixels_and_labels_with_the_same_weight(key: Array) -> None:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(64, 4, 4, 1)).astype(np.float32))
    mixed, weights = jax.jit(make_mixup(1.0))(key, images, jnp.arange(64) % 10)
    flat, shares = np.asarray(images).reshape(64, -1), []
    for index in range(64):
        # The partner is the image for which the mixture lies on the straight line between both.
        target, original = np.asarray(mixed[index]).ravel(), flat[index]
        best = (np.inf, 0, 1.0)
        for other in range(64):
            step = flat[other] - original
            share = 1 - (target - original) @ step / max(step @ step, 1e-9)
            error = np.abs(original + (1 - share) * step - target).max()
            best = min(best, (error, other, share))
        error, other, share = best
        assert error < 1e-5
        shares.append(share)
        expected = share * np.eye(10)[index % 10] + (1 - share) * np.eye(10)[other % 10]
        np.testing.assert_allclose(weights[index], expected, atol=1e-3)
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.2)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_weights_follow_the_beta_distribution(alpha: float) -> None:
    labels = jnp.arange(4000) // 400  # so that nine partners in ten are of another class
    _, weights = apply_mix(make_mixup, alpha, 1.0, jax.random.key(1), index_images(4000, 4), labels)
    own_weights = np.asarray(weights)[np.arange(4000), np.asarray(labels)]
    mixed = np.asarray(weights).max(-1) < 1 - 1e-6
    expected = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = expected[expected < 1 - 1e-6]
    assert own_weights[mixed].mean() == pytest.approx(expected.mean(), abs=0.03)
    assert own_weights[mixed].std() == pytest.approx(expected.std(), abs=0.03)


@pytest.mark.parametrize("make", [make_mixup, make_cutmix])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probability_is_the_fraction_of_mixed_images(make: Any, probability: float, key: Array) -> None:
    images = index_images(4000, 4)
    mixed, _ = apply_mix(make, 1.0, probability, key, images, labels_by_index(4000))
    changed = np.asarray((mixed != images).any((1, 2, 3))).mean()
    # At 4 x 4 pixels a box smaller than a sixteenth of the image is empty.
    share = 1 - 1 / 16 if make is make_cutmix else 1.0
    assert changed == pytest.approx(probability * share, abs=0.05)


@pytest.mark.parametrize("mix", MIXTURES)
def test_label_weights_sum_to_one_and_soft_labels_can_be_mixed_again(mix: Mix, key: Array) -> None:
    hard = mix(key, index_images(), labels_by_index())
    soft = mix(key, index_images(), one_hot(labels_by_index()))
    jax.tree.map(np.testing.assert_array_equal, hard, soft)
    again = mix(jax.random.key(5), *hard)[1]
    for weights in (hard[1], again):
        np.testing.assert_allclose(np.asarray(weights).sum(-1), 1, rtol=1e-5)
        assert np.asarray(weights).min() >= 0


@pytest.mark.parametrize("mix", MIXTURES)
def test_mixing_on_explicit_axes_equals_that_on_one_device(mix: Mix, key: Array) -> None:
    images, labels = index_images(16), labels_by_index(16)
    expected = jax.jit(mix)(key, images, labels)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        mixed = jax.jit(mix)(key, *jax.device_put((images, labels), NamedSharding(mesh, P("data"))))
    for ours, plain in zip(mixed, expected, strict=True):
        assert not ours.sharding.is_fully_replicated
        np.testing.assert_allclose(ours, plain, rtol=1e-6)


@pytest.mark.parametrize("mix", MIXTURES[2:])
def test_vmapped_mixing_under_strict_promotion_equals_one_call_per_key(mix: Mix, key: Array) -> None:
    images, labels, keys = index_images(16), labels_by_index(16), jax.random.split(key, 2)
    with jax.numpy_dtype_promotion("strict"):
        mapped = jax.jit(jax.vmap(mix, in_axes=(0, None, None)))(keys, images, labels)
    for i in range(2):
        single = jax.jit(mix)(keys[i], images, labels)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), mapped, single)
    assert np.any(mapped[0][0] != mapped[0][1])


def test_make_mix_returns_the_configured_mixture_or_none(key: Array) -> None:
    images, labels = index_images(), labels_by_index()
    assert make_mix(AugmentConfig()) is unmixed
    assert unmixed(key, images, labels)[1] is labels
    for config, expected in (
        (AugmentConfig(mixup_alpha=0.3, mix_probability=0.7), make_mixup(0.3, 0.7)),
        (AugmentConfig(cutmix_alpha=0.6), make_cutmix(0.6, 0.5)),
    ):
        actual = make_mix(config)(key, images, labels)
        jax.tree.map(np.testing.assert_array_equal, actual, expected(key, images, labels))


@pytest.mark.parametrize("mixup", [0.3, jnp.float32(0.0)], ids=["positive", "array zero"])
def test_make_mix_rejects_mixup_together_with_cutmix(mixup: Any) -> None:
    with pytest.raises(ConfigError, match="leave one of them at a plain 0"):
        make_mix(AugmentConfig(mixup_alpha=mixup, cutmix_alpha=1.0))


@pytest.mark.parametrize("mix", MIXTURES[:2], ids=["mixup", "cutmix"])
def test_mixing_rejects_uint8_images_and_invalid_labels(mix: Mix, key: Array) -> None:
    images = jnp.zeros((4, 6, 6, 1))
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]"):
        jax.eval_shape(mix, key, images.astype(jnp.uint8), labels_by_index(4))
    for labels in (jnp.eye(10, dtype=jnp.int32)[:4], jnp.zeros((4, 1), jnp.int32), jnp.zeros(3, jnp.int32)):
        with pytest.raises(ValueError, match=r"expected integers \[4\] or floating weights \[4, 10\]"):
            jax.eval_shape(mix, key, images, labels)


@pytest.mark.parametrize("mix", MIXTURES[:2], ids=["mixup", "cutmix"])
def test_mixed_images_keep_their_dtype(mix: Mix, key: Array) -> None:
    mixed, weights = jax.eval_shape(mix, key, jnp.zeros((4, 6, 6, 1), jnp.bfloat16), labels_by_index(4))
    assert mixed.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32


@pytest.mark.parametrize("make", [make_mixup, make_cutmix])
def test_zero_alpha_mixes_nothing_static_or_traced(make: Any, key: Array) -> None:
    images, labels = index_images(16) / 16, labels_by_index(16)
    for mix in (make(0.0), lambda *batch: jax.jit(lambda alpha: make(alpha)(*batch))(0.0)):
        mixed, weights = mix(key, images, labels)
        np.testing.assert_array_equal(mixed, images)
        np.testing.assert_array_equal(weights, one_hot(labels, 10))


@pytest.mark.parametrize("mix", [make_mixup(1.0), make_cutmix(1.0)])
def test_weights_of_any_width_are_mixed_as_they_are(mix: Mix, key: Array) -> None:
    images, weights = jnp.ones((4, 6, 6, 1)), jnp.arange(20.0).reshape(4, 5)
    _, mixed = mix(key, images, weights)
    assert mixed.shape == (4, 5)
    np.testing.assert_allclose(mixed[:, 1] - mixed[:, 0], 1, rtol=1e-5)  # as in every row of the weights
