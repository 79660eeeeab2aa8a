"""Reading a run back: which checkpoint, whose weights, and what is said when there is none."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from fmnist_jax.errors import CheckpointError, ConfigError, FmnistError
from fmnist_jax.functional.augment import normalize
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import checkpoint, numbering, store, trained
from fmnist_jax.runs.directory import RunDirectory

_CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=100, validation_size=0),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3),
    train=TrainConfig(epochs=1, batch_size=10, eval_batch_size=4, average_decay=0.5),
)

_initialized = jax.jit(make_recipe(_CONFIG).init)


def _state(step: int) -> TrainState:
    """A state whose weights tell its step, and its averages from its latest weights."""
    state = _initialized(jax.random.key(step))
    assert state.averages is not None
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, -1), state.params)
    return replace(state, step=jnp.int32(step), params=params)


def _write(run: Path, scores: dict[int, float]) -> Path:
    directory = RunDirectory(run)
    directory.create()
    directory.write_json("config.json", to_dict(_CONFIG))
    with checkpoint.writing(run / "checkpoints") as writer:
        for step, score in scores.items():
            writer.save(_state(step), score)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("runs") / "run", {3: 0.5, 6: 0.75, 9: 0.75, 12: 0.25, 15: numbering.UNSCORED})


def test_a_run_may_be_named_from_where_one_stands(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    assert trained.load_trained(Path("run"), "best").step == 9
    assert checkpoint.read_manifest(Path("run/checkpoints"), 9)["val_accuracy"] == 0.75


@pytest.mark.parametrize(("which", "step"), [("latest", 15), ("best", 9), ("12", 12), ("9", 9)])
def test_the_checkpoint_that_is_asked_for_is_loaded(run: Path, which: str, step: int) -> None:
    loaded = trained.load_trained(run, which)
    assert (loaded.step, loaded.config) == (step, _CONFIG)
    averages = _state(step).averages
    assert averages is not None
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), loaded.weights, averages))


@pytest.mark.parametrize("which", ["3", "10", "-9", "newest", "", "9.0"])
def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(run: Path, which: str) -> None:
    with pytest.raises(CheckpointError, match=f"is '{which}': choose best, latest, or a step of .*: 9, 12, 15$"):
        trained.load_trained(run, which)


def test_none_is_best_where_none_was_scored(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", dict.fromkeys((1, 2), numbering.UNSCORED))
    with pytest.raises(CheckpointError, match=r"scored on validation images: choose latest, or a step: 1, 2$"):
        trained.load_trained(run, "best")
    assert trained.load_trained(run).step == 2


def test_a_directory_without_a_run_or_a_checkpoint_says_so(tmp_path: Path, run: Path) -> None:
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory"):
        trained.load_trained(tmp_path / "nowhere")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "config.json", bare)
    with pytest.raises(CheckpointError, match=r"checkpoints has no checkpoint"):
        trained.load_trained(bare)
    assert [path.name for path in bare.iterdir()] == ["config.json"]


def test_an_impossible_configuration_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_json("config.json", to_dict(replace(_CONFIG, train=replace(_CONFIG.train, epochs=-1))))
    with pytest.raises(ConfigError, match=r"--train\.epochs is -1"):
        trained.load_trained(tmp_path)


@pytest.mark.parametrize("item", ["state", "manifest"])
def test_a_damaged_checkpoint_is_named_beside_those_at_hand(run: Path, tmp_path: Path, item: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for path in (path for path in (copy / "checkpoints" / "12" / item).rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[::2])
    with pytest.raises(CheckpointError, match=r"checkpoint 12 in .* is damaged .*; others found: 9, 15$"):
        trained.load_trained(copy, "12")
    assert trained.load_trained(copy, "latest").step == 15


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_predictions_are_those_of_the_model_on_each_image(run: Path, count: int) -> None:
    loaded = trained.load_trained(run)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)

    def by_hand(pixels: jnp.ndarray) -> np.ndarray:
        return np.asarray(loaded.model.apply(*loaded.weights, normalize(pixels), train=False)[0])

    logits = loaded.predict(images)
    assert logits.shape == (count, 10)
    assert logits.dtype == np.float32
    if not count:
        return
    plain, flipped = by_hand(jnp.asarray(images)), by_hand(jnp.asarray(images[:, :, ::-1]))
    np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loaded.predict(images, tta="mirror"), (plain + flipped) / 2, 1e-4, 1e-4)
    assert np.abs(plain - flipped).max() > 1e-3


def test_a_model_is_compiled_once_for_up_to_a_power_of_two_of_images(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = trained.load_trained(run)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for count in (8, 9, 4, 3):
            loaded.predict(np.zeros((count, 28, 28, 1), np.uint8))
    compiled = [line for line in caplog.messages if line.startswith("Compiling jit(predict)")]
    assert len(compiled) == 1, caplog.messages


def test_mirror_images_serve_a_network_that_has_seen_some(run: Path) -> None:
    model = trained.load_trained(run)
    for flip, varied, mirror, tta in (
        ("random", 0.0, True, "mirror"),
        ("alternating", 0.0, False, "none"),
        ("none", 0.0, True, "none"),
        ("none", 0.5, True, "mirror"),  # half of what is varied is mirrored, too
    ):
        config = replace(
            model.config,
            augment=replace(model.config.augment, flip=flip, photo_probability=varied),  # type: ignore[arg-type]
            train=replace(model.config.train, eval_mirror=mirror),
        )
        assert model._replace(config=config).tta == tta


def test_a_step_may_be_a_number_and_an_unknown_way_to_predict_is_refused(run: Path) -> None:
    model = trained.load_trained(run, 9)
    assert model.step == 9
    with pytest.raises(FmnistError, match="tta is 'mirrored': choose one of none, mirror"):
        model.predict(np.zeros((1, 28, 28), np.uint8), tta="mirrored")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="the checkpoint is '7': choose best, latest, or a step of"):
        trained.load_trained(run, 7)


def test_a_run_whose_key_is_of_another_kind_is_read_all_the_same(tmp_path: Path) -> None:
    """As of before runs began with threefry whatever JAX's default was."""
    run = _write(tmp_path / "run", {})
    state = _initialized(jax.random.key(3, impl="rbg"))
    with checkpoint.writing(run / "checkpoints") as writer:
        writer.save(replace(state, step=jnp.int32(3)), 0.5)
    loaded = trained.load_trained(run)
    assert state.averages is not None
    jax.tree.map(np.testing.assert_array_equal, loaded.params, state.averages.params)


def test_a_checkpoint_that_makes_room_while_it_is_read_gives_way_to_the_newest(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    restore = checkpoint.restore

    def rotated(directory: Path, step: int, like: TrainState) -> TrainState:
        if step == 15:
            shutil.rmtree(directory / "15")
        return restore(directory, step, like)

    monkeypatch.setattr(checkpoint, "restore", rotated)
    assert trained.load_trained(tmp_path / "run").step == 12


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store, "read_manifest", refused)
    with pytest.raises(FmnistError, match=r"cannot be read .*: give yourself permission") as caught:
        store.read(run / "checkpoints" / "15")
    assert not isinstance(caught.value, CheckpointError)


def test_a_value_of_a_run_is_not_told_as_a_flag(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(config.replace('"epochs": 1,', '"epochs": -3,'))
    with pytest.raises(ConfigError, match=r"^in .*run/config\.json: --train\.epochs is -3.*; restore what the run"):
        trained.load_trained(tmp_path / "run")
