"""Exported files, each loaded by its own runtime and compared with the model that it was exported from."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export
from scipy.special import softmax

from fmnist_jax.commands import exporting, formats
from fmnist_jax.commands.formats import Format
from fmnist_jax.config.schema import Config, ModelConfig, PopulationConfig, TrainConfig
from fmnist_jax.data.synthetic import draw
from fmnist_jax.errors import CheckpointError, FmnistError
from fmnist_jax.functional.labels import CLASS_NAMES
from fmnist_jax.functional.model import make_model
from fmnist_jax.functional.state import Weights
from fmnist_jax.runs.trained import Trained, load_trained
from tests.ended import loading_meanwhile

# One stage of direct convolutions, and one that is computed in Winograd form on a CPU.
_MIXED_CONVOLUTIONS = ModelConfig(family="plain", widths=(32, 32, 64), depths=(1, 1, 2))
# Loads an exported program as its model card describes, with this package, Flax, Optax and Orbax not importable.
_READER = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fmnist_jax", "flax", "optax", "orbax"):
            raise ImportError(name)

sys.meta_path.insert(0, Refusing())
import numpy as np
from jax import export
model = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], *(model.call(images[:count]) for count in (1, 3, 500)))
"""


def _images(count: int) -> np.ndarray:
    return draw(count, 0)[0]


def _make_trained(network: ModelConfig, *, mirror: bool = False, members: int = 1) -> Trained:
    """A model with batch statistics unlike the initial ones, which is not certain of any class."""
    model = make_model(network)

    def make_weights(seed: int) -> Weights:
        params, batch_stats = jax.jit(model.init)(jax.random.key(seed))
        rng = np.random.default_rng(seed)
        perturbed_stats = jax.tree.map(lambda leaf: leaf + np.float32(rng.uniform(0, 0.5, leaf.shape)), batch_stats)
        return Weights(params, perturbed_stats)

    member_weights = [make_weights(seed) for seed in range(members)]
    stacked = member_weights[0] if members == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *member_weights)
    train = TrainConfig(eval_mirror=mirror, eval_batch_size=250)
    config = Config(model=network, train=train, population=PopulationConfig(seeds=members))
    return Trained(config, model, stacked, 5, (28, 28, 1), CLASS_NAMES)


def _predict_probabilities(model: Trained, images: np.ndarray) -> np.ndarray:
    return np.asarray(softmax(model.predict(images, tta=model.tta).astype(np.float64), axis=-1))


def test_jaxexport_program_runs_without_this_package_and_matches_the_model(tmp_path: Path) -> None:
    model = _make_trained(_MIXED_CONVOLUTIONS, mirror=True)
    (tmp_path / "model").write_bytes(exporting.to_jaxexport(model))
    images = _images(500)
    np.save(tmp_path / "images.npy", images)
    arguments = [str(tmp_path / name) for name in ("model", "images.npy", "found.npz")]
    subprocess.run([sys.executable, "-c", _READER, *arguments], check=True, timeout=120)
    expected = _predict_probabilities(model, images)
    assert expected.std(0).min() > 1e-3
    assert expected.max(-1).mean() < 0.9
    with np.load(tmp_path / "found.npz") as actual:
        for name, count in zip(actual.files, (1, 3, 500), strict=True):
            assert actual[name].dtype == np.float32
            np.testing.assert_allclose(actual[name], expected[:count], atol=1e-6)
    assert np.abs(expected - softmax(model.predict(images), axis=-1)).max() > 1e-3


@pytest.mark.parametrize(
    ("network", "members"),
    [
        (ModelConfig(widths=(4, 6), depths=(1, 1)), 1),
        (ModelConfig(stem="full", widths=(4, 6), depths=(1, 1)), 1),
        (ModelConfig(family="plain", pooling="mean", widths=(4, 6), depths=(1, 1)), 3),
    ],
)
def test_jaxexport_program_supports_all_platforms_and_any_batch_size(network: ModelConfig, members: int) -> None:
    model = _make_trained(network, members=members)
    exported = export.deserialize(bytearray(exporting.to_jaxexport(model)))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    (input_aval,), (output_aval,) = exported.in_avals, exported.out_avals
    assert (str(input_aval.dtype), str(output_aval.dtype)) == ("uint8", "float32")
    assert (input_aval.shape[1:], output_aval.shape[1:]) == ((28, 28, 1), (10,))
    for count in (1, 5):
        np.testing.assert_allclose(
            exported.call(_images(count)), _predict_probabilities(model, _images(count)), atol=1e-6
        )


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_safetensors_weights_give_the_same_logits_in_pytorch(pooling: str, tmp_path: Path) -> None:
    numpy_reader = pytest.importorskip("safetensors.numpy", reason="the extra export is not installed")
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from experiments.benchmark import networks, pytorch_side, pytorch_weights

    model = _make_trained(replace(_MIXED_CONVOLUTIONS, widths=(4, 6, 8), depths=(1, 1, 2), pooling=pooling))  # type: ignore[arg-type]
    network = pytorch_side.build(networks.layers_of(model.config.model))
    pytorch_weights.load(network, numpy_reader.load(exporting.to_safetensors(model)))
    images = _images(7)
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)))
    np.testing.assert_allclose(logits, model.predict(images), atol=1e-4)


def test_safetensors_holds_the_model_weights_and_the_metadata_to_use_them(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="the extra export is not installed")
    model = _make_trained(ModelConfig(widths=(4,), depths=(1,)), members=2)
    (tmp_path / "model").write_bytes(exporting.to_safetensors(model))
    with safetensors.safe_open(tmp_path / "model", "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert len(tensors) == len(jax.tree.leaves(model.weights))
    np.testing.assert_array_equal(tensors["params.Conv_0.kernel"], model.params["Conv_0"]["kernel"])
    variance = model.batch_stats["ResidualBlock_0"]["BatchNorm_1"]["var"]
    np.testing.assert_array_equal(tensors["batch_stats.ResidualBlock_0.BatchNorm_1.var"], variance)
    assert json.loads(metadata["class_names"]) == list(CLASS_NAMES)
    assert json.loads(metadata["image_shape"]) == [28, 28, 1]
    assert json.loads(metadata["config"])["population"] == {"seeds": 2}
    assert metadata["layout"].startswith("convolutions [height, width, in, out]")


def test_onnx_graph_gives_the_same_probabilities_in_onnx_runtime() -> None:
    pytest.importorskip("onnx", reason="the extra export is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra dev is not installed anew")
    model = _make_trained(ModelConfig(widths=(4, 6), depths=(1, 1)), mirror=True, members=2)
    session = onnxruntime.InferenceSession(exporting.to_onnx(model), providers=["CPUExecutionProvider"])
    assert "layout" not in session.get_modelmeta().custom_metadata_map  # whose kernels are [out, in, height, width]
    for count in (1, 3, 500):
        (actual,) = session.run(None, {"images": _images(count)})
        np.testing.assert_allclose(actual, _predict_probabilities(model, _images(count)), atol=1e-5)


@pytest.fixture
def fake_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes exports write the names of formats instead of models, which other tests cover."""
    monkeypatch.setattr(formats, "_missing_package_message", lambda _: None)
    monkeypatch.setattr(
        exporting, "_WRITERS", {name: lambda _, name=name: name.encode() for name in formats.FORMAT_FILES}
    )


@pytest.mark.usefixtures("fake_writers")
def test_export_writes_model_files_and_card_and_rejects_a_nonempty_out(saved_run: Path, tmp_path: Path) -> None:
    names = exporting.run(saved_run, tmp_path / "out")
    assert sorted(names) == sorted(item.name for item in (tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"onnx"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "On 70 test images (evaluated for this export)" in card
    assert "step 5 of 10" in card
    assert "trained with jax 1.0" in card
    assert exporting.run(saved_run, tmp_path / "one", ["onnx"]) == ["model.onnx", "README.md"]
    with pytest.raises(FmnistError, match="has files in it: choose another OUT"):
        exporting.run(saved_run, tmp_path / "one", ["onnx"])


@pytest.mark.usefixtures("fake_writers")
def test_finished_run_is_exported_with_recorded_predictions_without_loading_data(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    labels = np.arange(70, dtype=np.int32) % 10
    logits = np.eye(10, dtype=np.float32)[labels]
    np.savez(run / "predictions.npz", logits=-logits, labels=labels, mirrored_logits=logits)
    (run / "summary.json").write_text(json.dumps({"test_accuracy": 0.0, "test_accuracy_of_mirror_images": 0.25}))
    assert load_trained(run).tta == "mirror"
    exporting.run(run, tmp_path / "early")
    assert "evaluated for this export" in (tmp_path / "early" / "README.md").read_text()

    finished = load_trained(run)._replace(step=10)
    monkeypatch.setattr("fmnist_jax.commands.exporting.trained.load_trained", lambda *_: finished)
    monkeypatch.setattr(exporting, "load", lambda _: pytest.fail("the data set was loaded"))
    exporting.run(run, tmp_path / "late")
    card = (tmp_path / "late" / "README.md").read_text()
    assert "| accuracy | 100.00 %" in card
    assert "recorded at the end of the run" in card
    assert "averaged in | 0.00 %" in card
    assert "not averaged | 25.00 %" in card


@pytest.mark.usefixtures("fake_writers")
def test_card_names_the_function_that_composed_the_run(saved_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    (run / "recipe.json").write_text(json.dumps({"make_recipe": "my_recipe", "own_network": False}))
    exporting.run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- composed by `my_recipe` in place of `fmnist_jax.make_recipe`, so loss" in card
    assert "- augmentation: " not in card


@pytest.mark.usefixtures("fake_writers")
def test_run_that_goes_on_while_its_images_are_loaded_is_exported_as_it_was(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved_run, run)
    monkeypatch.setattr(exporting, "load", loading_meanwhile(run))
    exporting.run(run, tmp_path / "out")
    assert "step 5 of 10" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("fake_writers")
def test_missing_run_or_checkpoint_is_rejected_and_nothing_is_written(saved_run: Path, tmp_path: Path) -> None:
    for run, which, error in ((tmp_path / "none", "latest", FmnistError), (saved_run, "7", CheckpointError)):
        with pytest.raises(error):
            exporting.run(run, tmp_path / "out", which=which)
        assert list(tmp_path.iterdir()) == []


def test_weights_that_a_format_cannot_hold_are_refused_before_anything_is_written(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _make_trained(replace(_MIXED_CONVOLUTIONS, widths=(4,), depths=(1,)))
    formats: list[Format] = ["jaxexport", "onnx", "safetensors"]
    exporting._refuse_large(model, formats)
    monkeypatch.setattr(exporting, "_MAX_BYTES", 100)
    exporting._refuse_large(model, formats[2:])
    with pytest.raises(FmnistError, match=r"bytes, more than jaxexport and onnx can hold \(100\): use --formats safe"):
        exporting._refuse_large(model, formats)
    with pytest.raises(FmnistError, match=r"bytes, more than jaxexport"):
        exporting.run(saved_run, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
