"""What a configuration can say of its data only once they are there: how many images a run trains on."""

from dataclasses import replace

from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.data.dataset import Splits, check
from fmnist_jax.errors import DataError


def resolved(config: Config, splits: Splits) -> Config:
    """A configuration that knows the number of its images, once `load(config.data)` has given the splits.

    Raises:
      DataError: it has been said that there are more, or fewer.
    """
    data = config.data
    if data.name in ("fashion_mnist", "synthetic"):
        return config
    found = len(splits.train) + len(splits.validation)
    if data.total not in (0, found):
        raise DataError(
            f"data.total is {data.total}, but there are {found} images for training and validation: bring back those "
            f"that the run was started on, or start anew with another --run.dir"
        )
    # A run may be evaluated from another working directory than it was started in.
    raw_dir, file = (path and path.absolute() for path in (data.raw_dir, data.file))
    return replace(config, data=replace(data, total=found, raw_dir=raw_dir, file=file))


def with_splits(config: Config, splits: Splits) -> Config:
    """A configuration whose data are one's own splits, as `run(config, splits)` trains it and `make_recipe` takes it.

    Raises:
      DataError: there is no training or test image, or shapes or class names differ between the splits.
    """
    check(splits)
    held_out = len(splits.validation)
    data = DataConfig(name="own", validation_size=held_out, total=held_out + len(splits.train), seed=config.data.seed)
    return replace(config, data=data)
