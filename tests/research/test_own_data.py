"""A user's own data: passed from Python, as an .npz file, or as the four IDX files of MNIST."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import fmnist_jax as fj
from fmnist_jax.commands import answers, evaluation, prediction, reporting
from fmnist_jax.runs import results
from tests.data.test_idx import write
from tests.undrawn import RESULTS_STUBS

pytestmark = pytest.mark.slow

_CLASS_NAMES = ("red", "green", "blue")
_CONFIG = fj.Config(
    model=fj.ModelConfig(family="plain", widths=(4,), depths=(1,)),
    data=fj.DataConfig(validation_size=6),
    augment=fj.AugmentConfig(crop_padding=1, cutmix_alpha=1.0),
    train=fj.TrainConfig(epochs=4, batch_size=16, eval_batch_size=16),
    parallel=fj.ParallelConfig(devices=1),
    run=fj.RunConfig(progress="plain"),
)


def _colour_dataset(size: int, seed: int) -> fj.Dataset:
    """Noise, brighter in the colour that names the class."""
    labels = np.arange(size) % 3
    images = np.random.default_rng(seed).integers(0, 128, (size, 8, 10, 3), dtype=np.uint8)
    images[np.arange(size), :, :, labels] += 127
    return fj.Dataset(images, labels, _CLASS_NAMES)


_SPLITS = fj.Splits(_colour_dataset(96, 0), _colour_dataset(6, 1), _colour_dataset(24, 2))


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[fj.Config, Path]:
    path = tmp_path_factory.mktemp("runs") / "own"
    config = replace(_CONFIG, run=fj.RunConfig(dir=str(path), progress="plain"))  # type: ignore[arg-type]
    summary = fj.run(config, _SPLITS)
    assert (summary["test_accuracy"], summary["steps"]) == (1.0, 24)
    return config, path


@pytest.fixture
def stub_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stand_in in RESULTS_STUBS.items():
        monkeypatch.setattr(results, name, stand_in)


def test_run_on_own_splits_trains_records_and_reports(trained_run: tuple[fj.Config, Path]) -> None:
    _, path = trained_run
    trained = fj.load_trained(str(path), "best")
    assert (trained.image_shape, trained.class_names) == ((8, 10, 3), _CLASS_NAMES)
    assert trained.predict(_SPLITS.test.images).argmax(-1).tolist() == _SPLITS.test.labels.tolist()
    assert trained.config.data == fj.DataConfig(name="own", total=102, validation_size=6)
    recorded = {"image_shape": [8, 10, 3], "class_names": list(_CLASS_NAMES)}
    assert json.loads((path / "dataset.json").read_text()) == recorded
    assert "red" in (path / "report.html").read_text()


def test_crop_padding_that_could_remove_the_whole_image_is_refused(tmp_path: Path) -> None:
    config = replace(_CONFIG, augment=fj.AugmentConfig(crop_padding=5), run=fj.RunConfig(dir=tmp_path / "run"))
    with pytest.raises(fj.ConfigError, match="crop-padding is 5, but the images have 8x10 pixels: choose at most 4"):
        fj.run(config, _SPLITS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("stub_drawing")
def test_run_resumes_only_with_the_same_splits(
    trained_run: tuple[fj.Config, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = trained_run
    before = (path / "summary.json").read_text()
    assert fj.run(config, _SPLITS) == json.loads(before)
    other_splits = _SPLITS._replace(test=_colour_dataset(24, 3))
    with pytest.raises(fj.CheckpointError, match=r"was trained on images with digest .*: restore the original data"):
        fj.run(config, other_splits)
    (path / "summary.json").unlink()
    try:
        with pytest.raises(fj.CheckpointError, match=r"was trained on images with digest .*: restore the original"):
            fj.run(config, other_splits)
        with pytest.raises(fj.CheckpointError, match=r"data\.total: 102 -> 96"):
            fj.run(config, _SPLITS._replace(validation=_SPLITS.train.take(np.array([], int))))
        with pytest.raises(fj.DataError, match=r"are not available here: .* fmnist_jax\.run\(config"):
            fj.run(replace(config, data=fj.load_trained(path).config.data))
        renamed = fj.Splits(*(replace(split, class_names=("a", "b", "c")) for split in _SPLITS))
        with pytest.raises(fj.CheckpointError, match=r"\(red, green, blue\), and those found are of .*\(a, b, c\)"):
            fj.run(config, renamed)
        capsys.readouterr()
        assert fj.run(config, _SPLITS)["state_digest"] == json.loads(before)["state_digest"]
        assert "resuming from step 24 of 24" in capsys.readouterr().out
    finally:
        (path / "summary.json").write_text(before)


def test_run_is_evaluated_and_reported_with_given_splits(trained_run: tuple[fj.Config, Path]) -> None:
    _, path = trained_run
    for command in (evaluation.run, reporting.run):
        with pytest.raises(fj.DataError, match=r"or as splits=\.\.\. to fmnist_jax\.commands\.evaluation\.run, report"):
            command(path)
    result = evaluation.run(str(path), split="validation", tta="mirror", splits=_SPLITS)
    assert result.assessment.accuracy == 1.0
    assert len(list((path / "evaluation" / "validation").glob("*.png"))) == 9
    assert reporting.run(str(path), splits=_SPLITS) == path / "report.html"


def test_pictures_are_predicted_by_class_name(trained_run: tuple[fj.Config, Path], tmp_path: Path) -> None:
    _, path = trained_run
    from PIL import Image

    for number, name in enumerate(_CLASS_NAMES):
        Image.fromarray(np.repeat(np.repeat(_SPLITS.test.images[number], 9, 0), 9, 1)).save(tmp_path / f"{name}.png")
    report = prediction.run(path, [str(tmp_path)], max_previews=9)
    answers.write_previews(tmp_path / "sheet" / "seen.png", report)
    answers.write_previews(tmp_path / "sheet" / "seen.html", report)
    predictions = json.loads(answers.to_json(report))["predictions"]
    assert {Path(prediction["file"]).stem: prediction["top"][0]["name"] for prediction in predictions} == {
        name: name for name in _CLASS_NAMES
    }


@pytest.mark.usefixtures("stub_drawing")
def test_npz_file_is_trained_on_and_found_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train, test = _colour_dataset(60, 0), _colour_dataset(9, 1)
    np.savez("own.npz", train_images=train.images, train_labels=train.labels, test_images=test.images,
             test_labels=test.labels, class_names=np.array(_CLASS_NAMES))  # fmt: skip
    data = fj.DataConfig(name="npz", file="own.npz", validation_size=6)  # type: ignore[arg-type]
    config = replace(_CONFIG, data=data, run=replace(_CONFIG.run, dir=Path("run")))
    assert fj.run(config)["steps"] == 14
    assert fj.run(config)["steps"] == 14
    assert json.loads(Path("run/config.json").read_text())["data"]["total"] == 60
    monkeypatch.chdir("/")
    splits = fj.load(fj.load_trained(tmp_path / "run").config.data)
    assert (len(splits.train), splits.test.class_names) == (54, _CLASS_NAMES)


@pytest.mark.parametrize("compressed", [True, False])
def test_four_idx_files_are_loaded_as_a_dataset(compressed: bool, tmp_path: Path) -> None:
    arrays = write(tmp_path / "raw", compressed=compressed)
    splits = fj.load(fj.DataConfig(name="idx", raw_dir=tmp_path / "raw", validation_size=0))
    np.testing.assert_array_equal(splits.test.images[..., 0], arrays["test_images"])
    assert (len(splits.train), splits.train.image_shape, splits.train.class_names) == (3, (9, 8, 1), ("0", "1", "2"))


def test_config_that_does_not_fit_the_files_is_refused_without_a_run_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "raw", compressed=False)
    data = fj.DataConfig(name="idx", raw_dir=tmp_path / "raw", validation_size=0)
    config = replace(_CONFIG, data=data, run=replace(_CONFIG.run, dir=tmp_path / "run"))
    deep = fj.ModelConfig(widths=(4,) * 4, depths=(1,) * 4)
    with jax.log_compiles():
        with pytest.raises(fj.ConfigError, match=r"more than the 3 training images"):
            fj.run(config)
        with pytest.raises(fj.ConfigError, match=r"4 stages, which halve 9x8 to nothing"):
            fj.run(replace(config, model=deep, train=replace(config.train, batch_size=2)))
        assert not any(message.startswith("Compiling") for message in caplog.messages)
        jax.jit(lambda: 1)()
        assert any(message.startswith("Compiling") for message in caplog.messages)
    assert not (tmp_path / "run").exists()
