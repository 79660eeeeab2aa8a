"""The named configurations that a run starts from, as plain values that show up in a diff.

Sizes are counts of trainable parameters. Costs are estimates from the number of operations, until results have been
recorded; `experiments.results.tables` prints the measurements.
"""

from collections.abc import Mapping
from dataclasses import replace

from fmnist_jax.config.schema import Config

# Trained with SGD, the simplest optimiser. Its weight decay is decoupled from the momentum, so 5e-3 at momentum 0.9 has
# the effect of 5e-4 in PyTorch's SGD.
_BASE = Config()

# Orthogonalised updates of the convolutions; the peak learning rate was chosen with `fast` on validation images.
_MUON = replace(_BASE.optim, name="muon", peak_lr=0.2, rest_lr=0.01, weight_decay=0.01)

PRESETS: Mapping[str, Config] = {
    # 1.2M parameters, 30 epochs: 25 to 40 minutes on two CPU cores, two and a half on a shared H100. The first block
    # runs at full resolution with 16 channels, which costs little and gains much. docs/results.md has the trials.
    "standard": replace(
        _BASE,
        preset="standard",
        model=replace(_BASE.model, stem="full", widths=(16, 64, 128, 256), depths=(1, 1, 1, 1)),
        optim=replace(_MUON, rest_lr=0.02),
        augment=replace(_BASE.augment, erase_probability=0.5),
        train=replace(_BASE.train, epochs=30),
    ),
    # 0.47M parameters, 9 epochs: a minute or two on two CPU cores with AVX-512. Muon needs half as many epochs as SGD,
    # and average instead of max pooling saves three quarters of the multiplications of the convolution before it. The
    # first convolution runs at full resolution, where moving its outputs costs more than computing them: hence only 16
    # channels. docs/results.md has the trials behind this choice.
    "fast": replace(
        _BASE,
        preset="fast",
        model=replace(_BASE.model, family="plain", pooling="mean", widths=(16, 64, 192), depths=(1, 1, 2)),
        optim=replace(_MUON, rest_lr=0.02, weight_decay=0.0),
        augment=replace(_BASE.augment, erase_probability=0.0),
        train=replace(_BASE.train, epochs=9),
    ),
    # 0.27M parameters, 100 epochs: the ResNet-20 of Zhong et al. 2017 (arXiv:1708.04896) with its random erasing, but
    # pre-activation, and trained with Muon in a third of their epochs; minutes on a GPU, too slow for a CPU. Batches of
    # 256, because with so few channels smaller ones hardly shorten a step.
    "small": replace(
        _BASE,
        preset="small",
        model=replace(_BASE.model, stem="full", widths=(16, 32, 64), depths=(3, 3, 3)),
        optim=replace(_MUON, rest_lr=0.02),
        augment=replace(_BASE.augment, crop_padding=2, erase_probability=0.5),
        train=replace(_BASE.train, epochs=100, batch_size=256),
    ),
    # 2.8M parameters, 20 epochs: ten seconds on an H100, once compiled; too slow for a CPU. A wide ResNet
    # (Zagoruyko & Komodakis 2016, arXiv:1605.07146) trained with Muon; nothing was tuned. Batches of 1,024 fill a GPU.
    "wide": replace(
        _BASE,
        preset="wide",
        model=replace(_BASE.model, stem="full", widths=(64, 128, 256), depths=(2, 2, 2), dtype="bfloat16"),
        optim=replace(_MUON, weight_decay=0.02),
        augment=replace(_BASE.augment, crop_padding=2),
        train=replace(_BASE.train, epochs=20, batch_size=1024, eval_batch_size=2000),
    ),
    # 5.9M parameters, 60 epochs: `wide` with twice the blocks, trained three times as long, with stochastic depth,
    # random erasing in half of the images and CutMix in half; 84 s on an H200 shared with another training run.
    # docs/results.md has the validation accuracies by which its augmentation was chosen.
    "record": replace(
        _BASE,
        preset="record",
        model=replace(
            _BASE.model,
            stem="full",
            widths=(64, 128, 256),
            depths=(4, 4, 4),
            stochastic_depth=0.1,
            dtype="bfloat16",
        ),
        optim=replace(_MUON, weight_decay=0.02),
        augment=replace(_BASE.augment, crop_padding=2, erase_probability=0.5, cutmix_alpha=1.0),
        train=replace(_BASE.train, epochs=60, batch_size=1024, eval_batch_size=2000),
    ),
    # 0.08M parameters, 4 epochs of synthetic garments: a minute on two CPU cores, without a download.
    "demo": replace(
        _BASE,
        preset="demo",
        data=replace(_BASE.data, name="synthetic", validation_size=2_000),
        model=replace(_BASE.model, family="plain", widths=(16, 32, 64), depths=(1, 2, 2), dropout=0.1),
        optim=replace(_BASE.optim, weight_decay=5e-4),
        augment=replace(_BASE.augment, erase_probability=0.0),
        train=replace(_BASE.train, epochs=4),
    ),
}

_FOR_ACCELERATORS = ("small", "wide", "record")


def meant_for_accelerators(config: Config) -> bool:
    """Whether the network is that of a preset that would take a CPU hours or days to train."""
    return config.preset in _FOR_ACCELERATORS and config.model == PRESETS[config.preset].model
