"""What a configuration can say only once its data are there: how many images a run trains on, and where all lies."""

from dataclasses import replace

from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data import places
from fmnist_jax.data.dataset import Splits, check
from fmnist_jax.errors import DataError


def resolved(config: Config, splits: Splits) -> Config:
    """A configuration that knows number and places of its images, once `load(config.data)` has given the splits.

    Raises:
      DataError: it has been said that there are more, or fewer.
    """
    # A run may go on, or be evaluated, from another working directory or environment than it was started in.
    config, data = with_absolute_source(config), config.data
    if data.name == "synthetic":
        return config
    if data.name == "fashion_mnist":
        # Not the environment's folder of the original files, which are looked for anew while none are prepared.
        raw_dir = data.raw_dir and data.raw_dir.absolute()
        return replace(config, data=replace(data, dir=places.data_dir(data), raw_dir=raw_dir))
    found = len(splits.train) + len(splits.validation)
    if data.total not in (0, found):
        raise DataError(
            f"--data.total is {data.total}, but there are {found} images for training and validation: leave it out, or "
            f"bring back those that the run was started on"
        )
    raw_dir, file = (path and path.absolute() for path in (data.raw_dir, data.file))
    return replace(config, data=replace(data, total=found, raw_dir=raw_dir, file=file))


def with_absolute_source(config: Config) -> Config:
    """A configuration that names the run whose weights it starts from, if it does, by an absolute path."""
    source = config.init.source
    return config if source is None else replace(config, init=replace(config.init, source=source.absolute()))


def with_splits(config: Config, splits: Splits) -> Config:
    """A configuration whose data are one's own splits, as `run(config, splits)` trains it and `make_recipe` takes it.

    Raises:
      DataError: there is no training or test image, or shapes or class names differ between the splits.
    """
    check(splits)
    held_out = len(splits.validation)
    data = DataConfig(name="own", validation_size=held_out, total=held_out + len(splits.train), seed=config.data.seed)
    return replace(config, data=data)
