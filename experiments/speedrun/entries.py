"""What each side trains for each target. Ours start from presets: who changes one of them enters another recipe.

To enter another recipe, change a value here, run it, and commit the file that it writes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from fmnist_jax import PRESETS, AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, TrainConfig

Device = Literal["cpu", "gpu"]
PLATFORMS: Mapping[Device, str] = {"cpu": "cpu", "gpu": "cuda"}
"""What JAX calls each of them in `JAX_PLATFORMS`."""
Side = Literal["fmnist_jax", "pytorch", "pytorch-ours"]
"""fmnist_jax: this project. pytorch: the baseline below in PyTorch. pytorch-ours: fmnist_jax's recipe in PyTorch."""
Target = Literal["92", "93", "94", "94.5", "95", "96"]
"""Test accuracy in per cent."""

_ALL_IMAGES = DataConfig(validation_size=0)

BASELINE = Config(
    preset="fast",
    data=_ALL_IMAGES,
    model=ModelConfig(family="plain", stem="pooled", widths=(32, 64, 192), depths=(1, 1, 2)),
    optim=OptimConfig(
        name="sgd", peak_lr=0.4, schedule="one_cycle", warmup=0.2, final_lr=0.0, momentum=0.9, weight_decay=5e-4
    ),
    augment=AugmentConfig(flip="none", erase_probability=0.0),
    train=TrainConfig(epochs=4, batch_size=128, label_smoothing=0.1, eval_mirror=False),
)
"""The network and recipe of the preset `fast` of version 0.1.0, which the first results and benchmarks are of."""


def with_mirroring(config: Config) -> Config:
    """The configuration with each image mirrored in every other epoch, without which it soon learns no more."""
    return replace(config, augment=replace(config.augment, flip="alternating"))


def with_epochs(config: Config, epochs: int) -> Config:
    """The configuration with another length."""
    return replace(config, train=replace(config.train, epochs=epochs))


def for_gpu(config: Config) -> Config:
    """The configuration with half precision and batches that fill a GPU.

    A step of Muon is as long whatever the batch; one of SGD is made longer, as its gradient has less noise.
    """
    peak_lr = 1.0 if config.optim.name == "sgd" else config.optim.peak_lr
    return replace(
        config,
        model=replace(config.model, dtype="bfloat16"),
        optim=replace(config.optim, peak_lr=peak_lr),
        train=replace(config.train, batch_size=1024, eval_batch_size=2000),
    )


def _from_preset(name: str) -> Config:
    return replace(PRESETS[name], data=_ALL_IMAGES)


_FAST, _STANDARD, _WIDE, _RECORD = map(_from_preset, ("fast", "standard", "wide", "record"))

# What `standard` was before it became wider: it reaches these targets in less time.
_SHORTER_STANDARD = replace(
    _STANDARD,
    model=replace(_STANDARD.model, widths=(16, 48, 96, 192)),
    augment=replace(_STANDARD.augment, erase_probability=0.25),
)


# `fast` as it was when its entry was recorded: wider, deeper, with dropout and weight decay.
_DEEPER_FAST = replace(
    _FAST,
    model=replace(_FAST.model, widths=(32, 64, 192), depths=(1, 1, 3), dropout=0.3),
    optim=replace(_FAST.optim, rest_lr=0.01, weight_decay=0.01),
)

_OURS: Mapping[Device, Mapping[Target, Config]] = {
    "cpu": {
        "92": with_epochs(_FAST, 2),
        "93": with_epochs(_FAST, 3),
        "94": with_epochs(_FAST, 8),
        # Of 10,000 validation images this network had 95.03 % right after five epochs and 95.20 % after ten, averaged
        # with their mirror images. Five epochs were entered first, and missed the target with 94.48 ± 0.10 % of the
        # test images; seven reached it with 94.69. As the preset `standard`, for twenty, it had 95.13 and 95.22 %.
        "94.5": with_epochs(_SHORTER_STANDARD, 7),
        "95": with_epochs(_SHORTER_STANDARD, 16),
    },
    "gpu": {
        "94": for_gpu(with_epochs(_DEEPER_FAST, 20)),
        "95": with_epochs(_WIDE, 20),
        # `wide` for 60 epochs, its images erased and mixed as those of `record`, was entered in between and missed the
        # target: 95.95 ± 0.06 % of nine seeds, 30 seconds each on an H200. Two seeds of `record` itself have 96.04 and
        # 96.09 %; it has not been timed.
        "96": _RECORD,
    },
}

_PYTORCH: Mapping[Device, Mapping[Target, Config]] = {
    "cpu": {
        "92": with_epochs(BASELINE, 2),
        "93": with_epochs(BASELINE, 4),
        "94": with_epochs(with_mirroring(BASELINE), 8),
        "94.5": with_epochs(with_mirroring(BASELINE), 16),
        "95": with_epochs(with_mirroring(BASELINE), 32),
    },
    "gpu": {
        "94": for_gpu(with_epochs(with_mirroring(BASELINE), 10)),
        "95": for_gpu(with_epochs(with_mirroring(BASELINE), 32)),
    },
}

ENTRIES: Mapping[Side, Mapping[Device, Mapping[Target, Config]]] = {
    "fmnist_jax": _OURS,
    "pytorch": _PYTORCH,
    "pytorch-ours": _OURS,
}
"""Configurations by side, device and target."""
