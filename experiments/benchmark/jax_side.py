"""The JAX sides of the benchmark: this project, and a plain loop as one would first write it, without mirroring."""

import functools
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import networks
from experiments.benchmark.pieces import median_seconds
from experiments.records import origin
from fmnist_jax import (
    Batch,
    Config,
    DataConfig,
    Model,
    Splits,
    TrainState,
    compiler_options,
    describe_environment,
    evaluate_batches,
    load,
    make_eval_step,
    make_evaluate,
    make_model,
    make_predict,
    make_recipe,
    make_train_chunk,
    padded_batches,
    sample_batch,
    stacked_batches,
    summarize,
)

Network = Literal["preset", "notebook"]
"""The network of the configuration, or the usual one of PyTorch notebooks on this data set."""
Label = Literal["fast", "notebook"]
NETWORKS: Mapping[Label, Network] = {"fast": "preset", "notebook": "notebook"}
"""The networks by their names in tables; the configuration that the benchmark times is that of `fast`."""
_MAX_STEPS = 1000  # in one dispatch


class Trainer(NamedTuple):
    """Compiled functions of one network, from initialisation to evaluation."""

    init: Callable[[Any], TrainState]
    train: Callable[[TrainState, int], TrainState]
    """Takes the given number of steps."""
    accuracy: Callable[[TrainState], float]
    """Accuracy on the test images."""
    test_size: int


@functools.cache
def load_splits(config: DataConfig) -> Splits:
    """Loads a data set once per process."""
    return load(config)


def _make_model(config: Config, network: Network, plain: bool) -> Model:
    if network == "preset" and not plain:
        return make_model(config.model)
    layers = networks.layers_of(config.model) if network == "preset" else networks.NOTEBOOK
    return networks.make_network(layers, networks.PLAIN if plain else networks.OURS, config.model.dtype)


@functools.cache
def make_trainer(config: Config, network: Network, plain: bool) -> Trainer:
    """Compiles a network with the recipe of a configuration; `plain` uses JAX's own operations and host batches."""
    splits, train_config = load_splits(config.data), config.train
    recipe = make_recipe(config, model=_make_model(config, network, plain))
    options = None if plain else compiler_options()
    eval_step = make_eval_step(make_predict(recipe.model))
    jitted_eval_step = jax.jit(eval_step)
    evaluate = jax.jit(make_evaluate(eval_step), compiler_options=compiler_options())

    def accuracy_from_host(state: TrainState) -> float:
        test = padded_batches(splits.test, train_config.eval_batch_size)
        return summarize(evaluate_batches(jitted_eval_step, state.params, state.batch_stats, test)).accuracy

    test_batches = None if plain else jax.device_put(stacked_batches(splits.test, train_config.eval_batch_size))

    def accuracy_on_device(state: TrainState) -> float:
        return summarize(evaluate(state.params, state.batch_stats, test_batches)).accuracy

    jitted_step = jax.jit(recipe.step, donate_argnums=0, compiler_options=options)

    order = np.random.default_rng(0).permutation(len(splits.train))
    epoch_batches = [
        order[offset : offset + train_config.batch_size]
        for offset in range(0, len(order) - train_config.batch_size + 1, train_config.batch_size)
    ]

    def train_from_host(state: TrainState, steps: int) -> TrainState:
        for indices in itertools.islice(itertools.cycle(epoch_batches), steps):
            state, _ = jitted_step(state, Batch(splits.train.images[indices], splits.train.labels[indices]))
        return jax.block_until_ready(state)

    chunk_fn = make_train_chunk(recipe.step, train_config.batch_size, _MAX_STEPS, sample=recipe.sample)
    chunk = jax.jit(chunk_fn, donate_argnums=0, compiler_options=options)
    train_data = None if plain else jax.device_put(Batch(splits.train.images, splits.train.labels))

    def train_on_device(state: TrainState, steps: int) -> TrainState:
        state, _ = chunk(state, train_data, jnp.int32(steps))
        return jax.block_until_ready(state)

    train, accuracy = (train_from_host, accuracy_from_host) if plain else (train_on_device, accuracy_on_device)
    return Trainer(jax.jit(recipe.init), train, accuracy, len(splits.test))


@functools.cache
def _warm_state(config: Config, network: Network, plain: bool) -> list[TrainState]:
    """A state after a warm-up that compiles training and evaluation, in a list because training donates it."""
    side = make_trainer(config, network, plain)
    state = side.train(side.init(jax.random.key(0)), 3)
    side.accuracy(state)
    return [state]


def train_rate(config: Config, network: Network, plain: bool, steps: int) -> float:
    """Training images per second."""
    state_box, side = _warm_state(config, network, plain), make_trainer(config, network, plain)
    start = time.perf_counter()
    state_box[0] = side.train(state_box[0], steps)
    return steps * config.train.batch_size / (time.perf_counter() - start)


def eval_rate(config: Config, network: Network, plain: bool) -> float:
    """Test images evaluated per second."""
    state_box, side = _warm_state(config, network, plain), make_trainer(config, network, plain)
    start = time.perf_counter()
    side.accuracy(state_box[0])
    return side.test_size / (time.perf_counter() - start)


def step_seconds(config: Config, steps: int) -> float:
    """Seconds per call of the bare compiled step, on one batch on the device, in a Python loop."""
    compiled, batch, state_box = _bare_step(config)
    start = time.perf_counter()
    for _ in range(steps):
        state_box[0], _ = compiled(state_box[0], batch)
    jax.block_until_ready(state_box[0])
    return (time.perf_counter() - start) / steps


@functools.cache
def _bare_step(config: Config) -> tuple[Any, Batch, list[TrainState]]:
    train_data = load_splits(config.data).train
    recipe = make_recipe(config)
    state = jax.jit(recipe.init)(jax.random.key(0))
    batch = jax.device_put(
        sample_batch(Batch(train_data.images, train_data.labels), state.key, 0, config.train.batch_size)
    )
    compiled = jax.jit(recipe.step, donate_argnums=0, compiler_options=compiler_options())
    return compiled, batch, [compiled(state, batch)[0]]


def measurement_origin() -> dict[str, Any]:
    """The machine, the versions and the commit."""
    return origin(describe_environment())


def matrix_rate(size: int = 2048, dtype: str = "float32") -> float:
    """Floating-point operations a second of a square matrix product, the yardstick for the chip."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), dtype)
    product = jax.jit(lambda a: a @ a, compiler_options=compiler_options())
    return 2 * size**3 / median_seconds(lambda: jax.block_until_ready(product(a)))
