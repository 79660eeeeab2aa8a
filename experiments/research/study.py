"""Shared by the experiments of this folder: their arguments, a small network and its training, result files.

Each of them measures plain values that JSON can hold, and plots them: `run_study` does both and prints where they are.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments.records import make_folder, origin, write_json
from experiments.script import refuse_too_few
from fmnist_jax import (
    PRESETS,
    Batch,
    Config,
    DataConfig,
    Dataset,
    FmnistError,
    Predict,
    Splits,
    Trained,
    TrainState,
    Weights,
    compiler_options,
    describe_environment,
    keep_freed_memory,
    load,
    load_trained,
    make_model,
    make_population,
    members_map,
    padded_batches,
)

RESULTS = Path(__file__).parent / "results"

_PREDICT_BATCH_SIZE = 250  # images per batch, the fastest on a CPU


@dataclass(frozen=True)
class Arguments:
    """Arguments of every experiment."""

    quick: bool = False
    """Try it out in seconds, with a few synthetic images and a tiny network, whatever other sizes are given; the
    outcome is not an answer."""
    out: Path | None = None
    """Folder for the result file and the figure. Default: that of the committed ones; a temporary one with --quick, or
    where anything else differs from its default."""


@dataclass(frozen=True)
class ScoredArguments(Arguments):
    """Arguments of the experiments that score test images."""

    test_images: int = 10_000
    """How many of the test images to score."""


@dataclass(frozen=True)
class NetworkArguments(Arguments):
    """Arguments of the experiments that train networks of a given size."""

    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of each stage of the network, which has one convolution per stage."""


_QUICK: Mapping[str, Any] = {"widths": (4, 6), "test_images": 200}
_NOT_SETTINGS = ("out", "runs")  # which the answer does not depend on, or names itself


StudyArguments = TypeVar("StudyArguments", bound=Arguments)


def run_study(
    name: str,
    arguments: StudyArguments,
    quick: Mapping[str, Any],
    measure: Callable[[StudyArguments], dict[str, Any]],
    figure: Callable[[Mapping[str, Any]], Figure],
) -> dict[str, Any]:
    """Measures, and writes `<name>.json` and `<name>.png`.

    Args:
      name: of the experiment.
      arguments: as given.
      quick: what else `--quick` changes in them.
      measure: computes the answer, as values that JSON can hold.
      figure: plots it.

    Returns:
      The contents of the JSON file.

    Raises:
      FmnistError: a number of anything is less than 1, a list is empty, or `measure` raises it.
    """
    refuse_too_few(arguments, optional=("runs",))  # which default to a trained one
    keep_freed_memory()  # as the commands do
    if arguments.quick:
        shared = {name: value for name, value in _QUICK.items() if hasattr(arguments, name)}
        arguments = replace(arguments, **shared, **quick)
    out, start_origin = _output_folder(arguments), origin(describe_environment())
    start = time.perf_counter()
    results = measure(arguments)
    configuration = dataclasses.asdict(arguments)
    for field in _NOT_SETTINGS:
        configuration.pop(field, None)
    record = {
        "experiment": name,
        "data": "synthetic" if arguments.quick else "fashion_mnist",
        "seconds": round(time.perf_counter() - start, 1),
        "found": results,
        "configuration": configuration,
        **start_origin,
    }
    write_json(out / f"{name}.json", record)
    figure(results).savefig(out / f"{name}.png", dpi=100)
    print(f"written: {out / name}.json and .png")
    return record


def _output_folder(arguments: Arguments) -> Path:
    if arguments.quick and arguments.out is not None and arguments.out.resolve().is_relative_to(RESULTS.resolve()):
        raise FmnistError("--quick does not produce results: choose another --out")
    settings = [field for field in dataclasses.fields(arguments) if field.name != "out"]
    if arguments.out is None and any(getattr(arguments, field.name) != field.default for field in settings):
        return Path(tempfile.mkdtemp(prefix="research-"))
    folder = arguments.out or RESULTS
    make_folder(folder)
    return folder


def load_images(arguments: Arguments) -> Splits:
    """The real images, 5,000 of them held out for validation; with `--quick` a few synthetic ones.

    Of the test images, as many as the arguments say if they are for scoring.
    """
    quick_data = DataConfig(name="synthetic", validation_size=100, synthetic_train_size=500, synthetic_test_size=200)
    splits = load(quick_data if arguments.quick else DataConfig())
    if not isinstance(arguments, ScoredArguments):
        return splits
    return splits._replace(test=splits.test.take(np.arange(min(arguments.test_images, len(splits.test)))))


def recipe_config(widths: tuple[int, ...], train_images: int, epochs: int) -> Config:
    """The recipe of `fast` with some weight decay, on a small network and `train_images` images.

    Raises:
      FmnistError: `epochs` is less than 1.
    """
    if epochs < 1:
        raise FmnistError(
            f"{train_images:,} images would not all be seen once: increase the number of images seen, or choose "
            "smaller sizes"
        )
    fast, stages = PRESETS["fast"], len(widths)
    return replace(
        fast,
        data=DataConfig(name="own", total=train_images, validation_size=0),
        model=replace(fast.model, widths=widths, depths=(1,) * stages, dropout=0.1),
        optim=replace(fast.optim, weight_decay=0.01),
        train=replace(fast.train, epochs=epochs),
    )


def on_device(data: Dataset) -> Batch:
    """Puts a whole data set on the device, where `make_train_chunk` gathers batches from it."""
    return jax.device_put(Batch(data.images, data.labels))


class Members(NamedTuple):
    """Models that were trained together."""

    states: TrainState
    """With a leading axis of members."""
    predict: Predict

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Predicts u8[N, H, W, C] as f32[M, N, K]."""
        return predict_logits(self.predict, Weights(self.states.params, self.states.batch_stats), images)


def make_training(config: Config, varied: Mapping[str, np.ndarray] | None = None) -> Callable[[Array, Batch], Members]:
    """Makes `train(keys [M], data) -> members`, one compiled program for any number of data sets of one size.

    Args:
      config: what the members have in common.
      varied: values by the name of a number of the configuration, one for each member.
    """
    over_members = members_map(jax.default_backend())
    values = {name: jnp.asarray(value, jnp.float32) for name, value in (varied or {}).items()}
    population = make_population(config, values, over_members=over_members, max_steps=config.total_steps)
    init, predict = jax.jit(population.init), jit_predict(population.predict)
    chunk = jax.jit(population.chunk, donate_argnums=0, compiler_options=compiler_options())

    def train(keys: Array, data: Batch) -> Members:
        states, _ = chunk(init(keys), data, jnp.int32(config.total_steps))
        return Members(states, predict)

    return train


def jit_predict(predict: Predict) -> Predict:
    """Compiles a prediction."""
    return jax.jit(predict, compiler_options=compiler_options())


def predict_logits(predict: Predict, weights: Weights, images: np.ndarray) -> np.ndarray:
    """Predicts images u8[N, H, W, C] in batches, as f32[..., N, K]."""
    batches = padded_batches(Dataset(images, np.zeros(len(images), np.int32)), min(_PREDICT_BATCH_SIZE, len(images)))
    batch_logits = [np.asarray(predict(*weights, batch.images)) for batch in batches]
    return np.concatenate(batch_logits, axis=-2)[..., : len(images), :]


def accuracies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share f64[...] of N images whose class has the largest of the logits f32[..., N, K]."""
    return np.asarray((logits.argmax(-1) == labels).mean(-1))


def trained_models(arguments: Arguments, runs: Sequence[Path]) -> dict[str, Trained]:
    """The models of runs, by the names of their directories; with `--quick` one that is trained briefly.

    Raises:
      FmnistError: no run is given, two have the same name, or one was not trained on Fashion-MNIST.
    """
    if arguments.quick:
        data = load_images(arguments).train
        config = recipe_config(_QUICK["widths"], len(data), 2)
        states = make_training(config)(jax.random.split(jax.random.key(0), 1), on_device(data)).states
        weights = jax.tree.map(lambda leaf: leaf[0], Weights(states.params, states.batch_stats))
        model = make_model(config.model)
        return {"quick": Trained(config, model, weights, config.total_steps, data.image_shape, data.class_names)}
    if not runs:
        raise FmnistError("RUN is missing: give run directories written by fmnist_jax.train")
    names = [run.resolve().name for run in runs]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise FmnistError(f"several runs are called {', '.join(sorted(duplicates))}: rename their directories")
    models = {name: load_trained(run) for name, run in zip(names, runs, strict=True)}
    for name, trained in models.items():
        if trained.config.data.name != "fashion_mnist":
            raise FmnistError(f"{name} was trained on {trained.config.data.name}: expected runs on fashion_mnist")
    return models
