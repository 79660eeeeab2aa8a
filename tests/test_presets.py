import pytest

from fmnist_jax.config import Config, DataConfig, from_dict, to_dict
from fmnist_jax.presets import PRESETS
from fmnist_jax.validation import validate


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_valid_and_carries_its_name(name: str) -> None:
    validate(PRESETS[name])
    assert PRESETS[name].preset == name
    assert from_dict(to_dict(PRESETS[name])) == PRESETS[name]


def test_presets_are_those_that_the_documents_name() -> None:
    assert list(PRESETS) == ["standard", "fast", "demo"]


def test_standard_is_the_default_configuration() -> None:
    assert PRESETS["standard"] == Config()


def test_demo_needs_no_download() -> None:
    assert {name for name, preset in PRESETS.items() if preset.data.name == "synthetic"} == {"demo"}


def test_presets_choose_neither_place_nor_seed() -> None:
    for preset in PRESETS.values():
        assert preset.run == Config().run
        assert (preset.data.dir, preset.data.raw_dir) == (DataConfig().dir, DataConfig().raw_dir)
        assert (preset.data.seed, preset.train.seed) == (0, 0)


def test_each_preset_after_the_first_trains_on_fewer_images() -> None:
    seen = [preset.total_steps * preset.train.batch_size for preset in PRESETS.values()]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
