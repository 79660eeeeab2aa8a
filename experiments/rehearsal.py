"""Configurations shrunk to a few seconds' work, to try a command from end to end before it matters."""

from dataclasses import replace
from pathlib import Path

from fmnist_jax import Config, DataConfig, FmnistError


def shrink(config: Config) -> Config:
    """The configuration with a few synthetic images, a narrow and shallow network, and two epochs of small batches.

    Its optimiser, augmentation and everything else stay the same, because they are what is tried out.
    """
    data = DataConfig(name="synthetic", validation_size=0, synthetic_train_size=320, synthetic_test_size=64)
    model = replace(config.model, widths=(4, 6), depths=(1, 1))
    train = replace(config.train, epochs=2, batch_size=32, eval_batch_size=32)
    return replace(config, data=data, model=model, train=train)


def refuse_results_folder(folder: Path, results: Path) -> None:
    """Refuses to rehearse into the results folder or one of its subfolders, all of which the tables read.

    Raises:
      FmnistError: `folder` is one of these.
    """
    if folder.resolve().is_relative_to(results.resolve()):
        raise FmnistError(f"{folder} holds results, and a rehearsal is not one: give it a separate folder")
