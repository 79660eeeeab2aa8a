"""Random variations of training images: pure functions `(key, images) -> images`, run on the device.

Images are [B, H, W, C], bytes u8 in [0, 255] or floats in [0, 1], and keep their dtype. Random draws state theirs
explicitly, so that they are the same under `jax_enable_x64`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from fmnist_jax.config.schema import AugmentConfig
from fmnist_jax.config.validation import check_choices
from fmnist_jax.config.values import is_static_zero
from fmnist_jax.functional.keys import stream_key
from fmnist_jax.functional.photo_like import make_photo_like
from fmnist_jax.functional.pixels import is_uint8
from fmnist_jax.functional.precision import at_least_float32
from fmnist_jax.functional.sharding import for_rows
from fmnist_jax.functional.warping import centred_grid, sample_image

Augment = Callable[[Array, Array], Array]
"""`(key, images [B, H, W, C]) -> images` of the same shape and dtype: u8 in [0, 255], or floats in [0, 1]."""

# Folded into the root key of a run, so that the coin tosses for mirroring share no random stream with the order of the
# images (2**32 - 1) or with the steps, which fold in their number.
_MIRROR_STREAM = 2**32 - 2


def identity(key: Array, images: Array) -> Array:
    """Returns the images [B, H, W, C] unchanged."""
    del key
    return images


def random_flip(key: Array, images: Array) -> Array:
    """Mirrors each image [B, H, W, ...] left to right with probability one half (Krizhevsky et al. 2012)."""
    mirrored = for_rows(lambda key, rows: jax.random.bernoulli(key, jnp.float32(0.5), (rows,)), key, images)
    return jnp.where(_per_image(mirrored, images), images[:, :, ::-1], images)


def _per_image(values: Array, images: Array) -> Array:
    """The values [B] with as many axes as the images."""
    return jnp.expand_dims(values, tuple(range(1, images.ndim)))


def mirror_alternately(key: Array, images: Array, indices: Array, epochs: Array) -> Array:
    """Mirrors each image in every other epoch: one coin toss per image chooses the even or the odd ones.

    Random mirroring shows an image the same way round twice in a row half of the time; this never does (Jordan 2024,
    arXiv:2404.00498). It needs no memory: the toss is a hash of the index.

    Args:
      key: for the coin tosses; the same one in every epoch of a run.
      images: [B, H, W, ...], of any dtype.
      indices: i32[B], the index of each image in the data set.
      epochs: i32[B], the epoch of each image, counted from 0.

    Returns:
      [B, H, W, ...].
    """
    toss_key = stream_key(key, _MIRROR_STREAM)
    toss = jax.vmap(lambda index: jax.random.bernoulli(jax.random.fold_in(toss_key, index), jnp.float32(0.5)))(indices)
    mirrored = toss ^ (epochs % 2 == 1)
    return jnp.where(_per_image(mirrored, images), images[:, :, ::-1], images)


def make_random_crop(padding: int | Array) -> Augment:
    """Shifts each image along each axis by a uniformly random whole number of pixels in [-padding, padding].

    A crop of the padded image, as in He et al. 2015 (arXiv:1512.03385), section 4.2. Pixels moved in from outside
    are 0, the background of Fashion-MNIST.

    Args:
      padding: in pixels; i32[] if traced.
    """

    def random_crop(key: Array, images: Array) -> Array:
        shape = images.shape[1:]

        def draw(key: Array, rows: int) -> Array:
            return jax.random.randint(key, (rows, 2), 0, 2 * padding + 1, jnp.int32)

        corners = for_rows(draw, key, images)
        if not isinstance(padding, int):
            return jax.vmap(_shift)(images, corners - padding)
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        first = jnp.int32(0)
        return jax.vmap(lambda image, corner: lax.dynamic_slice(image, (*corner, first), shape))(padded, corners)

    return random_crop


def _shift(image: Array, offset: Array) -> Array:
    """The pixels [H, W, C] that lie `offset` i32[2] further down and to the right, 0 outside the image."""
    rows, columns = (offset[axis] + jnp.arange(image.shape[axis], dtype=jnp.int32) for axis in (0, 1))
    return image.at[rows[:, None], columns[None]].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def rotate(images: Array, degrees: Array) -> Array:
    """Rotates each image anticlockwise about its centre by bilinear interpolation; pixels from outside are 0.

    Args:
      images: [B, H, W, C], u8 in [0, 255] or floats in [0, 1].
      degrees: f32[B].

    Returns:
      [B, H, W, C] in the dtype of `images`; bytes are rounded to whole numbers.

    Raises:
      ValueError: the images are neither bytes nor floats.
    """
    from_bytes = is_uint8(images)
    y, x = centred_grid(*images.shape[1:3])

    def rotate_one(image: Array, angle: Array) -> Array:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return sample_image(image, cos * y + sin * x, cos * x - sin * y)

    rotated = jax.vmap(rotate_one)(images.astype(at_least_float32(images.dtype)), jnp.deg2rad(degrees))
    return (jnp.round(rotated) if from_bytes else rotated).astype(images.dtype)


def make_random_rotation(degrees: float) -> Augment:
    """Rotates each image by a uniform angle in [-degrees, degrees], one of the distortions of Simard et al. 2003.

    Raises (the augmentation, while it is traced):
      ValueError: the images are neither bytes nor floats.
    """

    def random_rotation(key: Array, images: Array) -> Array:
        def draw(key: Array, rows: int) -> Array:
            return jax.random.uniform(key, (rows,), jnp.float32, minval=-degrees, maxval=degrees)

        return rotate(images, for_rows(draw, key, images))

    return random_rotation


def box_masks(corners: Array, sizes: Array, height: int, width: int) -> Array:
    """Marks the pixels of one box per image, clipped to the image.

    Args:
      corners: i32[B, 2], row and column of the first pixel, which may be negative.
      sizes: i32[B, 2], rows and columns.
      height: H.
      width: W.

    Returns:
      bool[B, H, W, 1].
    """
    ends = corners + sizes
    rows, columns = (jnp.arange(size, dtype=jnp.int32)[None] for size in (height, width))
    down = (rows >= corners[:, :1]) & (rows < ends[:, :1])
    across = (columns >= corners[:, 1:]) & (columns < ends[:, 1:])
    return down[:, :, None, None] & across[:, None, :, None]


def make_random_erasing(probability: float, *, area: tuple[float, float] = (0.02, 0.4), aspect: float = 0.3) -> Augment:
    """Overwrites a random rectangle of some images with random pixels (Zhong et al. 2017, arXiv:1708.04896).

    The paper redraws rectangles until one fits; this draws the aspect ratio from those at which the area fits. Noise is
    uniform over the 256 byte values, or over those divided by 255 for floating images.

    Args:
      probability: that an image is chosen.
      area: bounds of the rectangle's share of the image, uniform between them.
      aspect: the smallest ratio of a rectangle's height to its width, and of width to height, each side measured as a
        share of the image's; log-uniform.

    Raises (the augmentation):
      ValueError: the images are neither bytes nor floats.
    """

    def random_erasing(key: Array, images: Array) -> Array:
        _, height, width, channels = images.shape

        def draw(key: Array, rows: int) -> tuple[Array, Array, Array, Array]:
            chosen_key, share_key, aspect_key, corner_key, pixel_key = jax.random.split(key, 5)
            chosen = jax.random.bernoulli(chosen_key, jnp.asarray(probability, jnp.float32), (rows, 1, 1, 1))
            share = jax.random.uniform(share_key, (rows,), jnp.float32, minval=area[0], maxval=area[1])
            max_log_ratio = -jnp.log(jnp.maximum(share, aspect))
            ratio = jnp.exp(max_log_ratio * jax.random.uniform(aspect_key, (rows,), jnp.float32, minval=-1.0))
            sides = [height * jnp.sqrt(share * ratio), width * jnp.sqrt(share / ratio)]
            sizes = jnp.round(jnp.stack(sides, -1)).astype(jnp.int32)
            room = jnp.array([[height, width]], jnp.int32) - sizes
            corners = jax.random.randint(corner_key, (rows, 2), 0, room + 1, jnp.int32)
            return chosen, corners, sizes, jax.random.bits(pixel_key, (rows, height, width, channels), jnp.uint8)

        chosen, corners, sizes, noise = for_rows(draw, key, images)
        noise = noise if is_uint8(images) else noise.astype(images.dtype) / 255
        return jnp.where(chosen & box_masks(corners, sizes, height, width), noise, images)

    return random_erasing


def make_cutout(size: int) -> Augment:
    """Blacks out a square around a random pixel of each image (DeVries & Taylor 2017, arXiv:1708.04552).

    The square is clipped to the image, as in the paper, so that many images lose less than a full square.

    Args:
      size: side of the square, in pixels.
    """

    def cutout(key: Array, images: Array) -> Array:
        batch, height, width, _ = images.shape
        shape = jnp.array([[height, width]], jnp.int32)
        centres = for_rows(lambda key, rows: jax.random.randint(key, (rows, 2), 0, shape, jnp.int32), key, images)
        erased = box_masks(centres - size // 2, jnp.full((batch, 2), size, jnp.int32), height, width)
        return jnp.where(erased, jnp.zeros_like(images), images)

    return cutout


def chain(*augments: Augment) -> Augment:
    """Applies augmentations one after another, each with its own key."""

    def chained(key: Array, images: Array) -> Array:
        for index, augment in enumerate(augments):
            images = augment(jax.random.fold_in(key, index), images)
        return images

    return chained


def make_augment(config: AugmentConfig) -> Augment:
    """Composes those augmentations of a configuration that need only the images.

    Each has a fixed place in the chain, and so a fixed key, whichever others are on: a member of a population for which
    one of them is a traced 0 draws the same as a run without it. Alternating mirroring is left to `make_sample`.

    Raises:
      ConfigError: `flip` is not one of its choices.
    """
    check_choices("augment", config, "flip")

    def unless_off(value: Any, make: Callable[[Any], Augment]) -> Augment:
        return identity if is_static_zero(value) else make(value)

    return chain(
        random_flip if config.flip == "random" else identity,
        unless_off(config.crop_padding, make_random_crop),
        unless_off(config.rotation, make_random_rotation),
        unless_off(config.erase_probability, make_random_erasing),
        unless_off(config.cutout, make_cutout),
        unless_off(config.photo_probability, make_photo_like),
    )
