"""The research experiments: each asks its question in seconds, and its parts are held against what they should say."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from experiments import first_kernels
from experiments.research import (
    calibration,
    curvature,
    label_noise,
    rates,
    robustness,
    seeds,
    sizes,
    study,
    transfer,
    whitening,
)
from fmnist_jax import (
    Batch,
    Config,
    DataConfig,
    Dataset,
    FmnistError,
    ModelConfig,
    TrainConfig,
    Weights,
    init_state,
    make_model,
    make_recipe,
)

pytestmark = pytest.mark.slow

_EXPERIMENTS: dict[str, Any] = {
    "seeds": seeds,
    "rates": rates,
    "sizes": sizes,
    "robustness": robustness,
    "label-noise": label_noise,
    "transfer": transfer,
    "calibration": calibration,
    "curvature": curvature,
    "whitening": whitening,
}
_RESULTS = study.RESULTS


@pytest.fixture(scope="module", params=_EXPERIMENTS)
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """An experiment's name, the folder that it wrote into, and what it returned."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    return name, out, _EXPERIMENTS[name].main(_EXPERIMENTS[name].Arguments(quick=True, out=out))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, float) else []


def test_an_experiment_writes_its_answer_with_its_origin_and_a_figure(tried: tuple[str, Path, dict[str, Any]]) -> None:
    name, out, record = tried
    assert {path.name for path in out.iterdir()} == {f"{name}.json", f"{name}.png"}
    text = (out / f"{name}.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(record))
    assert str(out) not in text
    assert record.keys() >= {
        "experiment",
        "data",
        "seconds",
        "found",
        "configuration",
        "hardware",
        "versions",
        "commit",
    }
    assert record["data"] == "synthetic"
    numbers = _numbers(record["found"])
    assert len(numbers) > 5
    assert np.isfinite(numbers).all()
    with Image.open(out / f"{name}.png") as picture:
        assert picture.size > (300, 250)


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_an_experiment_is_short_and_says_what_it_asks_how_and_what_came_of_it(name: str) -> None:
    module = _EXPERIMENTS[name]
    assert len(Path(module.__file__).read_text().splitlines()) < 150
    asked = rf".*\? `python -m experiments\.research\.{Path(module.__file__).stem}( RUN\.\.\.)?`\.\n\n"
    assert re.match(asked, module.__doc__)
    assert "Measured" in module.__doc__


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_an_answer_is_backed_by_a_committed_file_of_the_real_images(name: str) -> None:
    result = json.loads((_RESULTS / f"{name}.json").read_text())
    assert result["experiment"] == name
    assert result["data"] == "fashion_mnist"
    assert re.fullmatch("[0-9a-f]{40}", result["commit"])
    assert (_RESULTS / f"{name}.png").stat().st_size < 100_000


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_what_an_answer_says_in_percent_is_in_its_file(name: str) -> None:
    said = re.findall(r"(\d+\.\d+)\s%", _EXPERIMENTS[name].__doc__.partition("Measured")[2])
    assert said or name == "curvature"  # which says nothing in per cent
    numbers = 100 * np.array(_numbers(json.loads((_RESULTS / f"{name}.json").read_text())["found"]))
    # As they are, or as the means of the two or three seeds that stand together.
    known = np.concatenate([np.convolve(numbers, np.full(size, 1 / size), "valid") for size in (1, 2, 3)])
    for number in map(float, said):
        assert np.abs(known - number).min() < 0.06, number


def test_what_is_tried_out_does_not_become_a_result() -> None:
    with pytest.raises(FmnistError, match="does not produce results: choose another --out"):
        seeds.main(seeds.Arguments(quick=True, out=study.RESULTS))


@pytest.mark.parametrize("experiment", [robustness, calibration])
def test_runs_are_asked_for_and_must_be_of_the_real_images(experiment: Any, tmp_path: Path, saved_run: Path) -> None:
    arguments = experiment.Arguments(out=tmp_path)
    for runs, says in (((), "RUN is missing"), ((saved_run,), "saved was trained on synthetic")):
        with pytest.raises(FmnistError, match=says):
            study.trained_models(arguments, runs)


def test_runs_of_one_name_are_refused_and_any_number_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match="several runs are called fast: rename their directories"):
        study.trained_models(calibration.Arguments(), [tmp_path / "a" / "fast", tmp_path / "b" / "fast"])
    for experiment in (robustness, calibration):
        found = json.loads((study.RESULTS / f"{experiment.__name__.rpartition('.')[2]}.json").read_text())["found"]
        (run,) = found["runs"].values()
        found["runs"] = {f"run {number}": run for number in range(9)}
        legend = experiment.figure(found).axes[0].get_legend_handles_labels()[1]
        assert {label.partition(",")[0] for label in legend} == found["runs"].keys()


def test_images_that_would_not_be_seen_once_are_refused() -> None:
    with pytest.raises(FmnistError, match="100 images would not all be seen once"):
        sizes.measure(sizes.Arguments(quick=True, sizes=(100,), seen=40))


def test_a_power_law_is_found_again_and_its_interval_holds_it() -> None:
    sizes_ = np.array([100, 200, 400, 800])
    law = sizes.fit(sizes_, 3 * sizes_**-0.5)
    assert law == pytest.approx((3, 0.5))
    rng = np.random.default_rng(0)
    shares = 2 * sizes_**-0.4
    wrong = rng.random((4, 3, 2_000)) < shares[:, None, None]
    low, high = np.quantile(sizes.bootstrap(sizes_, wrong, 200), (0.025, 0.975))
    assert low < 0.4 < high
    assert high - low < 0.1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_wrong_labels_are_as_many_as_asked_for_and_all_wrong(share: float) -> None:
    labels = np.arange(1_000, dtype=np.int32) % 10
    given = Dataset(np.zeros((1_000, 28, 28, 1), np.uint8), labels)
    noisy = label_noise.with_wrong_labels(given, share)
    wrong = noisy.labels != labels
    assert wrong.mean() == share
    if share:
        moved = (noisy.labels - labels)[wrong] % 10
        assert set(moved.tolist()) == set(range(1, 10))


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_a_corruption_spoils_more_the_stronger_it_is(name: str) -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(40, 28, 28, 1)), (0, 2, 2, 0))
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    kind, off = robustness.CORRUPTIONS[name], []
    for strength in kind.strengths:
        spoilt = np.asarray(kind.make(strength)(jax.random.key(0), jnp.asarray(images)))
        assert spoilt.dtype == np.uint8
        assert spoilt.shape == images.shape
        off.append(float(np.abs(spoilt.astype(float) - images).mean()))
    assert len(off) == 5
    assert off == sorted(off)
    assert off[0] > 0


@pytest.mark.parametrize("score", calibration.SCORES)
def test_conformal_sets_hold_the_truth_as_often_as_they_say(score: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4_000, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    halves = [calibration.halved(logits, labels, (0.8, 0.95), seed) for seed in range(10)]
    coverage = np.mean([half[score]["coverage"] for half in halves], 0)
    np.testing.assert_allclose(coverage, (0.8, 0.95), atol=0.01)


def test_scores_of_sets_by_hand() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1]])
    np.testing.assert_allclose(calibration.adaptive(probabilities), [[0.9, 0.7, 1.0]])
    np.testing.assert_allclose(calibration.least_ambiguous(probabilities), [[0.8, 0.3, 0.9]])
    assert calibration.threshold(np.arange(1, 10) / 10, 0.8) == 0.8
    assert calibration.threshold(np.arange(1, 10) / 10, 0.95) == float("inf")


def test_power_iteration_finds_the_largest_eigenvalue_of_a_matrix_that_is_known() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = jnp.asarray(basis @ np.diag([-1.0, 0.5, 2.0, 3.0, 4.0, 9.0]) @ basis.T, jnp.float32)
    start = {"a": jnp.ones(2), "b": jnp.ones(4)}

    def product(vector: Any) -> Any:
        image = matrix @ jnp.concatenate([vector["a"], vector["b"]])
        return {"a": image[:2], "b": image[2:]}

    value, residual, _ = curvature.top_eigenvalue(product, start, 25)
    assert float(value) == pytest.approx(9, rel=1e-4)
    assert float(residual) < 1e-3


def test_a_linear_probe_moves_the_head_alone() -> None:
    arguments = transfer.Arguments(quick=True, widths=(4, 6))
    config = study.recipe_config(arguments, 100, 2)
    model = make_model(config.model)
    begun = Weights(*jax.jit(model.init)(jax.random.key(3)))
    data = study.on_device(study.images(arguments).train.take(np.arange(100)))
    for way, moved in (("linear probe", {"Dense_0"}), ("fine-tuned", set(begun.params))):
        after = jax.jit(transfer.make_way(way, config))(jnp.float32(1), jax.random.key(0), begun, data)
        same = jax.tree.map(np.array_equal, dict(begun.params), dict(after.params))
        assert {name for name, leaves in same.items() if not all(jax.tree.leaves(leaves))} == moved
        kept = jax.tree.leaves(jax.tree.map(np.array_equal, dict(begun.batch_stats), dict(after.batch_stats)))
        assert all(kept) == (way == "linear probe")


@pytest.mark.parametrize(("channels", "side"), [(1, 3), (3, 2)])
def test_whitening_kernels_leave_patches_uncorrelated_and_of_one_variance(channels: int, side: int) -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(60, 12, 10, channels)), (0, 1, 1, 0.5))
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    kernels = np.asarray(first_kernels.whitening_kernels(jnp.asarray(images), side))
    windows = np.lib.stride_tricks.sliding_window_view(images / 255, (side, side), axis=(1, 2))
    pixels = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * channels)
    flat = kernels.reshape(side * side * channels, -1)
    np.testing.assert_allclose(np.cov(pixels @ flat, rowvar=False), np.eye(flat.shape[1]), atol=2e-3)
    variances, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    signs = np.sign((vectors[:, ::-1] * flat).sum(0))
    np.testing.assert_allclose(flat * signs * np.sqrt(variances[::-1]), vectors[:, ::-1], atol=5e-3)


def test_cosine_kernels_are_the_transform_of_scipy_and_nearly_whiten_a_random_walk() -> None:
    kernels = np.asarray(first_kernels.cosine_kernels(3))[:, :, 0]
    patch = np.random.default_rng(0).normal(size=(3, 3))
    found = np.einsum("hwk,hw->k", kernels, patch)
    frequencies = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (1, 2), (2, 1), (2, 2)]
    expected = 0.25 * dctn(patch)  # which has a factor of 2 for each axis
    np.testing.assert_allclose(found, [expected[pair] for pair in frequencies], rtol=1e-5)
    walk = np.minimum.outer(np.arange(20, 23), np.arange(20, 23)).astype(float)  # covariance along an axis
    covariance = np.einsum("hwk,ha,wb,abl->kl", kernels, walk, walk, kernels)
    sizes = np.sqrt(np.diagonal(covariance))
    assert np.abs(covariance / np.outer(sizes, sizes) - np.eye(9)).max() < 0.25


def test_whitening_kernels_and_their_negatives_begin_a_network_as_large_as_drawn_ones_and_may_be_kept() -> None:
    config = Config(
        model=ModelConfig(family="plain", widths=(24, 4), depths=(1, 1)),
        data=DataConfig(name="own", total=64, validation_size=0),
        train=TrainConfig(epochs=1, batch_size=32),
    )
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)
    kernels, data = (
        first_kernels.whitening_kernels(jnp.asarray(images)),
        Batch(images, np.arange(64, dtype=np.int32) % 10),
    )
    recipe, key = make_recipe(config), jax.random.key(0)
    models = (recipe.model, first_kernels.with_first_kernels(recipe.model, kernels))
    states = [init_state(model, recipe.optimizer, key) for model in models]
    drawn, begun = (np.asarray(state.params["Conv_0"]["kernel"]) for state in states)
    np.testing.assert_array_equal(begun[..., 18:], drawn[..., 18:])
    np.testing.assert_array_equal(begun[..., 1:18:2], -begun[..., 0:18:2])
    np.testing.assert_allclose((begun[..., :18] ** 2).mean((0, 1, 2)) ** 0.5, drawn.std(), rtol=1e-5)
    aligned = np.einsum("hwck,hwck->k", begun[..., 0:18:2], np.asarray(kernels))
    norms = (np.linalg.norm(each.reshape(9, 9), axis=0) for each in (begun[..., 0:18:2], np.asarray(kernels)))
    np.testing.assert_allclose(aligned, np.prod(list(norms), axis=0), rtol=1e-5)
    starts: dict[whitening.Start, bool] = {"whitening": False, "whitening, kept": True}
    for start, stays in starts.items():
        trained = jax.jit(whitening.make_training(config, start, kernels))(key, data).params["Conv_0"]["kernel"]
        assert np.allclose(trained, begun, atol=1e-6) == stays
