"""What a configuration can state only once its data are loaded: the number of images, and where everything is."""

from dataclasses import replace

from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data import places
from fmnist_jax.data.dataset import Splits, check_splits
from fmnist_jax.errors import DataError


def resolve(config: Config, splits: Splits) -> Config:
    """A configuration with the number and location of its images, once `load(config.data)` has given the splits.

    Raises:
      DataError: `data.total` is set to a different number of images.
    """
    # A run may be resumed or evaluated from another working directory or environment than it was started in.
    config, data = with_absolute_source(config), config.data
    if data.name == "synthetic":
        return config
    if data.name == "fashion_mnist":
        # Not the environment's folder of the original files, which is looked up again while none are prepared.
        raw_dir = data.raw_dir and data.raw_dir.absolute()
        return replace(config, data=replace(data, dir=places.data_dir(data), raw_dir=raw_dir))
    found = len(splits.train) + len(splits.validation)
    if data.total not in (0, found):
        raise DataError(
            f"--data.total is {data.total}, but there are {found} images for training and validation: omit it, or "
            f"restore those that the run was started on"
        )
    raw_dir, file = (path and path.absolute() for path in (data.raw_dir, data.file))
    return replace(config, data=replace(data, total=found, raw_dir=raw_dir, file=file))


def with_absolute_source(config: Config) -> Config:
    """A configuration in which the path of the run whose weights it starts from, if any, is absolute."""
    source = config.init.source
    return config if source is None else replace(config, init=replace(config.init, source=source.absolute()))


def with_splits(config: Config, splits: Splits) -> Config:
    """A configuration for the caller's own splits, as `run(config, splits)` trains it and `make_recipe` takes it.

    Raises:
      DataError: there is no training or test image, or shapes or class names differ between the splits.
    """
    check_splits(splits)
    held_out = len(splits.validation)
    data = DataConfig(name="own", validation_size=held_out, total=held_out + len(splits.train), seed=config.data.seed)
    return replace(config, data=data)
