"""Mixtures and their labels: each label's weights are read off the pixels that came of each image."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import AugmentConfig, ConfigError, Mix, make_cutmix, make_mix, make_mixup, one_hot, unmixed

COUNT = 400
MIXTURES: list[Mix] = [make_mixup(0.4), make_cutmix(1.0), make_mixup(1.0, 0.5), make_cutmix(1.0, 0.5)]


def numbered(count: int = COUNT, size: int = 28) -> Array:
    """Images that are everywhere the number of their place in the batch."""
    return jnp.broadcast_to(jnp.arange(count, dtype=jnp.float32).reshape(-1, 1, 1, 1), (count, size, size, 1))


def labels_of_places(count: int = COUNT) -> Array:
    return jnp.arange(count) % 10


@partial(jax.jit, static_argnums=0)
def mixed_by(make: Any, alpha: float, probability: float, *batch: Array) -> tuple[Array, Array]:
    return make(alpha, probability)(*batch)


def pairs_of(mixed: np.ndarray) -> list[tuple[int, float, int]]:
    """Place, share of the own pixels, and place of the other image, of each image that CutMix changed."""
    found = []
    for place, image in enumerate(mixed[..., 0]):
        others = np.unique(image[image != place])
        assert len(others) <= 1
        if len(others):
            found.append((place, float((image == place).mean()), int(others[0])))
    return found


def test_cutmix_weighs_the_labels_by_the_pixels_of_each_image(key: Array) -> None:
    images, weights = mixed_by(make_cutmix, 1.0, 1.0, key, numbered(), labels_of_places())
    pairs = pairs_of(np.asarray(images))
    assert len(pairs) > 0.9 * COUNT
    for place, share, other in pairs:
        expected = share * np.eye(10)[place % 10] + (1 - share) * np.eye(10)[other % 10]
        np.testing.assert_allclose(weights[place], expected, atol=1e-5)


def test_cutmix_pastes_boxes_of_the_image_s_aspect_at_the_same_place(key: Array) -> None:
    images = np.random.default_rng(0).uniform(size=(COUNT, 28, 28, 1)).astype(np.float32)
    mixed = np.asarray(mixed_by(make_cutmix, 1.0, 1.0, key, jnp.asarray(images), labels_of_places())[0])
    whole = 0
    for place, image in enumerate(mixed):
        foreign = (image != images[place])[..., 0]
        rows, columns = np.flatnonzero(foreign.any(1)), np.flatnonzero(foreign.any(0))
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert foreign[box].all()
            assert any(np.array_equal(image[box], other[box]) for other in images)
            inside = {rows[0], columns[0]}.isdisjoint({0}) and {rows[-1], columns[-1]}.isdisjoint({27})
            whole += inside
            assert not inside or len(rows) == len(columns)
    assert whole > 10


def test_cutmix_draws_the_shares_of_its_paper() -> None:
    """Side sqrt(1 - Beta(1, 1)) of the image's, around a uniform pixel, cut off at the border."""
    labels = jnp.arange(COUNT) % 2
    _, weights = mixed_by(make_cutmix, 1.0, 1.0, jax.random.key(3), numbered(), labels)
    rng = np.random.default_rng(0)
    sides = (28 * np.sqrt(1 - rng.uniform(size=20_000))).astype(int)
    starts = rng.integers(0, 28, (2, 20_000)) - sides // 2
    height, width = np.minimum(starts + sides, 28) - np.maximum(starts, 0)
    kept = 1 - height * width / 784
    own = np.asarray(weights)[np.arange(COUNT), labels]
    different = own < 1
    assert own[different].mean() == pytest.approx(kept[kept < 1].mean(), abs=0.05)


def test_mixup_averages_pixels_and_labels_in_the_same_share(key: Array) -> None:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(64, 4, 4, 1)).astype(np.float32))
    mixed, weights = jax.jit(make_mixup(1.0))(key, images, jnp.arange(64) % 10)
    flat, shares = np.asarray(images).reshape(64, -1), []
    for place in range(64):
        # The partner is the one image with which the mixture lies on a straight line.
        target, own = np.asarray(mixed[place]).ravel(), flat[place]
        best = (np.inf, 0, 1.0)
        for other in range(64):
            step = flat[other] - own
            share = 1 - (target - own) @ step / max(step @ step, 1e-9)
            error = np.abs(own + (1 - share) * step - target).max()
            best = min(best, (error, other, share))
        error, other, share = best
        assert error < 1e-5
        shares.append(share)
        expected = share * np.eye(10)[place % 10] + (1 - share) * np.eye(10)[other % 10]
        np.testing.assert_allclose(weights[place], expected, atol=1e-3)
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.2)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_shares_of_the_beta_distribution(alpha: float) -> None:
    labels = jnp.arange(4000) // 400  # so that nine partners in ten are of another class
    _, weights = mixed_by(make_mixup, alpha, 1.0, jax.random.key(1), numbered(4000, 4), labels)
    own = np.asarray(weights)[np.arange(4000), np.asarray(labels)]
    different = np.asarray(weights).max(-1) < 1 - 1e-6
    expected = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = expected[expected < 1 - 1e-6]
    assert own[different].mean() == pytest.approx(expected.mean(), abs=0.03)
    assert own[different].std() == pytest.approx(expected.std(), abs=0.03)


@pytest.mark.parametrize("make", [make_mixup, make_cutmix])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_the_stated_share_of_the_images_is_mixed(make: Any, probability: float, key: Array) -> None:
    images = numbered(4000, 4)
    mixed, _ = mixed_by(make, 1.0, probability, key, images, labels_of_places(4000))
    changed = np.asarray((mixed != images).any((1, 2, 3))).mean()
    # At 4 x 4 pixels a box of less than a sixteenth is none.
    share = 1 - 1 / 16 if make is make_cutmix else 1.0
    assert changed == pytest.approx(probability * share, abs=0.05)


@pytest.mark.parametrize("mix", MIXTURES)
def test_weights_sum_to_one_and_soft_labels_may_be_mixed_again(mix: Mix, key: Array) -> None:
    hard = mix(key, numbered(), labels_of_places())
    soft = mix(key, numbered(), one_hot(labels_of_places()))
    jax.tree.map(np.testing.assert_array_equal, hard, soft)
    again = mix(jax.random.key(5), *hard)[1]
    for weights in (hard[1], again):
        np.testing.assert_allclose(np.asarray(weights).sum(-1), 1, rtol=1e-5)
        assert np.asarray(weights).min() >= 0


@pytest.mark.parametrize("mix", MIXTURES[2:])
def test_mixtures_are_functions_of_their_key_under_strict_promotion_and_vmap(mix: Mix, key: Array) -> None:
    images, labels, keys = numbered(16), labels_of_places(16), jax.random.split(key, 2)
    with jax.numpy_dtype_promotion("strict"):
        many = jax.jit(jax.vmap(mix, in_axes=(0, None, None)))(keys, images, labels)
    for i in range(2):
        one = jax.jit(mix)(keys[i], images, labels)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5), many, one)
    assert np.any(many[0][0] != many[0][1])


def test_the_configuration_names_one_mixture_or_none(key: Array) -> None:
    images, labels = numbered(), labels_of_places()
    assert make_mix(AugmentConfig()) is unmixed
    assert unmixed(key, images, labels)[1] is labels
    for config, expected in (
        (AugmentConfig(mixup_alpha=0.3, mix_probability=0.7), make_mixup(0.3, 0.7)),
        (AugmentConfig(cutmix_alpha=0.6), make_cutmix(0.6, 0.5)),
    ):
        found = make_mix(config)(key, images, labels)
        jax.tree.map(np.testing.assert_array_equal, found, expected(key, images, labels))


@pytest.mark.parametrize("mixup", [0.3, jnp.float32(0.0)], ids=["given", "varied"])
def test_two_mixtures_are_refused(mixup: Any) -> None:
    with pytest.raises(ConfigError, match="leave one of them at a plain 0"):
        make_mix(AugmentConfig(mixup_alpha=mixup, cutmix_alpha=1.0))


@pytest.mark.parametrize("mix", MIXTURES[:2], ids=["mixup", "cutmix"])
def test_bytes_and_labels_of_other_shapes_are_refused(mix: Mix, key: Array) -> None:
    images = jnp.zeros((4, 6, 6, 1))
    with pytest.raises(ValueError, match=r"images are uint8: expected floats in \[0, 1\]"):
        jax.eval_shape(mix, key, images.astype(jnp.uint8), labels_of_places(4))
    for labels in (jnp.eye(10, dtype=jnp.int32)[:4], jnp.zeros((4, 1), jnp.int32), jnp.zeros(3, jnp.int32)):
        with pytest.raises(ValueError, match=r"expected integers \[4\] or floating weights \[4, 'C'\]"):
            jax.eval_shape(mix, key, images, labels)


@pytest.mark.parametrize("mix", MIXTURES[:2], ids=["mixup", "cutmix"])
def test_mixed_images_keep_their_dtype(mix: Mix, key: Array) -> None:
    mixed, weights = jax.eval_shape(mix, key, jnp.zeros((4, 6, 6, 1), jnp.bfloat16), labels_of_places(4))
    assert mixed.dtype == jnp.bfloat16
    assert weights.dtype == jnp.float32


@pytest.mark.parametrize("make", [make_mixup, make_cutmix])
def test_an_alpha_of_zero_mixes_nothing_traced_or_not(make: Any, key: Array) -> None:
    images, labels = numbered(16) / 16, labels_of_places(16)
    for mix in (make(0.0), lambda *batch: jax.jit(lambda alpha: make(alpha)(*batch))(0.0)):
        mixed, weights = mix(key, images, labels)
        np.testing.assert_array_equal(mixed, images)
        np.testing.assert_array_equal(weights, one_hot(labels, 10))
