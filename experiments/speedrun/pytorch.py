"""PyTorch's side of the speedrun, eager: nothing is compiled, so there is no compilation to leave off the clock."""

from collections.abc import Mapping
from typing import Any, Literal

from experiments.benchmark import pytorch_side
from experiments.speedrun.entrant import Entrant
from fmnist_jax import Config, FmnistError, to_dict

_WARM_UP_STEPS = 3

# The values of each field that PyTorch's trainer supports; it has no code for others.
_SUPPORTED: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("model", "family"): ("plain",),
    ("model", "batch_norm_momentum"): (0.9,),
    ("model", "stochastic_depth"): (0,),
    ("optim", "name"): ("sgd", "muon"),
    ("optim", "clip_norm"): (0,),
    ("augment", "flip"): ("none", "alternating"),
    ("augment", "crop_padding"): (0,),
    ("augment", "rotation"): (0,),
    ("augment", "photo_probability"): (0,),
    ("augment", "erase_probability"): (0,),
    ("augment", "cutout"): (0,),
    ("augment", "mixup_alpha"): (0,),
    ("augment", "cutmix_alpha"): (0,),
    ("train", "average_decay"): (0,),
}


def prepare(config: Config) -> Entrant:
    """Puts the data on the device and takes a few warm-up steps.

    Raises:
      FmnistError: PyTorch's side does not support part of the configuration.
    """
    refuse_unsupported(config)
    scored_split: Literal["test", "validation"] = "validation" if config.data.validation_size else "test"
    trainer = pytorch_side.Trainer(config, "preset", compiled=False, seed=0, scored_split=scored_split)
    trainer.train(_WARM_UP_STEPS)

    def train(seed: int) -> pytorch_side.Trainer:
        trainer.reset(seed)
        trainer.train(config.total_steps)
        return trainer

    accuracy = pytorch_side.Trainer.mirrored_accuracy if config.train.eval_mirror else pytorch_side.Trainer.accuracy
    return Entrant(train, accuracy, 0.0, pytorch_side.versions())


def refuse_unsupported(config: Config) -> None:
    """Refuses a recipe that would silently become another one in PyTorch.

    Raises:
      FmnistError: the recipe is one of these; names the fields.
    """
    values = to_dict(config)
    unsupported = [
        f"{section}.{field} {values[section][field]!r}"
        for (section, field), supported in _SUPPORTED.items()
        if values[section][field] not in supported
    ]
    if unsupported:
        raise FmnistError(
            f"PyTorch's side does not support {', '.join(unsupported)}: implement it, or enter a recipe without it"
        )
