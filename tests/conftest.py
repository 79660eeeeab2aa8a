"""Settings that every test runs under, and the small models and batches that the tests share."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version

# Read when the backend starts, so they must be set before anything asks JAX for a device.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tests compile a lot and compute little, so LLVM's optimisations would cost a third of their time.
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
# Emitting fused loops through MLIR takes half of the remaining compilation time; later versions have no alternative.
if version("jax").startswith("0.10.") and "xla_cpu_use_fusion_emitters" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from fmnist_jax import Batch, Config, DataConfig, Model, ModelConfig, TrainConfig, load, make_model, make_recipe
from fmnist_jax.config.record import to_dict
from fmnist_jax.data.dataset import digest
from fmnist_jax.functional.interface import BatchStats, Params
from fmnist_jax.runs import checkpoint
from fmnist_jax.runs.directory import RunDirectory

# Many tests compile the same programs, in each worker and in each subprocess: once is enough. The folder belongs to
# this session alone, so that no test passes thanks to an executable of another version of JAX or of the package.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["FMNIST_JAX_TEST_SHARED"] = tempfile.mkdtemp(prefix="fmnist-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["FMNIST_JAX_TEST_SHARED"], ignore_errors=True)
_SHARED_DIR = os.environ["FMNIST_JAX_TEST_SHARED"]
jax.config.update("jax_compilation_cache_dir", f"{_SHARED_DIR}/eight-devices")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)  # anything faster compiles sooner than it is read

jax.devices()
# Subprocesses have one device, like most users, and a cache of their own: XLA:CPU splits loops by the number of threads
# that it sees, which is not part of JAX's cache key.
os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{_SHARED_DIR}/one-device"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# As in pyproject.toml: a process may read an entry that another has half written.
os.environ["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache entry:UserWarning"
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "").strip()

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing allocates a lot and leaves few cycles: collecting at Python's default frequency took 6 % of the tests' time.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# A compilation inside an example takes longer than any deadline; derandomised, so that a failure reproduces everywhere.
hypothesis.settings.register_profile("fmnist_jax", deadline=None, derandomize=True, database=None, max_examples=20)
hypothesis.settings.load_profile("fmnist_jax")


@pytest.fixture(scope="session")
def key() -> Array:
    return jax.random.key(0)


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig(family="plain", widths=(4, 6), depths=(1, 2), dropout=0.3)


@pytest.fixture(scope="session")
def model(model_config: ModelConfig) -> Model:
    return make_model(model_config)


@pytest.fixture(scope="session")
def variables(model: Model, key: Array) -> tuple[Params, BatchStats]:
    return jax.jit(model.init)(key)


@pytest.fixture(scope="session")
def batch() -> Batch:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    return Batch(images, np.arange(8, dtype=np.int32))


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    if "FMNIST_RAW_DIR" not in os.environ:
        pytest.skip("FMNIST_RAW_DIR is not set")
    return Path(os.environ["FMNIST_RAW_DIR"])


@pytest.fixture(scope="session")
def real_data_dir(raw_dir: Path) -> Path:
    """Fashion-MNIST, prepared from the original files once for all workers, which takes about 20 s."""
    path = Path(_SHARED_DIR) / "tfds"
    load(DataConfig(dir=path, raw_dir=raw_dir))
    return path


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has stopped after 5 of its 10 steps; copy it before changing it."""
    config = Config(
        preset="demo",
        data=DataConfig(name="synthetic", synthetic_train_size=200, synthetic_test_size=70, validation_size=40),
        model=ModelConfig(widths=(4, 6), depths=(1, 1), dropout=0.3),
        train=TrainConfig(epochs=2, batch_size=32, eval_batch_size=32),
    )
    directory = RunDirectory(tmp_path_factory.mktemp("runs") / "saved")
    directory.create()
    directory.write_json("config.json", to_dict(config))
    directory.write_json("environment.json", {"python": "3.11", "packages": {"jax": "1.0"}, "command": ["a", "b c"]})
    training = {"train_loss": 2.0, "train_accuracy": 0.25, "learning_rate": 0.1, "images_per_second": 100.0}
    directory.append({"step": 5, "epoch": 1.0, "elapsed_seconds": 1.5, **training})
    directory.append({"step": 5, "epoch": 1.0, "elapsed_seconds": 1.5, "val_loss": 1.5, "val_accuracy": 0.5})
    state = replace(jax.jit(make_recipe(config).init)(jax.random.key(0)), step=jnp.int32(5))
    with checkpoint.writing(directory.checkpoints) as writer:
        writer.save(state, 0.5, origin={"dataset_digest": digest(load(config.data))})
    return directory.path


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Frees what JAX keeps of a module's programs: half of a worker's memory and, with it, a tenth of its time."""
    yield
    jax.clear_caches()
