"""PyTorch's side of the speedrun, eager: nothing is compiled, so its clock has nothing to leave out."""

from collections.abc import Mapping
from typing import Any, Literal

from experiments.benchmark import pytorch_side
from experiments.speedrun.entrant import Entrant
from fmnist_jax import Config, FmnistError, to_dict

_WARM_UP_STEPS = 3

# What PyTorch's trainer takes of each field that could be something else; it has no code for other values.
_TAKEN: Mapping[tuple[str, str], tuple[Any, ...]] = {
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
    """Puts the data on the device and takes a few steps that count for nothing.

    Raises:
      FmnistError: PyTorch's side has not got a part of the configuration.
    """
    refuse_what_is_missing(config)
    scored: Literal["test", "validation"] = "validation" if config.data.validation_size else "test"
    trainer = pytorch_side.Trainer(config, "preset", compiled=False, seed=0, scored=scored)
    trainer.train(_WARM_UP_STEPS)

    def train(seed: int) -> pytorch_side.Trainer:
        trainer.begin(seed)
        trainer.train(config.total_steps)
        return trainer

    score = pytorch_side.Trainer.mirrored_accuracy if config.train.eval_mirror else pytorch_side.Trainer.accuracy
    return Entrant(train, score, 0.0, pytorch_side.versions())


def refuse_what_is_missing(config: Config) -> None:
    """Refuses a recipe that would silently be another one in PyTorch.

    Raises:
      FmnistError: as said; names the fields.
    """
    values = to_dict(config)
    missing = [
        f"{section}.{field} {values[section][field]!r}"
        for (section, field), taken in _TAKEN.items()
        if values[section][field] not in taken
    ]
    if missing:
        raise FmnistError(f"the side of PyTorch has no {', '.join(missing)}: write it, or enter a recipe without")
