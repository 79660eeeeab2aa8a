import re
from itertools import pairwise
from pathlib import Path

import jax
import pytest

from fmnist_jax import make_model, param_count
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import differences, from_dict, to_dict
from fmnist_jax.config.schema import Config, DataConfig
from fmnist_jax.config.validation import validate


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_valid_and_carries_its_name(name: str) -> None:
    validate(PRESETS[name])
    assert PRESETS[name].preset == name
    assert from_dict(to_dict(PRESETS[name])) == PRESETS[name]


def test_presets_match_the_table_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.partition("| preset | network |")[2].partition("\n\n")[0]
    assert {*re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE), "demo"} == {*PRESETS}
    assert Config().preset not in PRESETS
    validate(Config())


def test_default_config_differs_from_standard_only_in_network_and_recipe() -> None:
    """All other fields of `standard` are the defaults of `Config`."""
    network = {"model.stem", "model.widths", "model.depths"}
    recipe = {"optim.name", "optim.rest_lr", "optim.weight_decay", "augment.erase_probability"}
    changed = {"preset"} | network | recipe
    assert set(differences([PRESETS["standard"], Config()])) == changed
    assert (Config().model.stem, Config().model.widths) == ("pooled", (48, 96, 192))


def test_demo_is_the_only_preset_with_synthetic_data() -> None:
    assert {name for name, preset in PRESETS.items() if preset.data.name == "synthetic"} == {"demo"}


def test_presets_set_neither_paths_nor_seeds() -> None:
    for preset in PRESETS.values():
        assert preset.run == Config().run
        assert (preset.data.dir, preset.data.raw_dir) == (DataConfig().dir, DataConfig().raw_dir)
        assert (preset.data.seed, preset.train.seed) == (0, 0)


def test_parameter_counts_of_presets_match_the_documented_sizes() -> None:
    """Computed from the shapes of the layers, so that no change of a preset or a layer goes unnoticed."""

    def plain(widths: tuple[int, ...], depths: tuple[int, ...]) -> int:
        channels = [1, *(width for width, depth in zip(widths, depths, strict=True) for _ in range(depth))]
        convolutions = sum(9 * a * b + 2 * b for a, b in pairwise(channels))
        return convolutions + 10 * (28 // 2 ** len(widths)) ** 2 * widths[-1] + 10

    def resnet(widths: tuple[int, ...], depths: tuple[int, ...]) -> int:
        channels = [widths[0], *(width for width, depth in zip(widths, depths, strict=True) for _ in range(depth))]
        blocks = sum(9 * a * b + 9 * b * b + 2 * a + 2 * b + (a * b if a != b else 0) for a, b in pairwise(channels))
        return 9 * widths[0] + blocks + 2 * widths[-1] + 10 * widths[-1] + 10

    expected = {
        "standard": resnet((16, 64, 128, 256), (1, 1, 1, 1)),
        "fast": plain((16, 64, 192), (1, 1, 2)),
        "small": resnet((16, 32, 64), (3, 3, 3)),
        "wide": resnet((64, 128, 256), (2, 2, 2)),
        "record": resnet((64, 128, 256), (4, 4, 4)),
        "demo": plain((16, 32, 64), (1, 2, 2)),
    }
    assert expected == {
        "standard": 1_203_194,
        "fast": 469_946,
        "small": 271_994,
        "wide": 2_775_754,
        "record": 5_875_914,
        "demo": 75_450,
    }
    for name, count in expected.items():
        params, _ = jax.eval_shape(make_model(PRESETS[name].model).init, jax.random.key(0))
        assert param_count(params) == count


def test_cpu_presets_have_few_channels_at_full_resolution_and_few_steps() -> None:
    """A network that convolves 28x28 pixels with many channels for hundreds of epochs would take days on a CPU."""
    for name in ("standard", "fast", "demo"):
        preset = PRESETS[name]
        assert preset.model.stem == "pooled" or preset.model.widths[0] <= 16
        assert preset.total_steps * preset.train.batch_size < 2_000_000
