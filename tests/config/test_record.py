"""Configurations to JSON and back, from this version and earlier ones, and their differences."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from fmnist_jax.config.record import diff, differences, from_dict, to_dict, to_shareable_dict
from fmnist_jax.config.schema import NON_TRAINING_SECTIONS, Config, DataConfig, InitConfig, RunConfig, TrainConfig
from fmnist_jax.errors import ConfigError
from tests.config.strategies import FIELDS, SECTIONS, configs


@settings(deadline=None, max_examples=40)
@given(configs)
def test_dict_round_trip_survives_json(config: Config) -> None:
    assert from_dict(to_dict(config)) == config
    assert from_dict(json.loads(json.dumps(to_dict(config), allow_nan=False))) == config


@settings(deadline=None, max_examples=40)
@given(configs, configs, st.sets(st.sampled_from(FIELDS)))
def test_diff_lists_exactly_the_changed_fields(old: Config, other: Config, chosen: set[tuple[str, str]]) -> None:
    new = old
    for section, name in chosen:
        value = getattr(getattr(other, section), name)
        new = dataclasses.replace(new, **{section: dataclasses.replace(getattr(new, section), **{name: value})})
    changed = [
        f"{section}.{name}"
        for section, name in FIELDS
        if getattr(getattr(old, section), name) != getattr(getattr(new, section), name)
    ]
    assert [line.split(":")[0] for line in diff(old, new)] == changed


def test_diff_shows_old_and_new_values() -> None:
    old = Config(train=TrainConfig(epochs=20))
    new = Config(preset="fast", train=TrainConfig(epochs=3), data=DataConfig(dir=Path("/data")))
    assert diff(old, new) == ["preset: custom -> fast", "data.dir: None -> /data", "train.epochs: 20 -> 3"]


@pytest.mark.parametrize("section", SECTIONS)
def test_from_dict_names_unknown_and_missing_fields(section: str) -> None:
    known = to_dict(Config())
    first = next(iter(known[section]))
    with pytest.raises(ConfigError, match=rf"'{section}'.*\bsurprise\b"):
        from_dict({**known, section: {**known[section], "surprise": 1}})
    if section not in NON_TRAINING_SECTIONS:
        with pytest.raises(ConfigError, match=rf"'{section}'.*\b{first}\b"):
            from_dict({**known, section: {name: value for name, value in known[section].items() if name != first}})
    if section not in ("init", "population", "parallel"):  # which earlier versions lacked
        with pytest.raises(ConfigError, match=rf"different sections from this version: {section}$"):
            from_dict({name: value for name, value in known.items() if name != section})


def test_shareable_dict_omits_paths_and_non_training_sections() -> None:
    data = DataConfig(name="npz", file=Path("/home/somebody/own.npz"), dir=Path("/data"), raw_dir=Path("/raw"))
    init = InitConfig(source=Path("/home/somebody/other"), freeze="Conv_*")
    config = Config(data=data, init=init, run=RunConfig(dir=Path("/home/somebody/run")))
    shareable, full = to_shareable_dict(config), to_dict(config)
    assert "somebody" not in str(shareable)
    assert full.keys() - shareable.keys() == NON_TRAINING_SECTIONS
    assert full["data"].keys() - shareable["data"].keys() == {"dir", "raw_dir", "file"}
    assert shareable["init"] == {"freeze": "Conv_*"}
    assert all(shareable[name] == full[name] for name in shareable if name not in ("data", "init"))


def test_from_dict_rejects_an_unknown_section() -> None:
    with pytest.raises(ConfigError, match=r"different sections from this version: surprise$"):
        from_dict({**to_dict(Config()), "surprise": {}})


def test_sections_that_earlier_versions_lacked_are_not_blamed_for_an_unknown_one() -> None:
    values = {
        name: value for name, value in to_dict(Config()).items() if name not in ("init", "population", "parallel")
    }
    with pytest.raises(ConfigError, match=r"different sections from this version: surprise$"):
        from_dict({**values, "surprise": {}})


@pytest.mark.parametrize("values", [None, [], "fast"])
def test_from_dict_rejects_what_is_not_a_mapping(values: Any) -> None:
    with pytest.raises(ConfigError, match=rf"the configuration is {re.escape(repr(values))}: expected its sections"):
        from_dict(values)


def test_missing_run_fields_take_defaults_and_other_missing_or_unknown_fields_do_not() -> None:
    values = to_dict(Config(run=RunConfig(log_every=3)))
    del values["run"]["tensorboard"]
    assert from_dict(values) == Config(run=RunConfig(log_every=3))
    with pytest.raises(ConfigError, match="different fields from this version: follow"):
        from_dict({**values, "run": {**values["run"], "follow": True}})
    del values["train"]["seed"]
    with pytest.raises(ConfigError, match="different fields from this version: seed"):
        from_dict(values)


FIELDS_OF_0_1_0 = {
    "data": "dir name raw_dir seed synthetic_test_size synthetic_train_size validation_size",
    "model": "batch_norm_momentum depths dropout dtype family stem stochastic_depth widths",
    "optim": "clip_norm final_lr momentum name peak_lr schedule warmup weight_decay",
    "augment": "crop_padding cutmix_alpha cutout erase_probability flip mix_probability mixup_alpha rotation",
    "train": "average_decay batch_size epochs eval_batch_size eval_every eval_mirror label_smoothing seed",
    "run": "",
}
"""The fields that version 0.1.0 recorded; none for `run`, all of whose fields may be missing."""


def test_fields_that_version_0_1_0_lacked_take_their_defaults() -> None:
    values = to_dict(Config())
    recorded = {
        section: {name: values[section][name] for name in names.split()} for section, names in FIELDS_OF_0_1_0.items()
    }
    assert from_dict({"preset": "custom", **recorded}) == Config()


def test_differences_lists_the_fields_that_are_not_equal_in_all_configs() -> None:
    base = Config()
    longer = dataclasses.replace(base, preset="fast", train=TrainConfig(epochs=3), run=RunConfig(log_every=7))
    elsewhere = dataclasses.replace(base, data=DataConfig(dir=Path("/data"), validation_size=7))
    assert differences([base, longer, elsewhere]) == {
        "preset": ["custom", "fast", "custom"],
        "data.validation_size": [5000, 5000, 7],
        "train.epochs": [30, 3, 30],
    }
    assert differences([base, base]) == {}
