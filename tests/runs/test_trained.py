"""Loading a trained run: which checkpoint, which weights, and errors if there are none."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmnist_jax.config.record import to_dict
from fmnist_jax.config.schema import Config, DataConfig, ModelConfig, TrainConfig
from fmnist_jax.errors import CheckpointError, ConfigError, DataError, FmnistError
from fmnist_jax.functional.pixels import normalize
from fmnist_jax.functional.recipe import make_recipe
from fmnist_jax.functional.state import TrainState
from fmnist_jax.runs import checkpoint, numbering, store, trained
from fmnist_jax.runs.directory import RunDirectory

_CONFIG = Config(
    data=DataConfig(name="synthetic", synthetic_train_size=100, validation_size=0),
    model=ModelConfig(family="plain", widths=(4,), depths=(1,), dropout=0.3),
    train=TrainConfig(epochs=1, batch_size=10, eval_batch_size=4, average_decay=0.5),
)

_init_state = jax.jit(make_recipe(_CONFIG).init)


def _state(step: int) -> TrainState:
    """A state whose averaged weights depend on its step and differ from its latest weights."""
    state = _init_state(jax.random.key(step))
    assert state.averages is not None
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, -1), state.params)
    return replace(state, step=jnp.int32(step), params=params)


def _write_run(run: Path, scores: dict[int, float]) -> Path:
    directory = RunDirectory(run)
    directory.create()
    directory.write_json("config.json", to_dict(_CONFIG))
    with checkpoint.writing(run / "checkpoints") as writer:
        for step, score in scores.items():
            writer.save(_state(step), score)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_run(
        tmp_path_factory.mktemp("runs") / "run", {3: 0.5, 6: 0.75, 9: 0.75, 12: 0.25, 15: numbering.UNSCORED}
    )


def test_run_may_be_given_by_a_relative_path(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    assert trained.load_trained(Path("run"), "best").step == 9
    assert checkpoint.read_manifest(Path("run/checkpoints"), 9)["val_accuracy"] == 0.75


@pytest.mark.parametrize(("which", "step"), [("latest", 15), ("best", 9), ("12", 12), ("9", 9)])
def test_requested_checkpoint_is_loaded_with_its_averaged_weights(run: Path, which: str, step: int) -> None:
    loaded = trained.load_trained(run, which)
    assert (loaded.step, loaded.config) == (step, _CONFIG)
    averages = _state(step).averages
    assert averages is not None
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), loaded.weights, averages))


def test_directory_without_a_run_or_checkpoint_raises_and_stays_unchanged(tmp_path: Path, run: Path) -> None:
    with pytest.raises(FmnistError, match=r"has no config\.json: give a run directory"):
        trained.load_trained(tmp_path / "nowhere")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "config.json", bare)
    with pytest.raises(CheckpointError, match=r"checkpoints has no checkpoint"):
        trained.load_trained(bare)
    assert [path.name for path in bare.iterdir()] == ["config.json"]


def test_invalid_config_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_json("config.json", to_dict(replace(_CONFIG, train=replace(_CONFIG.train, epochs=-1))))
    with pytest.raises(ConfigError, match=r"--train\.epochs is -1"):
        trained.load_trained(tmp_path)


@pytest.mark.parametrize("item", ["state", "manifest"])
def test_damaged_checkpoint_error_lists_the_other_steps(run: Path, tmp_path: Path, item: str) -> None:
    run_copy = tmp_path / "run"
    shutil.copytree(run, run_copy)
    for path in (path for path in (run_copy / "checkpoints" / "12" / item).rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[::2])
    with pytest.raises(CheckpointError, match=r"checkpoint 12 in .* is damaged .*; others found: 9, 15$"):
        trained.load_trained(run_copy, "12")
    assert trained.load_trained(run_copy, "latest").step == 15


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_predictions_match_the_model_applied_to_each_image(run: Path, count: int) -> None:
    loaded = trained.load_trained(run)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)

    def apply_model(pixels: jnp.ndarray) -> np.ndarray:
        return np.asarray(loaded.model.apply(*loaded.weights, normalize(pixels), train=False)[0])

    logits = loaded.predict(images)
    assert logits.shape == (count, 10)
    assert logits.dtype == np.float32
    if not count:
        return
    plain, flipped = apply_model(jnp.asarray(images)), apply_model(jnp.asarray(images[:, :, ::-1]))
    np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loaded.predict(images, tta="mirror"), (plain + flipped) / 2, 1e-4, 1e-4)
    assert np.abs(plain - flipped).max() > 1e-3


def test_predict_is_compiled_once_per_padded_batch_size(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = trained.load_trained(run)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for count in (8, 9, 4, 3):
            loaded.predict(np.zeros((count, 28, 28, 1), np.uint8))
    compiled = [line for line in caplog.messages if line.startswith("Compiling jit(predict)")]
    assert len(compiled) == 1, caplog.messages


def test_tta_is_mirror_only_if_enabled_and_trained_on_mirrored_images(run: Path) -> None:
    model = trained.load_trained(run)
    for flip, photo_probability, eval_mirror, expected in (
        ("random", 0.0, True, "mirror"),
        ("alternating", 0.0, False, "none"),
        ("none", 0.0, True, "none"),
        ("none", 0.5, True, "mirror"),  # half of the varied images are mirrored too
    ):
        config = replace(
            model.config,
            augment=replace(model.config.augment, flip=flip, photo_probability=photo_probability),  # type: ignore[arg-type]
            train=replace(model.config.train, eval_mirror=eval_mirror),
        )
        assert model._replace(config=config).tta == expected


def test_step_may_be_an_integer_and_unknown_tta_is_refused(run: Path) -> None:
    model = trained.load_trained(run, 9)
    assert model.step == 9
    with pytest.raises(FmnistError, match="tta is 'mirrored': choose one of none, mirror"):
        model.predict(np.zeros((1, 28, 28), np.uint8), tta="mirrored")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="the checkpoint is '7': choose best, latest, or a step of"):
        trained.load_trained(run, 7)


def test_run_with_a_key_of_another_implementation_is_loaded(tmp_path: Path) -> None:
    """As in runs from before all runs used threefry regardless of JAX's default."""
    run = _write_run(tmp_path / "run", {})
    state = _init_state(jax.random.key(3, impl="rbg"))
    with checkpoint.writing(run / "checkpoints") as writer:
        writer.save(replace(state, step=jnp.int32(3)), 0.5)
    loaded = trained.load_trained(run)
    assert state.averages is not None
    jax.tree.map(np.testing.assert_array_equal, loaded.params, state.averages.params)


def _before_restoring(step: int, act: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a training act on the directory of the checkpoints when one of a step has been chosen, but not yet read."""
    restore = checkpoint.restore

    def act_then_restore(directory: Path, chosen: int, like: TrainState, **options: Any) -> TrainState:
        if chosen == step:
            act(directory)
        return restore(directory, chosen, like, **options)

    monkeypatch.setattr(checkpoint, "restore", act_then_restore)


def test_latest_falls_back_to_the_newest_left_if_deleted_while_being_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    _before_restoring(15, lambda directory: shutil.rmtree(directory / "15"), monkeypatch)
    assert trained.load_trained(tmp_path / "run").step == 12


def test_best_is_chosen_anew_if_it_is_superseded_while_being_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    _before_restoring(9, lambda directory: checkpoint.save(directory, _state(18), 0.99), monkeypatch)
    assert trained.load_trained(tmp_path / "run", "best").step == 18
    assert not (tmp_path / "run" / "checkpoints" / "9").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"\(Permission denied\): give yourself permission"),
        (ValueError("PERMISSION_DENIED [os_error_code='13']"), r"\(Permission denied\): give yourself permission"),
        (ValueError("PERMISSION_DENIED: Error"), r"\(Permission denied\): give yourself permission"),
        (OSError(errno.EMFILE, "Too many open files"), r"\(Too many open files\): allow more open files"),
        (ValueError("Failed to open [os_error_code='24']"), r"\(Too many open files\): allow more open files"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"\(Cannot allocate memory\): free memory"),
        (OSError(errno.ESTALE, "Stale file handle"), r"\(Stale file handle\): check the disk or the network drive"),
    ],
)
def test_checkpoint_that_the_system_cannot_read_is_not_reported_as_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def deny(*_: object) -> None:
        raise error

    monkeypatch.setattr(store, "read_manifest", deny)
    with pytest.raises(FmnistError, match=f"cannot be read {expected}") as exc_info:
        store.read(run / "checkpoints" / "15")
    assert not isinstance(exc_info.value, CheckpointError)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "No such file"), ValueError("NOT_FOUND [os_error_code='2']")]
)
def test_checkpoint_of_which_a_file_is_missing_is_reported_as_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def miss(*_: object) -> None:
        raise error

    monkeypatch.setattr(store, "read_manifest", miss)
    with pytest.raises(CheckpointError, match="is damaged"):
        store.read(run / "checkpoints" / "15")


def test_invalid_value_in_config_json_is_reported_with_the_path_of_the_file(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = (tmp_path / "run" / "config.json").read_text()
    (tmp_path / "run" / "config.json").write_text(config.replace('"epochs": 1,', '"epochs": -3,'))
    with pytest.raises(ConfigError, match=r"^in .*run/config\.json: --train\.epochs is -3.*; restore what the run"):
        trained.load_trained(tmp_path / "run")


def test_traced_images_are_refused_with_what_to_call_instead(run: Path) -> None:
    model = trained.load_trained(run)
    with pytest.raises(DataError, match=r"are traced by JAX: use fmnist_jax\.make_predict\(trained\.model\)"):
        jax.jit(model.predict)(np.zeros((1, *model.image_shape), np.uint8))
