"""The named configurations that a run starts from, as plain values that a diff shows."""

from collections.abc import Mapping
from dataclasses import replace

from fmnist_jax.config import Config

_STANDARD = Config()

PRESETS: Mapping[str, Config] = {
    "standard": _STANDARD,
    "fast": replace(
        _STANDARD,
        preset="fast",
        model=replace(_STANDARD.model, widths=(32, 64, 192), depths=(1, 1, 2), dropout=0.0),
        optim=replace(_STANDARD.optim, peak_lr=0.4),
        train=replace(_STANDARD.train, epochs=4, eval_batch_size=125, flip=False, crop_padding=0),
    ),
    "demo": replace(
        _STANDARD,
        preset="demo",
        data=replace(_STANDARD.data, name="synthetic", validation_size=2_000),
        model=replace(_STANDARD.model, widths=(16, 32, 64), dropout=0.1),
        train=replace(_STANDARD.train, epochs=4, crop_padding=0),
    ),
}
