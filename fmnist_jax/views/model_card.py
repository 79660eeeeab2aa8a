"""The model card of an export: what the files are, where they come from, and how far to trust them, as Markdown.

After Mitchell et al. 2019 (arXiv:1810.03993).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fmnist_jax.analysis.assessment import Assessment
from fmnist_jax.config.record import to_shareable_dict
from fmnist_jax.config.schema import AugmentConfig, Config, ModelConfig
from fmnist_jax.views import pages

_MAX_CONFUSIONS = 5  # pairs of classes


class Card(NamedTuple):
    """The contents of a model card."""

    config: Config
    step: int
    """Step of the weights."""
    parameters: int
    """Number of parameters of one member."""
    mirrored: bool
    """Whether the exported model averages the logits of an image and its mirror image."""
    custom_recipe: str | None
    """The name of the function that composed the recipe in place of `make_recipe`, and may use none of its parts."""
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    assessment: Assessment
    """Of the exported model on the test images."""
    temperature: float
    """The temperature at which its loss on the test images would be lowest."""
    origin: str
    """Where these scores come from, in words."""
    summary: Mapping[str, Any]
    """As in `summary.json`; empty before the end of the run."""
    trained_with: Mapping[str, Any]
    """Versions of packages by name."""
    exported_with: Mapping[str, Any]
    files: Sequence[str]


def render(card: Card) -> str:
    """Renders the card as Markdown."""
    height, width, channels = card.image_shape
    names = card.class_names
    return pages.render(
        "model_card.md",
        card=card,
        config=card.config,
        scores=card.assessment,
        shape=f"{height}, {width}, {channels}",
        class_names=json.dumps(names, ensure_ascii=False),
        confusions=[
            f"{_code(names[pair.true])} taken for {_code(names[pair.predicted])}: {pair.examples:,} "
            f"({pair.share:.1%} of the class)"
            for pair in card.assessment.most_confused[:_MAX_CONFUSIONS]
        ],
        network=_network(card.config.model),
        recipe=list(_recipe(card)),
        settings=json.dumps(to_shareable_dict(card.config), indent=2),
        versions=[
            f"{what} with {', '.join(f'{name} {version}' for name, version in versions.items() if version)}"
            for what, versions in (("trained", card.trained_with), ("exported", card.exported_with))
            if versions
        ],
    )


def _network(model: ModelConfig) -> str:
    """The network in a sentence."""
    stages = ", ".join(f"{depth} of {width}" for width, depth in zip(model.widths, model.depths, strict=True))
    if model.family == "plain":
        pooled = "max pooling in the first, then average pooling" if model.pooling == "mean" else "max pooling"
        return (
            f"3x3 convolutions in sequence, each with batch normalisation and ReLU, in stages ({stages} channels) "
            f"that each halve the image by {pooled if len(model.widths) > 1 else 'max pooling'}, and a dense head"
        )
    stem = "max pooling after the first convolution, " if model.stem == "pooled" else ""
    return f"a pre-activation residual network: {stem}stages of blocks ({stages} channels), global average pooling"


def _code(text: str) -> str:
    """A user-supplied name as code, in which Markdown interprets nothing."""
    return "`" + text.replace("`", "'") + "`"


def _recipe(card: Card) -> Iterator[str]:
    """The training, one line for each part that is used."""
    config, train = card.config, card.config.train
    yield (
        f"epochs: {train.epochs} over {config.data.train_size:,} images, in batches of {train.batch_size}, "
        f"{config.total_steps:,} steps, seed {train.seed}"
    )
    if config.init.source is not None:
        yield "started from the weights of another run"
    if card.custom_recipe is None:
        yield from _configured_parts(config)
    else:
        yield (
            f"composed by {_code(card.custom_recipe)} in place of `fmnist_jax.make_recipe`, so loss, optimiser, "
            "augmentation and step may not be those of the configuration"
        )
    if config.population.seeds > 1:
        yield f"an ensemble of {config.population.seeds} members: the mean of their probabilities"
    if card.mirrored:
        yield "a prediction averages the logits of the image and its mirror image"


def _configured_parts(config: Config) -> Iterator[str]:
    """What `make_recipe` composes of a configuration: optimiser, loss, augmentation, and what a step does besides."""
    optim, train = config.optim, config.train
    yield (
        f"{optim.name}, learning rate up to {optim.peak_lr:g} ({optim.schedule} schedule), "
        f"momentum {optim.momentum:g}, weight decay {optim.weight_decay if optim.name != 'adam' else 0:g}"
    )
    if optim.clip_norm:
        yield f"gradients clipped to a norm of {optim.clip_norm:g}"
    if config.init.freeze is not None:
        yield f"parameters that match {_code(config.init.freeze)} frozen"
    yield f"cross-entropy{f', label smoothing {train.label_smoothing:g}' if train.label_smoothing else ''}"
    yield f"augmentation: {', '.join(_augmentations(config.augment)) or 'none'}"
    if config.model.dropout:
        yield f"dropout {config.model.dropout:g} before the head"
    if config.model.stochastic_depth:
        yield f"stochastic depth up to {config.model.stochastic_depth:g}"
    if train.average_decay:
        yield f"the weights are an exponential moving average over the steps, with decay {train.average_decay:g}"


def _augmentations(augment: AugmentConfig) -> Iterator[str]:
    if augment.flip != "none":
        yield f"mirroring ({augment.flip})"
    if augment.crop_padding:
        yield f"shifts by up to {augment.crop_padding} pixels"
    if augment.rotation:
        yield f"rotation by up to {augment.rotation:g} degrees"
    if augment.erase_probability:
        yield f"random erasing of {augment.erase_probability:.0%} of the images"
    if augment.cutout:
        yield f"cutout of {augment.cutout} pixels"
    if augment.photo_probability:
        yield f"photo-like variations of {augment.photo_probability:.0%} of the images"
    for name, alpha in (("mixup", augment.mixup_alpha), ("CutMix", augment.cutmix_alpha)):
        if alpha:
            yield f"{name} (alpha {alpha:g}) of {augment.mix_probability:.0%} of the images"
