"""Configurations shrunk to a few seconds' work, so that a command is tried from end to end before it matters."""

from dataclasses import replace
from pathlib import Path

from fmnist_jax import Config, DataConfig, FmnistError


def shrink(config: Config) -> Config:
    """The configuration with a few synthetic images, a narrow and shallow network, and two epochs of small batches.

    Its optimiser, augmentation and all else stay, because it is them that are tried.
    """
    data = DataConfig(name="synthetic", validation_size=0, synthetic_train_size=320, synthetic_test_size=64)
    model = replace(config.model, widths=(4, 6), depths=(1, 1))
    train = replace(config.train, epochs=2, batch_size=32, eval_batch_size=32)
    return replace(config, data=data, model=model, train=train)


def refuse_among_results(folder: Path, results: Path) -> None:
    """Refuses to rehearse into the folder of the results, or into one of its subfolders, which the tables take in.

    Raises:
      FmnistError: as said.
    """
    if folder.resolve().is_relative_to(results.resolve()):
        raise FmnistError("a rehearsal is no result: give it a folder of its own")
