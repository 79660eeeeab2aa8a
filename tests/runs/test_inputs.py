"""What a run trains with: complete, checked in the order of cost, and loaded without writing anything."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from fmnist_jax.config.schema import AugmentConfig, Config, DataConfig, InitConfig, ModelConfig, ParallelConfig
from fmnist_jax.data.dataset import Dataset, Splits, digest, load
from fmnist_jax.errors import ConfigError, FmnistError
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.runs import inputs
from fmnist_jax.runs.parallel import choose_layout

_CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,)),
    parallel=ParallelConfig(devices=1),
)
_LAYOUT = choose_layout(_CONFIG)


def _no_dropout(config: Config, **options: Any) -> Any:
    return make_recipe(replace(config, model=replace(config.model, dropout=0.0)), **options)


def test_inputs_hold_the_images_their_digest_and_the_recipe_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run"
    loaded = inputs.load_inputs(_CONFIG, path, _LAYOUT, make_recipe=_no_dropout)
    splits = load(_CONFIG.data)
    assert loaded.dataset_digest == digest(splits)
    assert loaded.dataset == (splits.train.image_shape, splits.train.class_names)
    np.testing.assert_array_equal(loaded.train_data.images, splits.train.images)
    assert (loaded.setup.custom_recipe, loaded.layout) == ("_no_dropout", _LAYOUT)
    assert list(tmp_path.iterdir()) == []


def test_given_images_are_counted_and_too_large_a_cutout_for_them_is_refused_unless_the_run_resumes(
    tmp_path: Path,
) -> None:
    splits = load(_CONFIG.data)
    small = Dataset(splits.train.images[:, 4:24, 4:24], splits.train.labels)
    given = splits._replace(train=small, validation=small.take(np.arange(0)), test=small)
    config = replace(_CONFIG, data=DataConfig(name="own", validation_size=0), augment=AugmentConfig(cutout=24))
    with pytest.raises(ConfigError, match="cutout is 24, but the images have 20x20 pixels: choose at most 20"):
        inputs.load_inputs(config, tmp_path / "run", _LAYOUT, given)
    loaded = inputs.load_inputs(config, tmp_path / "run", _LAYOUT, given, resumes=True)
    assert loaded.splits is given
    assert loaded.config.data.total == len(small)


def _with_few_bytes_free(bytes_free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=bytes_free))


@pytest.mark.parametrize(
    ("prepare", "config", "message"),
    [
        (partial(_with_few_bytes_free, 10**6), _CONFIG, r"the run needs 20,000,000"),
        (lambda _: None, replace(_CONFIG, init=InitConfig(source=Path("none"))), "none, which has no config"),
    ],
    ids=["disk", "source"],
)
def test_unusable_directory_or_source_is_refused_before_images_are_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[pytest.MonkeyPatch], None],
    config: Config,
    message: str,
) -> None:
    def fail_if_loaded(_: DataConfig) -> Splits:
        pytest.fail("images were loaded")

    prepare(monkeypatch)
    monkeypatch.setattr(inputs, "load", fail_if_loaded)
    with pytest.raises(FmnistError, match=message):
        inputs.load_inputs(config, tmp_path / "run", _LAYOUT)
    assert list(tmp_path.iterdir()) == []


def test_disk_must_have_room_for_the_checkpoints_of_every_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves = jax.tree.leaves(jax.eval_shape(make_recipe(_CONFIG).init, jax.random.key(0)))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    _with_few_bytes_free(20_000_000 + 4 * state_bytes - 1, monkeypatch)
    with pytest.raises(FmnistError, match=f"the run needs {20_000_000 + 4 * state_bytes:,}: free space"):
        inputs.load_inputs(_CONFIG, tmp_path / "run", _LAYOUT)
    for step, count in ((1, 3), (2, 2), (3, 1), (4, 1)):  # those that there are need no more
        (tmp_path / "run" / "checkpoints" / str(step)).mkdir(parents=True)
        _with_few_bytes_free(20_000_000 + count * state_bytes - 1, monkeypatch)
        with pytest.raises(FmnistError, match=f"the run needs {20_000_000 + count * state_bytes:,}: free space"):
            inputs.load_inputs(_CONFIG, tmp_path / "run", _LAYOUT)
