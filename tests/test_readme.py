"""The README and the pages of `docs/`: their code runs, their commands can be typed, and what they name is there."""

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from fmnist_jax import ParallelConfig, __main__, train
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.runs import parallel, results
from tests.undrawn import IN_RESULTS

_ROOT = Path(__file__).parents[1]
_README = _ROOT / "README.md"
_DOCS = sorted((_ROOT / "docs").glob("*.md"))
_PAGES = [_README, *_DOCS]
_OF_EXPERIMENTS = sorted((_ROOT / "experiments").rglob("*.md"))

pages = pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)


def blocks(page: Path) -> list[str]:
    """The Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each module that a page has Python run, with its arguments, wherever the command stands."""
    for module, arguments in re.findall(r"python -m ([\w.]+)([^`\"#&|\n]*)", text.replace("\\\n", " ")):
        yield module, shlex.split(arguments)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that code may write to; its runs have one device, as most readers have, and draw nothing."""
    monkeypatch.chdir(tmp_path)
    choose, on_one = parallel.choose_layout, ParallelConfig(devices=1)
    monkeypatch.setattr(parallel, "choose_layout", lambda config: choose(replace(config, parallel=on_one)))
    for name, undrawn in IN_RESULTS.items():
        monkeypatch.setattr(results, name, undrawn)


@pytest.mark.usefixtures("elsewhere")
def test_the_research_code_runs_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    experiment, eight_models, own_model = blocks(_README)
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

    exec(own_model, names)
    assert names["linear"].init(jax.random.key(0))[0]["kernel"].shape == (784, 10)


def _of_models(names: dict[str, Any]) -> None:
    assert np.isfinite(names["state"].params["kernel"]).all()
    assert (names["moved"].batch_stats["norm"]["mean"] != 0).all()
    assert names["curvature"]["Conv_0"]["kernel"].shape == names["start"].params["Conv_0"]["kernel"].shape
    assert names["losses"].shape == (3,)
    assert np.isfinite(names["measured"]["gradient"])
    assert names["trained"].step == names["summary"]["steps"] == 5
    assert names["guesses"].shape == (len(names["test"]), 10)
    small = ("--preset=demo", "--data.synthetic-train-size=200", "--data.synthetic-test-size=50", "--train.epochs=1")
    names["main"]([*small, "--data.validation-size=0", "--run.dir=runs/mine"])
    typed = names["fj"].load_trained("runs/mine", make_recipe=names["of_linear"])
    assert (typed.config.preset, typed.params["kernel"].shape) == ("demo", (784, 10))
    assert {len(leaf) for leaf in jax.tree.leaves(names["gradients"])} == {64}
    assert names["state"].step == 60
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["40", "60"]


def _of_images(names: dict[str, Any]) -> None:
    for label, name in enumerate(("plain", "striped")):
        folder = Path("pictures") / name
        folder.mkdir(parents=True)
        Image.new("RGB", (9, 12), (100 + label, 0, 0)).save(folder / "a.png")
        (folder / "Thumbs.db").touch()
    images, labels = names["of_folders"]("pictures", ("plain", "striped"), height=10, width=8)
    assert (images.shape, labels.tolist()) == ((2, 10, 8), [0, 1])
    assert images[0].max() < images[1].min() + 1
    names["save_folders"]("folders.npz", "pictures", "pictures", ("plain", "striped"))
    config = names["fj"].DataConfig(name="npz", file="folders.npz", validation_size=0)
    of_folders = names["fj"].load(config)
    assert (of_folders.train.image_shape, of_folders.test.class_names) == ((28, 28, 1), ("plain", "striped"))
    assert names["logits"].shape == (24, 3)
    assert names["params"]["Dense_0"]["kernel"].shape[1] == 5
    splits = names["fj"].load(names["fj"].DataConfig(name="npz", file="own.npz", validation_size=0))
    assert (splits.train.image_shape, splits.test.class_names) == ((16, 20, 3), ("plain", "striped", "dotted"))


def _of_devices(names: dict[str, Any]) -> None:
    np.testing.assert_allclose(names["probabilities"].sum(-1), 1.0, rtol=1e-5)
    assert names["states"].step.tolist() == [5, 5, 5]
    assert names["spread"].images.sharding.spec == jax.P("data")
    assert int(names["after"].step) == 1


def _of_transfer(names: dict[str, Any]) -> None:
    source, state = names["source"], names["state"]
    assert state.params["Dense_0"]["kernel"].shape == (16, 3)
    taken = state.params["ResidualBlock_1"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(taken, source.params["ResidualBlock_1"]["Conv_0"]["kernel"])
    # Adam keeps the moments of the head, and of nothing else.
    assert {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} == {(), (3,), (16, 3)}


_PROMISES: dict[str, Callable[[dict[str, Any]], None]] = {
    "model": _of_models,
    "images": _of_images,
    "devices": _of_devices,
    "transfer": _of_transfer,
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("page", [page for page in _DOCS if blocks(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        exec(block, names)
    _PROMISES[page.stem](names)


@pages
def test_every_preset_picture_and_page_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"--preset (\w+)", text)) <= PRESETS.keys()
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        made = re.fullmatch(r"api/\w+\.md", target)  # by docs/hooks.py, see test_docs
        assert made or (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", [*_PAGES, *_OF_EXPERIMENTS], ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_every_command_that_is_named_can_be_typed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del capsys  # swallows the help that is asked for
    text = page.read_text()
    for module, arguments in commands(text):
        if module == "fmnist_jax":
            assert not arguments
        elif module.startswith("fmnist_jax."):
            _type(module.removeprefix("fmnist_jax."), arguments)
        elif module.startswith("experiments."):
            kind = getattr(importlib.import_module(module.replace("NAME", "seeds")), "Arguments", None)
            known = set() if kind is None else {field.name for field in fields(kind)}
            flags = {flag.replace("-", "_") for flag in re.findall(r"--([\w-]+)", " ".join(arguments))}
            assert flags <= known, f"{module} has no {flags - known}"
    targets = re.findall(r"^([\w-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    for target, arguments in re.findall(r"(?:^    |`)make (\w+)(?: ARGS=\"([^\"]*)\")?", text, re.MULTILINE):
        assert target in targets
        if target == "train":
            _type("train", shlex.split(arguments))


def _type(command: str, arguments: list[str]) -> None:
    """Has a command accept its arguments, without doing its work."""
    assert command in __main__.COMMANDS
    with pytest.raises(SystemExit, match="0") if arguments == ["--help"] else nullcontext():
        if command == "train":
            train.parse(arguments, "train")
        else:
            parse_arguments(importlib.import_module(f"fmnist_jax.{command}").Arguments, arguments, command)


def test_a_command_that_cannot_be_typed_is_found() -> None:
    text = "a `python -m fmnist_jax.predict RUN x` or\n    srun \\\n        python -m fmnist_jax.train --oops 1  # no\n"
    assert list(commands(text)) == [
        ("fmnist_jax.predict", ["RUN", "x"]),
        ("fmnist_jax.train", ["--oops", "1"]),
    ]
    with pytest.raises(Exception, match="oops"):
        _type("train", ["--oops", "1"])


def test_a_stranger_finds_the_answer_in_two_clicks() -> None:
    """From the home page, each in one: a page whose first command or code is the answer."""
    home = (_ROOT / "docs" / "index.md").read_text()
    answers = {
        "train on my own images?": "--data.file own.npz",
        "use my own model?": "fj.Model(init, apply)",
        "run this on eight GPUs?": "all GPUs of the machine, such as eight",
        "get the same bits again?": "--train.seed 0 --run.dir",
    }
    for question, answer in answers.items():
        row = re.search(rf"\| {re.escape(question)} \| \[[^\]]+\]\((\w+\.md)\)", home)
        assert row is not None, question
        assert answer in (_ROOT / "docs" / row[1]).read_text()


def test_the_readme_is_short() -> None:
    """Each section of it fits a screen, which shows some 60 lines."""
    sections = _README.read_text().split("\n## ")
    assert max(len(section.splitlines()) for section in sections) <= 60
