"""The research experiments: each runs in seconds with --quick, and its parts are checked against known results."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from experiments import first_kernels, script
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
def quick_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, Any]]:
    """An experiment's name, its output folder, and what it returned."""
    name, out = request.param, tmp_path_factory.mktemp(request.param)
    return name, out, _EXPERIMENTS[name].main(_EXPERIMENTS[name].Arguments(quick=True, out=out))


def _collect_floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in _collect_floats(item)]
    return [value] if isinstance(value, float) else []


def test_experiment_writes_its_results_with_their_origin_and_a_figure(
    quick_run: tuple[str, Path, dict[str, Any]],
) -> None:
    name, out, record = quick_run
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
    numbers = _collect_floats(record["found"])
    assert len(numbers) > 5
    assert np.isfinite(numbers).all()
    with Image.open(out / f"{name}.png") as picture:
        assert picture.size > (300, 250)


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_experiment_is_short_and_documents_question_command_and_findings(name: str) -> None:
    module = _EXPERIMENTS[name]
    assert len(Path(module.__file__).read_text().splitlines()) < 150
    question_pattern = rf".*\? `python -m experiments\.research\.{Path(module.__file__).stem}( RUN\.\.\.)?`\.\n\n"
    assert re.match(question_pattern, module.__doc__)
    assert "Measured" in module.__doc__


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_committed_results_are_of_the_real_images(name: str) -> None:
    result = json.loads((_RESULTS / f"{name}.json").read_text())
    assert result["experiment"] == name
    assert result["data"] == "fashion_mnist"
    assert re.fullmatch("[0-9a-f]{40}", result["commit"])
    assert (_RESULTS / f"{name}.png").stat().st_size < 100_000


def _stated_fractions(name: str, found: dict[str, Any]) -> list[float]:
    """The results that the docstring of an experiment states in percent, in its order."""
    match name:
        case "seeds":
            fractions = [found["ensembles"][members - 1]["accuracy"] for members in (1, 2, 4, 8)]
        case "rates":
            undecayed = {rate: rows[0] for rate, rows in zip(found["rates"], found["validation_accuracy"], strict=True)}
            means = [float(np.mean(undecayed[rate])) for rate in (0.02, 0.2, 0.6)]
            at_two = dict(zip(found["decays"], found["validation_accuracy"][found["rates"].index(2.0)], strict=True))
            assert {float(np.mean(at_two[decay])) for decay in (0.0, 0.0005, 0.02)} == {0.1}  # nothing is learnt
            means += [float(np.mean(at_two[decay])) for decay in (0.002, 0.005)]
            fractions = [*means, found["best"]["validation"], found["best"]["test"]]
        case "sizes":
            fractions = [float(np.mean(found["errors"][end])) for end in (0, -1)]
        case "robustness":
            (run,) = found["runs"].values()
            corrupted = {
                (corruption, strength): accuracy
                for corruption, accuracies in run["corruptions"].items()
                for strength, accuracy in zip(found["strengths"][corruption], accuracies, strict=True)
            }
            named = [("noise", 0.2), ("contrast", 0.2), ("shift", 2), ("rotation", 20), ("erasing", 0.2)]
            fractions = [run["clean"], run["mirrored"], run["mean_of_corruptions"], *(corrupted[key] for key in named)]
        case "label-noise":
            rows = {(row["share"], row["smoothing"]): row for row in found["rows"]}
            accuracies = [rows[share, 0]["accuracy"] for share in (0, 0.2, 0.4)]
            calibration_errors = [
                rows[share, smoothing]["calibration_error"] for share in (0, 0.2, 0.4) for smoothing in (0, 0.3)
            ]
            fractions = [float(np.mean(values)) for values in (*accuracies, *calibration_errors)]
        case "transfer":
            by_size = {(row["images"], row["way"]): float(np.mean(row["test"])) for row in found["rows"]}
            ways = ("from scratch", "linear probe", "fine-tuned")
            trained = [by_size[images, way] for images in (100, 1_000, 10_000) for way in ways]
            fractions = [found["synthetic_alone"], *trained]
        case "calibration":
            (run,) = found["runs"].values()
            empty_sets = dict(zip(found["nominal"], run["sets"]["least ambiguous"]["empty"]["mean"], strict=True))
            fractions = [run["accuracy"], *run["calibration_error"]["mean"], empty_sets[0.9]]
        case "whitening":
            by_start = {(row["start"], row["epochs"]): float(np.mean(row["validation"])) for row in found["rows"]}
            starts = ("drawn", "whitening", "whitening, kept", "cosines, kept")
            fractions = [by_start[start, epochs] for start in starts for epochs in (1, 2)]
        case _:
            fractions = []
    return fractions


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_percentages_in_the_docstring_match_the_committed_results(name: str) -> None:
    percentages = re.findall(r"(\d+\.\d+)\s%", _EXPERIMENTS[name].__doc__.partition("Measured")[2])
    fractions = _stated_fractions(name, json.loads((_RESULTS / f"{name}.json").read_text())["found"])
    assert len(percentages) == len(fractions)
    for stated, fraction in zip(percentages, fractions, strict=True):
        assert stated == f"{100 * fraction:.{len(stated.partition('.')[2])}f}"


def test_quick_run_into_the_results_folder_is_refused() -> None:
    with pytest.raises(FmnistError, match="does not produce results: choose another --out"):
        seeds.main(seeds.Arguments(quick=True, out=study.RESULTS))


@pytest.mark.parametrize("experiment", [robustness, calibration])
def test_missing_runs_and_runs_on_synthetic_images_are_refused(
    experiment: Any, tmp_path: Path, saved_run: Path
) -> None:
    arguments = experiment.Arguments(out=tmp_path)
    for runs, message in (((), "RUN is missing"), ((saved_run,), "saved was trained on synthetic")):
        with pytest.raises(FmnistError, match=message):
            study.trained_models(arguments, runs)


def test_runs_of_the_same_name_are_refused_and_nine_runs_are_plotted(tmp_path: Path) -> None:
    with pytest.raises(FmnistError, match="several runs are called fast: rename their directories"):
        study.trained_models(calibration.Arguments(), [tmp_path / "a" / "fast", tmp_path / "b" / "fast"])
    for experiment in (robustness, calibration):
        results = json.loads((study.RESULTS / f"{experiment.__name__.rpartition('.')[2]}.json").read_text())["found"]
        (run,) = results["runs"].values()
        results["runs"] = {f"run {number}": run for number in range(9)}
        legend = experiment.figure(results).axes[0].get_legend_handles_labels()[1]
        assert {label.partition(",")[0] for label in legend} == results["runs"].keys()


def test_size_larger_than_the_images_seen_is_refused() -> None:
    with pytest.raises(FmnistError, match="100 images would not all be seen once"):
        sizes.measure(sizes.Arguments(quick=True, sizes=(100, 200), seen=40))


def test_power_law_is_recovered_and_its_bootstrap_interval_covers_it() -> None:
    train_sizes = np.array([100, 200, 400, 800])
    law = sizes.fit(train_sizes, 3 * train_sizes**-0.5)
    assert law == pytest.approx((3, 0.5))
    rng = np.random.default_rng(0)
    error_rates = 2 * train_sizes**-0.4
    wrong = rng.random((4, 3, 2_000)) < error_rates[:, None, None]
    low, high = np.quantile(sizes.bootstrap(train_sizes, wrong, 200), (0.025, 0.975))
    assert low < 0.4 < high
    assert high - low < 0.1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_wrong_labels_have_the_exact_share_and_cover_all_other_classes(share: float) -> None:
    labels = np.arange(1_000, dtype=np.int32) % 10
    clean = Dataset(np.zeros((1_000, 28, 28, 1), np.uint8), labels)
    noisy = label_noise.with_wrong_labels(clean, share)
    is_wrong = noisy.labels != labels
    assert is_wrong.mean() == share
    if share:
        offsets = (noisy.labels - labels)[is_wrong] % 10
        assert set(offsets.tolist()) == set(range(1, 10))


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_corruption_error_grows_with_its_strength(name: str) -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(40, 28, 28, 1)), (0, 2, 2, 0))
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    corruption, errors = robustness.CORRUPTIONS[name], []
    for strength in corruption.strengths:
        corrupted = np.asarray(corruption.make(strength)(jax.random.key(0), jnp.asarray(images)))
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == images.shape
        errors.append(float(np.abs(corrupted.astype(float) - images).mean()))
    assert len(errors) == 5
    assert errors == sorted(errors)
    assert errors[0] > 0


@pytest.mark.parametrize("score", calibration.SCORES)
def test_conformal_sets_reach_their_nominal_coverage(score: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4_000, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    results = [calibration.evaluate_halves(logits, labels, (0.8, 0.95), seed) for seed in range(10)]
    coverage = np.mean([result[score]["coverage"] for result in results], 0)
    np.testing.assert_allclose(coverage, (0.8, 0.95), atol=0.01)


def test_conformal_scores_and_threshold_match_hand_computed_values() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1]])
    np.testing.assert_allclose(calibration.adaptive(probabilities), [[0.9, 0.7, 1.0]])
    np.testing.assert_allclose(calibration.least_ambiguous(probabilities), [[0.8, 0.3, 0.9]])
    assert calibration.threshold(np.arange(1, 10) / 10, 0.8) == 0.8
    assert calibration.threshold(np.arange(1, 10) / 10, 0.95) == float("inf")


def test_power_iteration_finds_the_top_eigenvalue_of_a_known_matrix() -> None:
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


def test_linear_probe_trains_only_the_head() -> None:
    arguments = transfer.Arguments(quick=True, widths=(4, 6))
    config = study.recipe_config(arguments.widths, 100, 2)
    model = make_model(config.model)
    start_weights = Weights(*jax.jit(model.init)(jax.random.key(3)))
    data = study.on_device(study.load_images(arguments).train.take(np.arange(100)))
    for method, trained in (("linear probe", {"Dense_0"}), ("fine-tuned", set(start_weights.params))):
        weights = jax.jit(transfer.make_training(method, config))(
            jnp.float32(1), jax.random.key(0), start_weights, data
        )
        is_equal = jax.tree.map(np.array_equal, dict(start_weights.params), dict(weights.params))
        assert {name for name, leaves in is_equal.items() if not all(jax.tree.leaves(leaves))} == trained
        stats_equal = jax.tree.leaves(
            jax.tree.map(np.array_equal, dict(start_weights.batch_stats), dict(weights.batch_stats))
        )
        assert all(stats_equal) == (method == "linear probe")


@pytest.mark.parametrize(("channels", "side"), [(1, 3), (3, 2)])
def test_whitening_kernels_decorrelate_patches_to_unit_variance(channels: int, side: int) -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(60, 12, 10, channels)), (0, 1, 1, 0.5))
    images = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    kernels = np.asarray(first_kernels.whitening_kernels(jnp.asarray(images), side))
    windows = np.lib.stride_tricks.sliding_window_view(images / 255, (side, side), axis=(1, 2))
    pixels = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * channels)
    matrix = kernels.reshape(side * side * channels, -1)
    np.testing.assert_allclose(np.cov(pixels @ matrix, rowvar=False), np.eye(matrix.shape[1]), atol=2e-3)
    variances, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    signs = np.sign((vectors[:, ::-1] * matrix).sum(0))
    np.testing.assert_allclose(matrix * signs * np.sqrt(variances[::-1]), vectors[:, ::-1], atol=5e-3)


def test_cosine_kernels_match_scipy_dctn_and_nearly_whiten_a_random_walk() -> None:
    kernels = np.asarray(first_kernels.cosine_kernels(3))[:, :, 0]
    patch = np.random.default_rng(0).normal(size=(3, 3))
    actual = np.einsum("hwk,hw->k", kernels, patch)
    frequencies = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (1, 2), (2, 1), (2, 2)]
    expected = 0.25 * dctn(patch)  # which has a factor of 2 for each axis
    np.testing.assert_allclose(actual, [expected[pair] for pair in frequencies], rtol=1e-5)
    walk_covariance = np.minimum.outer(np.arange(20, 23), np.arange(20, 23)).astype(float)  # covariance along an axis
    covariance = np.einsum("hwk,ha,wb,abl->kl", kernels, walk_covariance, walk_covariance, kernels)
    deviations = np.sqrt(np.diagonal(covariance))
    assert np.abs(covariance / np.outer(deviations, deviations) - np.eye(9)).max() < 0.25


def test_first_kernels_are_signed_pairs_at_the_random_scale_and_can_be_frozen() -> None:
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
    random_kernel, start_kernel = (np.asarray(state.params["Conv_0"]["kernel"]) for state in states)
    np.testing.assert_array_equal(start_kernel[..., 18:], random_kernel[..., 18:])
    np.testing.assert_array_equal(start_kernel[..., 1:18:2], -start_kernel[..., 0:18:2])
    np.testing.assert_allclose((start_kernel[..., :18] ** 2).mean((0, 1, 2)) ** 0.5, random_kernel.std(), rtol=1e-5)
    dot_products = np.einsum("hwck,hwck->k", start_kernel[..., 0:18:2], np.asarray(kernels))
    norms = (np.linalg.norm(array.reshape(9, 9), axis=0) for array in (start_kernel[..., 0:18:2], np.asarray(kernels)))
    np.testing.assert_allclose(dot_products, np.prod(list(norms), axis=0), rtol=1e-5)
    starts: dict[whitening.Start, bool] = {"whitening": False, "whitening, kept": True}
    for start, is_frozen in starts.items():
        trained = jax.jit(whitening.make_training(config, start, kernels))(key, data).params["Conv_0"]["kernel"]
        assert np.allclose(trained, start_kernel, atol=1e-6) == is_frozen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (rates.Arguments(seeds=0), "--seeds is 0: choose 1 or more"),
        (curvature.Arguments(widths=()), "--widths is empty: give at least one value"),
        (whitening.Arguments(epochs=(2, 0)), "--epochs is 0: choose 1 or more"),
        (label_noise.Arguments(amounts=()), "--amounts is empty: give at least one value"),
        (transfer.Arguments(test_images=-1), "--test-images is -1: choose 1 or more"),
    ],
)
def test_numbers_and_lists_of_nothing_are_refused(arguments: study.Arguments, message: str) -> None:
    with pytest.raises(FmnistError, match=message):
        script.refuse_too_few(arguments, optional=("runs",))


def test_studies_that_need_two_values_refuse_one() -> None:
    with pytest.raises(FmnistError, match="--seeds is 1: choose 2 or more"):
        seeds.measure(seeds.Arguments(seeds=1))
    with pytest.raises(FmnistError, match="--sizes is 250: give two or more"):
        sizes.measure(sizes.Arguments(sizes=(250,)))
    with pytest.raises(FmnistError, match="--seeds is 1: choose 2 or more"):
        whitening.measure(whitening.Arguments(seeds=1))
    with pytest.raises(FmnistError, match=r"--nominal is \(0\.9, 0\.0\): choose values between 0 and 1"):
        calibration.measure(calibration.Arguments(nominal=(0.9, 0.0)))
    with pytest.raises(FmnistError, match="--halvings is 1: choose 2 or more"):
        calibration.measure(calibration.Arguments(halvings=1))


def test_committed_answers_are_written_only_with_the_settings_that_they_are_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study, "RESULTS", tmp_path / "committed")
    written: list[Path] = []
    monkeypatch.setattr(study, "write_json", lambda path, _: written.append(path.parent))
    for arguments in (seeds.Arguments(), seeds.Arguments(seeds=3), seeds.Arguments(out=tmp_path / "mine", seeds=3)):
        study.run_study("seeds", arguments, {}, lambda _: {}, lambda _: Figure())
    committed, temporary, mine = written
    assert (committed, mine) == (tmp_path / "committed", tmp_path / "mine")
    assert not temporary.is_relative_to(tmp_path / "committed")


def test_experiments_take_only_the_arguments_that_they_use() -> None:
    for experiment, unused in ((curvature, "test_images"), (whitening, "test_images"), (robustness, "widths")):
        assert not hasattr(experiment.Arguments(), unused)
