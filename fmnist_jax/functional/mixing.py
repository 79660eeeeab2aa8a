"""Training images mixed in pairs, with their labels: pure functions `(key, images, labels) -> (images, labels)`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from fmnist_jax.config.schema import AugmentConfig
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.errors import ConfigError
from fmnist_jax.functional.augment import box_masks
from fmnist_jax.functional.labels import CLASS_NAMES, soft_labels
from fmnist_jax.functional.metrics import check_labels
from fmnist_jax.functional.pixels import check_floats
from fmnist_jax.functional.sharding import for_rows, gathered, with_auto_axes

Mix = Callable[[Array, Array, Array], tuple[Array, Array]]
"""`(key, images f32[B, H, W, C] in [0, 1], labels i32[B] or f32[B, K]) -> (images f32[B, H, W, C], labels)`.

The returned labels are those given, i32[B], or the weights f32[B, K] of the classes in each image. A mix of your own
may take and return any labels that the loss understands. Those that mix here refuse images that are not floats and
labels of other shapes with a ValueError.
"""


def unmixed(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
    """Returns the images f32[B, H, W, C] and their labels unchanged."""
    del key
    return images, labels


def make_mixup(alpha: float, probability: float = 1.0, *, num_classes: int = len(CLASS_NAMES)) -> Mix:
    """Averages each image with a random one of the batch, and their labels (Zhang et al. 2017, arXiv:1710.09412).

    The partners are a permutation of the batch, in which on average one image is its own.

    Args:
      alpha: an image's share in the average is drawn from Beta(alpha, alpha), separately per image; 0 averages none.
      probability: that an image is mixed at all.
      num_classes: K, for turning labels i32[B] into weights f32[B, K].
    """

    def mixup(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        weights = _check_inputs(images, labels, num_classes)
        shares, partners = for_rows(lambda key, rows: _draw_pairs(key, rows, alpha, probability), key, images)
        own = shares.reshape(-1, 1, 1, 1).astype(images.dtype)
        partner, partner_weights = (gathered(rows, key)[partners] for rows in (images, weights))
        return own * images + (1 - own) * partner, _mix_weights(weights, partner_weights, shares)

    return with_auto_axes(mixup, rows=True, like=1)


def make_cutmix(alpha: float, probability: float = 1.0, *, num_classes: int = len(CLASS_NAMES)) -> Mix:
    """Pastes a box of another image, chosen as by mixup, into each image (Yun et al. 2019, arXiv:1905.04899).

    The box has the image's aspect ratio and a random pixel as its centre. The labels' weights are the shares of the
    pixels, counted after the box is clipped to the image.

    Args:
      alpha: the share that an image is to keep is drawn from Beta(alpha, alpha), separately per image; 0 pastes none.
      probability: that an image is mixed at all.
      num_classes: K, for turning labels i32[B] into weights f32[B, K].
    """

    def cutmix(key: Array, images: Array, labels: Array) -> tuple[Array, Array]:
        weights = _check_inputs(images, labels, num_classes)
        _, height, width, _ = images.shape
        shape = jnp.array([[height, width]], jnp.int32)

        def draw(key: Array, rows: int) -> tuple[Array, Array, Array]:
            pair_key, centre_key = jax.random.split(key)
            centres = jax.random.randint(centre_key, (rows, 2), 0, shape, jnp.int32)
            return *_draw_pairs(pair_key, rows, alpha, probability), centres

        shares, partners, centres = for_rows(draw, key, images)
        sizes = (shape.astype(jnp.float32) * jnp.sqrt(1 - shares)[:, None]).astype(jnp.int32)
        pasted = box_masks(centres - sizes // 2, sizes, height, width)
        own_share = 1 - pasted.mean((1, 2, 3), dtype=jnp.float32)
        partner, partner_weights = (gathered(rows, key)[partners] for rows in (images, weights))
        return jnp.where(pasted, partner, images), _mix_weights(weights, partner_weights, own_share)

    return with_auto_axes(cutmix, rows=True, like=1)


def _draw_pairs(key: Array, batch: int, alpha: float, probability: float) -> tuple[Array, Array]:
    """Draws the share f32[B] of each image in its mixture, and the index i32[B] of its partner in the batch."""
    share_key, chosen_key, partner_key = jax.random.split(key, 3)
    enabled, chance = jnp.asarray(alpha) > 0, jnp.asarray(probability, jnp.float32)
    concentration = jnp.where(enabled, jnp.asarray(alpha, jnp.float32), 1.0)  # Beta(0, 0) is NaN
    shares = jax.random.beta(share_key, concentration, concentration, (batch,), jnp.float32)
    chosen = enabled & jax.random.bernoulli(chosen_key, chance, (batch,))
    return jnp.where(chosen, shares, 1.0), jax.random.permutation(partner_key, jnp.arange(batch, dtype=jnp.int32))


def _check_inputs(images: Array, labels: Array, num_classes: int) -> Array:
    """Checks images and labels, and turns these into weights f32[B, K]; weights of any K stay as they are."""
    check_floats(images)
    is_weights = hasattr(labels, "dtype") and jnp.issubdtype(labels.dtype, jnp.floating)
    check_labels(labels, images.shape[:1], None if is_weights else num_classes)
    return soft_labels(labels, num_classes)


def _mix_weights(own: Array, partner: Array, shares: Array) -> Array:
    return shares[:, None] * own + (1 - shares[:, None]) * partner


def make_mix(config: AugmentConfig, num_classes: int = len(CLASS_NAMES)) -> Mix:
    """Makes the mix that a configuration selects, if any, for labels of `num_classes` classes.

    Raises:
      ConfigError: it selects two; a 0 that is traced or varied over members counts as a selection.
    """
    if not is_static_zero(config.mixup_alpha) and not is_static_zero(config.cutmix_alpha):
        raise ConfigError(
            "augment.mixup_alpha and augment.cutmix_alpha are both set or varied: leave one of them at a plain 0"
        )
    if not is_static_zero(config.mixup_alpha):
        return make_mixup(config.mixup_alpha, config.mix_probability, num_classes=num_classes)
    if not is_static_zero(config.cutmix_alpha):
        return make_cutmix(config.cutmix_alpha, config.mix_probability, num_classes=num_classes)
    return unmixed
