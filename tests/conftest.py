"""Settings that every test runs under, and the small models and batches that the tests share."""

import os

# Read when the backend starts, so they must be set before anything asks JAX for a device.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()

from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from jax import Array

from fmnist_jax import Batch, DataConfig, Model, ModelConfig, load, make_model
from fmnist_jax.model import BatchStats, Params

jax.config.update("jax_numpy_rank_promotion", "raise")

# A compilation inside an example takes longer than any deadline; derandomised, a failure is there for everyone.
hypothesis.settings.register_profile("fmnist_jax", deadline=None, derandomize=True, database=None, max_examples=20)
hypothesis.settings.load_profile("fmnist_jax")


@pytest.fixture(scope="session")
def key() -> Array:
    return jax.random.key(0)


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig(widths=(4, 6), depths=(1, 2))


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
def real_data_dir(raw_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fashion-MNIST, prepared from the original files once for all tests, which takes about 20 s."""
    path = tmp_path_factory.mktemp("tfds")
    load(DataConfig(dir=path, raw_dir=raw_dir))
    return path
