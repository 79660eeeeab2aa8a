"""Random variations of training images: pure functions `(key, images) -> images`, run on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

Augment = Callable[[Array, Array], Array]
"""`(key, images [B, H, W, C]) -> images` of the same shape and dtype."""


def identity(key: Array, images: Array) -> Array:
    """Returns the images as they are."""
    del key
    return images


def random_flip(key: Array, images: Array) -> Array:
    """Mirrors each image left to right with probability one half."""
    mirrored = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def make_random_crop(padding: int) -> Augment:
    """Shifts each image by a uniform whole number of pixels in [-padding, padding], both ways.

    What moves in from outside is 0, which in Fashion-MNIST is the background.
    """

    def random_crop(key: Array, images: Array) -> Array:
        batch, *shape = images.shape
        corners = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return jax.vmap(lambda image, corner: lax.dynamic_slice(image, (*corner, 0), shape))(padded, corners)

    return random_crop


def chain(*augments: Augment) -> Augment:
    """Applies augmentations in turn, each with a key of its own."""

    def chained(key: Array, images: Array) -> Array:
        for index, augment in enumerate(augments):
            images = augment(jax.random.fold_in(key, index), images)
        return images

    return chained


def make_augment(*, flip: bool, crop_padding: int) -> Augment:
    """Composes the augmentations that `TrainConfig` names."""
    chosen: list[Augment] = []
    if flip:
        chosen.append(random_flip)
    if crop_padding:
        chosen.append(make_random_crop(crop_padding))
    return chain(*chosen)


def normalize(images: Array) -> Array:
    """Scales uint8 images to float32 in [0, 1].

    The background stays exactly 0, which is what the convolutions pad with; centring is left to the
    first batch normalisation, which makes the data set's mean and deviation immaterial.
    """
    return images.astype(jnp.float32) / 255.0
