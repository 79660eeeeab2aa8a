"""The README's code runs, and its words are true of the package."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fmnist_jax.config.presets import PRESETS

_README = (Path(__file__).parents[1] / "README.md").read_text()
_BLOCKS = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)


def test_the_research_code_runs_and_learns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment, eight_models, *others = _BLOCKS
    assert len([line for line in experiment.splitlines() if line.strip()]) < 28
    names: dict[str, Any] = {}
    exec(experiment, names)
    accuracy = re.search(r"accuracy=([\d.]+)", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.3

    exec(eight_models, names)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(names["states"])} == {8}
    kernels = names["states"].params["Conv_0"]["kernel"]
    assert len({kernel.tobytes() for kernel in jax.device_get(kernels)}) == 8

    assert len(others) == 7
    for block in others:
        exec(block, names)
    assert np.isfinite(names["state"].params["kernel"]).all()
    assert names["curvature"]["Conv_0"]["kernel"].shape == kernels.shape[1:]
    assert names["losses"].shape == (3,)
    assert names["spread"].images.sharding.spec == jax.P("data")
    assert names["logits"].shape == (24, 3)
    assert names["params"]["Dense_0"]["kernel"].shape[1] == 5
    np.testing.assert_allclose(names["probabilities"].sum(-1), 1.0, rtol=1e-5)
    assert names["states"].step.tolist() == [5, 5, 5]
    assert int(names["after"].step) == 5


def test_every_preset_and_picture_that_is_named_exists() -> None:
    assert set(re.findall(r"--preset (\w+)", _README)) <= PRESETS.keys()
    for path in re.findall(r"!\[.*?\]\((.*?)\)", _README):
        assert (Path(__file__).parents[1] / path).is_file()
