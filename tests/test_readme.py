"""The README and the other pages: their code runs, their commands parse, and what they refer to exists."""

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from PIL import Image

import fmnist_jax
from fmnist_jax import ParallelConfig, __main__, train
from fmnist_jax.commands.arguments import parse_arguments
from fmnist_jax.config.presets import PRESETS
from fmnist_jax.errors import ConfigError
from fmnist_jax.runs import parallel, results
from tests.undrawn import RESULTS_STUBS

_ROOT = Path(__file__).parents[1]
_README = _ROOT / "README.md"
_DOCS = sorted((_ROOT / "docs").glob("*.md"))
_PAGES = [_README, _ROOT / "CONTRIBUTING.md", *_DOCS, *sorted((_ROOT / "experiments").rglob("*.md"))]
_MAKE_ARGS = {  # which module gets the ARGS of a target
    "train": "fmnist_jax.train",
    "bench": "experiments.benchmark.run",
    "speedrun": "experiments.speedrun.run",
}

for_each_page = pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))


def python_blocks(page: Path) -> list[str]:
    """The Python code blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def join_commands(text: str) -> str:
    """A page with each command on one line, also where inline code is wrapped; without the marks of code blocks."""
    text = text.replace("```", "").replace("\\\n", " ")
    return re.sub(r"`[^`]+`", lambda code: code[0].replace("\n", " "), text)


def python_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each module that a page runs with `python -m`, with its arguments, wherever the command appears."""
    for module, arguments in re.findall(r"python -m ([\w.]+)([^`\"#&|\n]*)", join_commands(text)):
        yield module, shlex.split(arguments)


def make_commands(text: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The targets and the variables of each call of make on a page."""
    for command in re.findall(r"(?:^    |`)make ([^`#\n]+)", join_commands(text), re.MULTILINE):
        words = shlex.split(command)
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        yield [word for word in words if "=" not in word], variables


def heading_slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the code in an empty folder, on one device, as most readers have, and without drawing figures."""
    monkeypatch.chdir(tmp_path)
    choose_layout, one_device = parallel.choose_layout, ParallelConfig(devices=1)
    monkeypatch.setattr(parallel, "choose_layout", lambda config: choose_layout(replace(config, parallel=one_device)))
    for name, stub in RESULTS_STUBS.items():
        monkeypatch.setattr(results, name, stub)


@pytest.mark.usefixtures("sandbox")
def test_readme_code_runs_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    experiment, eight_models, own_model = python_blocks(_README)
    assert len([line for line in experiment.splitlines() if line.strip()]) < 28
    namespace: dict[str, Any] = {}
    exec(experiment, namespace)
    accuracy = re.search(r"accuracy=([\d.]+)", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.3

    exec(eight_models, namespace)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(namespace["states"])} == {8}
    kernels = namespace["states"].params["Conv_0"]["kernel"]
    assert len({kernel.tobytes() for kernel in jax.device_get(kernels)}) == 8

    exec(own_model, namespace)
    assert namespace["linear"].init(jax.random.key(0))[0]["kernel"].shape == (784, 10)


def _check_model_page(namespace: dict[str, Any]) -> None:
    assert np.isfinite(namespace["state"].params["kernel"]).all()
    assert (namespace["moved"].batch_stats["norm"]["mean"] != 0).all()
    assert namespace["curvature"]["Conv_0"]["kernel"].shape == namespace["start"].params["Conv_0"]["kernel"].shape
    assert namespace["losses"].shape == (3,)
    assert namespace["weighed"].step == 5
    tracked = namespace["tracked"]
    kernels = [tracked.slow[name]["kernel"] for name in ("short", "long")]
    assert jnp.abs(kernels[1] - tracked.params["kernel"]).max() > 0
    assert jnp.abs(kernels[0] - tracked.params["kernel"]).max() < jnp.abs(kernels[1] - tracked.params["kernel"]).max()
    assert np.isfinite(namespace["measured"]["gradient"])
    assert namespace["trained"].step == namespace["summary"]["steps"] == 5
    assert namespace["guesses"].shape == (len(namespace["test"]), 10)
    flags = ("--preset=demo", "--data.synthetic-train-size=200", "--data.synthetic-test-size=50", "--train.epochs=1")
    namespace["main"]([*flags, "--data.validation-size=0", "--run.dir=runs/mine"])
    trained = namespace["fj"].load_trained("runs/mine", make_recipe=namespace["of_linear"])
    assert (trained.config.preset, trained.params["kernel"].shape) == ("demo", (784, 10))
    assert {len(leaf) for leaf in jax.tree.leaves(namespace["gradients"])} == {64}
    assert namespace["state"].step == 60
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == ["40", "60"]


def _check_images_page(namespace: dict[str, Any]) -> None:
    for label, name in enumerate(("plain", "striped")):
        folder = Path("pictures") / name
        folder.mkdir(parents=True)
        Image.new("RGB", (9, 12), (100 + label, 0, 0)).save(folder / "a.png")
        (folder / "Thumbs.db").touch()
    images, labels = namespace["of_folders"]("pictures", ("plain", "striped"), height=10, width=8)
    assert (images.shape, labels.tolist()) == ((2, 10, 8), [0, 1])
    assert images[0].max() < images[1].min() + 1
    namespace["save_folders"]("folders.npz", "pictures", "pictures", ("plain", "striped"))
    config = namespace["fj"].DataConfig(name="npz", file="folders.npz", validation_size=0)
    folder_splits = namespace["fj"].load(config)
    assert (folder_splits.train.image_shape, folder_splits.test.class_names) == ((28, 28, 1), ("plain", "striped"))
    assert namespace["logits"].shape == (24, 3)
    assert namespace["params"]["Dense_0"]["kernel"].shape[1] == 5
    splits = namespace["fj"].load(namespace["fj"].DataConfig(name="npz", file="own.npz", validation_size=0))
    assert (splits.train.image_shape, splits.test.class_names) == ((16, 20, 3), ("plain", "striped", "dotted"))


def _check_devices_page(namespace: dict[str, Any]) -> None:
    np.testing.assert_allclose(namespace["probabilities"].sum(-1), 1.0, rtol=1e-5)
    assert namespace["states"].step.tolist() == [5, 5, 5]
    assert namespace["spread"].images.sharding.spec == jax.P("data")
    assert int(namespace["after"].step) == 1


def _check_transfer_page(namespace: dict[str, Any]) -> None:
    source, state = namespace["source"], namespace["state"]
    assert state.params["Dense_0"]["kernel"].shape == (16, 3)
    transferred = state.params["ResidualBlock_1"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(transferred, source.params["ResidualBlock_1"]["Conv_0"]["kernel"])
    # Adam keeps moments of the head only.
    assert {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} == {(), (3,), (16, 3)}


_PAGE_CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "model": _check_model_page,
    "images": _check_images_page,
    "devices": _check_devices_page,
    "transfer": _check_transfer_page,
}


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("page", [page for page in _DOCS if python_blocks(page)], ids=lambda page: page.stem)
def test_page_code_runs_from_top_to_bottom(page: Path) -> None:
    namespace: dict[str, Any] = {}
    for block in python_blocks(page):
        exec(block, namespace)
    _PAGE_CHECKS[page.stem](namespace)


def test_linen_convolution_of_the_model_page_computes_what_linen_does() -> None:
    (expression,) = re.findall(r"`(nn\.Conv\([^`]+)`", (_ROOT / "docs" / "model.md").read_text().replace("\n", " "))
    images = jax.random.normal(jax.random.key(0), (2, 9, 7, 3))
    plain: Any = linen.Conv(8, (3, 3))
    ours = eval(expression, {"nn": linen, "fj": fmnist_jax})
    variables = plain.init(jax.random.key(1), images)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours.apply)(variables, images))
    np.testing.assert_allclose(ours.apply(variables, images), plain.apply(variables, images), atol=1e-5)


@for_each_page
def test_referenced_presets_pictures_pages_and_headings_exist(page: Path) -> None:
    text = join_commands(page.read_text())
    assert set(re.findall(r"--preset (\w+)", text)) <= PRESETS.keys()
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        is_generated = re.fullmatch(r"api/\w+\.md", target)  # by docs/hooks.py, see test_docs
        path = page.parent / target if target else page
        assert is_generated or path.is_file(), target
        assert not anchor or anchor in heading_slugs(path), f"{target}#{anchor}"


@for_each_page
def test_every_command_on_a_page_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del capsys  # captures the output of --help
    text = page.read_text()
    for module, arguments in python_commands(text):
        if module.startswith(("fmnist_jax", "experiments")):
            _check_parses(module, arguments)
    known_targets = re.findall(r"^([\w-]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    for targets, variables in make_commands(text):
        assert set(targets) <= set(known_targets)
        for target in targets:
            given = shlex.split(variables.get("ARGS", ""))
            if given and target in _MAKE_ARGS:
                _check_parses(_MAKE_ARGS[target], given)
            elif target == "test":
                assert all((_ROOT / path).exists() for path in given)


def _check_parses(module: str, arguments: list[str]) -> None:
    """Checks that a module accepts these arguments, without running it; `[--flag]` and `...` are notation."""
    if module == "fmnist_jax":
        assert not arguments
    elif module == "fmnist_jax.train":
        with pytest.raises(SystemExit, match="0") if arguments == ["--help"] else nullcontext():
            train.parse(arguments, "train")
    elif module.startswith("fmnist_jax."):
        assert module.removeprefix("fmnist_jax.") in __main__.COMMANDS
        parse_arguments(importlib.import_module(module).Arguments, arguments, module)
    else:
        given = [re.sub(r"^\[(.*)\]$", r"\1", word) for word in arguments if word != "..."]
        arguments_class = getattr(importlib.import_module(module.replace("NAME", "seeds")), "Arguments", None)
        assert arguments_class or not given, f"{module} takes no arguments"
        if arguments_class:
            parse_arguments(arguments_class, given, module)


def test_invalid_command_on_a_page_is_detected() -> None:
    text = (
        "a `python -m fmnist_jax.predict RUN\nx` or\n    srun \\\n        python -m fmnist_jax.train --oops 1  # no\n"
    )
    assert list(python_commands(text)) == [
        ("fmnist_jax.predict", ["RUN", "x"]),
        ("fmnist_jax.train", ["--oops", "1"]),
    ]
    for module in ("fmnist_jax.train", "fmnist_jax.predict", "experiments.gpu_day"):
        with pytest.raises(ConfigError, match="oops"):
            _check_parses(module, ["RUN", "x", "--oops", "1"] if "predict" in module else ["--oops", "1"])
    with pytest.raises(ConfigError, match="--seeds"):
        _check_parses("experiments.results.record", ["--presets", "fast", "--seeds", "three"])


def test_call_of_make_is_split_into_targets_and_variables() -> None:
    text = 'run `make test\ntest-slow`, or\n    make train ARGS="--preset fast"   # a minute\nand make demo\n'
    assert list(make_commands(text)) == [(["test", "test-slow"], {}), (["train"], {"ARGS": "--preset fast"})]


def test_headings_have_the_anchors_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# How to add …\n\n```sh\n# a comment\n```\n\n## On a GPU: `wide`, 2-way\n")
    assert heading_slugs(page) == {"how-to-add-", "on-a-gpu-wide-2-way"}


def test_home_page_links_to_the_answers_of_common_questions() -> None:
    """Each question links to a page that contains the answer."""
    home = (_ROOT / "docs" / "index.md").read_text()
    answers = {
        "train on my own images?": "--data.file own.npz",
        "use my own model?": "fj.Model(init, apply)",
        "run this on eight GPUs?": "all GPUs of the machine",
        "get the same bits again?": "--train.seed 0 --run.dir",
    }
    for question, answer in answers.items():
        row = re.search(rf"\| {re.escape(question)} \| \[[^\]]+\]\((\w+\.md)\)", home)
        assert row is not None, question
        assert answer in (_ROOT / "docs" / row[1]).read_text()


def test_every_readme_section_fits_a_screen() -> None:
    """A screen shows some 60 lines."""
    sections = _README.read_text().split("\n## ")
    assert max(len(section.splitlines()) for section in sections) <= 60
