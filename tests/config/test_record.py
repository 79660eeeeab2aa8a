"""A configuration as JSON and back, of this version and of earlier ones, and what differs between two."""

import dataclasses
import json
from pathlib import Path

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


def test_diff_says_old_and_new_value() -> None:
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
    if section not in ("init", "population", "parallel"):  # which earlier versions had not
        with pytest.raises(ConfigError, match=f"'{section}'"):
            from_dict({name: value for name, value in known.items() if name != section})


def test_what_is_passed_on_tells_what_was_trained_and_not_where() -> None:
    data = DataConfig(name="npz", file=Path("/home/somebody/own.npz"), dir=Path("/data"), raw_dir=Path("/raw"))
    init = InitConfig(source=Path("/home/somebody/other"), freeze="Conv_*")
    config = Config(data=data, init=init, run=RunConfig(dir=Path("/home/somebody/run")))
    passed_on, whole = to_shareable_dict(config), to_dict(config)
    assert "somebody" not in str(passed_on)
    assert whole.keys() - passed_on.keys() == NON_TRAINING_SECTIONS
    assert whole["data"].keys() - passed_on["data"].keys() == {"dir", "raw_dir", "file"}
    assert passed_on["init"] == {"freeze": "Conv_*"}
    assert all(passed_on[name] == whole[name] for name in passed_on if name not in ("data", "init"))


def test_from_dict_refuses_an_unknown_section() -> None:
    with pytest.raises(ConfigError, match="surprise"):
        from_dict({**to_dict(Config()), "surprise": {}})


def test_what_an_earlier_version_did_not_know_of_a_run_takes_its_default_and_nothing_else_does() -> None:
    values = to_dict(Config(run=RunConfig(log_every=3)))
    del values["run"]["tensorboard"]
    assert from_dict(values) == Config(run=RunConfig(log_every=3))
    with pytest.raises(ConfigError, match="different fields from this version: follow"):
        from_dict({**values, "run": {**values["run"], "follow": True}})
    del values["train"]["seed"]
    with pytest.raises(ConfigError, match="different fields from this version: seed"):
        from_dict(values)


FIRST = {
    "data": "dir name raw_dir seed synthetic_test_size synthetic_train_size validation_size",
    "model": "batch_norm_momentum depths dropout dtype family stem stochastic_depth widths",
    "optim": "clip_norm final_lr momentum name peak_lr schedule warmup weight_decay",
    "augment": "crop_padding cutmix_alpha cutout erase_probability flip mix_probability mixup_alpha rotation",
    "train": "average_decay batch_size epochs eval_batch_size eval_every eval_mirror label_smoothing seed",
    "run": "",
}
"""What runs of version 0.1.0 recorded; of `run`, where every field may be missing, the least."""


def test_what_earlier_versions_had_not_takes_its_default() -> None:
    values = to_dict(Config())
    recorded = {section: {name: values[section][name] for name in names.split()} for section, names in FIRST.items()}
    assert from_dict({"preset": "custom", **recorded}) == Config()


def test_differences_are_the_fields_that_are_not_the_same_in_all() -> None:
    base = Config()
    longer = dataclasses.replace(base, preset="fast", train=TrainConfig(epochs=3), run=RunConfig(log_every=7))
    elsewhere = dataclasses.replace(base, data=DataConfig(dir=Path("/data"), validation_size=7))
    assert differences([base, longer, elsewhere]) == {
        "preset": ["custom", "fast", "custom"],
        "data.validation_size": [5000, 5000, 7],
        "train.epochs": [30, 3, 30],
    }
    assert differences([base, base]) == {}
