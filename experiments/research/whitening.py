"""Do first kernels that whiten the pixels spare epochs? `python -m experiments.research.whitening`.

The CIFAR-10 speedruns put kernels before their networks that make the values of a patch uncorrelated and of one
variance, and keep them as they are (Jordan 2024, arXiv:2404.00498, section 3.2). Here they take the place of the first
kernels of `fast`, to be trained like these or kept, and each is set beside drawn ones, over the same seeds and images
and with all else that `fast` has. Scored on validation images, mirror images averaged in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from matplotlib.figure import Figure

from experiments import figures
from experiments.research import study
from experiments.script import start
from fmnist_jax import (
    PRESETS,
    Batch,
    BatchStats,
    Config,
    Model,
    Params,
    Weights,
    compiler_options,
    freeze,
    make_mirrored_predict,
    make_predict,
    make_recipe,
    make_train_chunk,
    normalize,
)

Start = Literal["drawn", "whitening", "whitening, kept", "cosines, kept"]
STARTS: tuple[Start, ...] = get_args(Start)


@dataclass(frozen=True)
class Arguments(study.Arguments):
    """Whether first kernels that whiten the pixels spare epochs."""

    widths: tuple[int, ...] = PRESETS["fast"].model.widths
    """Channels of each stage of the network, the last of which has two convolutions."""
    epochs: tuple[int, ...] = (1, 2)
    """Lengths of the trainings."""
    starts: tuple[Start, ...] = STARTS
    seeds: int = 8
    whitened_images: int = 5_000
    """Training images whose patches are whitened."""


_QUICK = {"epochs": (1,), "seeds": 2, "whitened_images": 100}


def whitening_kernels(images: Array, side: int = 3) -> Array:
    """Makes the kernels whose values over all patches are uncorrelated and have a variance of 1.

    They are the eigenvectors of the covariance of the patches' pixels, over the roots of their eigenvalues.

    Args:
      images: u8[N, H, W, C].
      side: of a patch, in pixels.

    Returns:
      f32[side, side, C, side * side * C], that of the largest eigenvalue first, for images as `normalize` makes them.
    """
    channels = images.shape[-1]
    patches = lax.conv_general_dilated_patches(
        normalize(images), (side, side), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    pixels = patches.reshape(-1, channels * side * side).T
    variances, vectors = jnp.linalg.eigh(jnp.cov(pixels))
    # Of a patch, the channel comes first; of a kernel, last but one. Nothing below a millionth of the largest variance
    # is more than rounding.
    sizes = jnp.sqrt(jnp.maximum(variances, 1e-6 * variances[-1]))
    kernels = (vectors.T / sizes[:, None])[::-1]
    return kernels.reshape(-1, channels, side, side).transpose(2, 3, 1, 0)


def cosine_kernels(side: int = 3) -> Array:
    """Makes the basis of the discrete cosine transform of patches, f32[side, side, 1, side * side], smoothest first.

    Its values are nearly uncorrelated where pixels are alike the more the nearer they lie (Ahmed, Natarajan & Rao
    1974), whatever the images.
    """
    basis = np.cos(np.pi / side * np.outer(np.arange(side) + 0.5, np.arange(side)))
    frequencies = sorted(np.ndindex(side, side), key=lambda pair: (sum(pair), pair))
    kernels = [np.outer(basis[:, down], basis[:, across]) for down, across in frequencies]
    return jnp.asarray(np.stack(kernels, -1)[:, :, None], jnp.float32)


def with_first_kernels(model: Model, kernels: Array) -> Model:
    """The same model, begun with kernels in place of the first convolution's drawn ones, and with their negatives.

    Behind a rectifier, a kernel and its negative keep what either loses. They are made as large as the drawn ones were,
    because the norm behind them takes their size away, but the optimiser's steps have one; if there are more drawn
    ones, the others stay.
    """

    def init(key: Array) -> tuple[Params, BatchStats]:
        params, batch_stats = model.init(key)
        drawn = params["Conv_0"]["kernel"]
        pairs = jnp.stack([kernels, -kernels], -1).reshape(*kernels.shape[:-1], -1)[..., : drawn.shape[-1]]
        sized = pairs * (jnp.std(drawn) / jnp.sqrt(jnp.mean(pairs**2, (0, 1, 2), keepdims=True)))
        first = {**params["Conv_0"], "kernel": drawn.at[..., : sized.shape[-1]].set(sized)}
        return {**params, "Conv_0": first}, batch_stats

    return Model(init, model.apply)


def make_training(config: Config, begin: Start, kernels: Array) -> Callable[[Array, Batch], Weights]:
    """Makes `train(key, data) -> weights`, by the recipe of the configuration from one of `STARTS`."""
    recipe, steps = make_recipe(config), config.total_steps
    if begin != "drawn":
        recipe = make_recipe(config, model=with_first_kernels(recipe.model, kernels))
    if begin.endswith("kept"):
        recipe = make_recipe(config, model=recipe.model, optimizer=freeze(recipe.optimizer, "Conv_0/kernel"))
    chunk = make_train_chunk(recipe.step, config.train.batch_size, steps, sample=recipe.sample)

    def train(key: Array, data: Batch) -> Weights:
        state, _ = chunk(recipe.init(key), data, jnp.int32(steps))
        return Weights(state.params, state.batch_stats)

    return train


def measure(arguments: Arguments) -> dict[str, Any]:
    """Trains from every start for every length with every seed."""
    train, validation, _ = study.images(arguments)
    kernels = whitening_kernels(jnp.asarray(train.images[: arguments.whitened_images]))
    data, rows = study.on_device(train), []
    for epochs in arguments.epochs:
        config = study.recipe_config(arguments, len(train), epochs)
        depths = (1,) * (len(arguments.widths) - 1) + (2,)
        model = replace(PRESETS["fast"].model, widths=arguments.widths, depths=depths)
        config = replace(config, model=model, optim=PRESETS["fast"].optim)
        predict = study.jitted(make_mirrored_predict(make_predict(make_recipe(config).model)))
        for begin in arguments.starts:
            first = cosine_kernels() if begin.startswith("cosines") else kernels
            fit = jax.jit(make_training(config, begin, first), compiler_options=compiler_options())
            found = [fit(jax.random.key(seed), data) for seed in range(arguments.seeds)]
            scores = [study.logits(predict, weights, validation.images) for weights in found]
            reached = study.accuracies(np.stack(scores), validation.labels)
            rows.append({"epochs": epochs, "start": begin, "validation": reached.tolist()})
            print(f"{epochs} epochs, {begin}: {reached.mean():.2%} ± {reached.std(ddof=1):.2%}", flush=True)
    return {"rows": rows}


def figure(found: Mapping[str, Any]) -> Figure:
    """Draws validation accuracy against the length of training, a point for each seed."""
    drawn, (axes,) = figures.panels(1, 6.0, 4.0)
    begun = [start for start in STARTS if any(row["start"] == start for row in found["rows"])]
    for place, (begin, colour, marker) in enumerate(zip(begun, figures.COLOURS, figures.MARKERS, strict=False)):
        rows = [row for row in found["rows"] if row["start"] == begin]
        epochs = np.array([row["epochs"] for row in rows]) + 0.04 * (place - 1)  # beside one another
        values = 100 * np.array([row["validation"] for row in rows])
        axes.plot(epochs, values, color=colour, marker=".", linestyle="none", alpha=0.5)
        axes.plot(epochs, values.mean(1), color=colour, marker=marker, label=f"{begin} kernels")
    axes.set_xticks(sorted({row["epochs"] for row in found["rows"]}))
    figures.describe(axes, "First kernels", "epochs", "validation accuracy (%)")
    return drawn


def main(arguments: Arguments) -> dict[str, Any]:
    return study.answer("whitening", arguments, _QUICK, measure, figure)


if __name__ == "__main__":
    start(main, Arguments)
