"""Compilers for chips not at hand: libtpu for a topology by name, XLA's CUDA plugin for an H100 by description.

Both are reached through `jax.experimental.topologies`. The process itself computes on its CPU.
"""

import importlib.util
import os
from typing import Any, Literal, NamedTuple

import numpy as np
from jax.sharding import Mesh

from experiments.accelerators.chips import CHIPS
from experiments.accelerators.programs import AXIS
from fmnist_jax import FmnistError

Platform = Literal["tpu", "cuda"]

# Tells libtpu, where there is no TPU, not to query a metadata server and not to lock a chip.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # Otherwise the CUDA plugin would ask a driver, of which there is none, for the versions of its libraries.
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}

# A `GpuTargetConfigProto`, as in openxla/xla pull request 25919: NVIDIA's published figures of an H100 SXM5, and the
# versions of CUDA and cuDNN to generate code for.
_H100_DESCRIPTION = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
}
"""


class Target(NamedTuple):
    """What programs are compiled for."""

    name: str
    platform: Platform
    mesh: Mesh


def set_environment() -> None:
    """Sets the environment, before JAX starts a backend."""
    os.environ.update(ENVIRONMENT)


def open_target(name: str) -> Target:
    """Opens a TPU topology by name, such as `v5e:2x4`, or a number of H100s, such as `h100:8`.

    Raises:
      FmnistError: the compiler is not installed, or knows no such topology.
    """
    if name.startswith("h100:"):
        return _open_h100(name)
    if name.partition(":")[0] not in CHIPS:
        raise FmnistError(f"{name} is not known: expected a shape of {', '.join(CHIPS)}, such as v5e:2x4, or h100:8")
    _require_module("libtpu", name, "pip install '.[tpu]'")
    # JAX 0.10's libtpu must be told if a topology is smaller than a host.
    host_bounds = {"chips_per_host_bounds": (1, 1, 1)} if name.endswith(":1x1") else {}
    return Target(name, "tpu", _make_mesh(name, "tpu", topology_name=name, **host_bounds))


def _open_h100(name: str) -> Target:
    count = name.partition(":")[2]
    if not count.isdigit() or not int(count):
        raise FmnistError(f"{name} is not known: expected a number of H100s, such as h100:8")
    _require_module("jax_cuda13_plugin", name, "pip install '.[cuda]', 5.6 GB")
    mesh = _make_mesh(name, "cuda", topology=f"1x1x{count}", target_config=_H100_DESCRIPTION)
    return Target(name, "cuda", mesh)


def _require_module(module: str, name: str, remedy: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise FmnistError(f"{module}, which compiles for {name}, is not installed: {remedy}")


def _make_mesh(name: str, platform: Platform, **options: Any) -> Mesh:
    from jax.experimental import topologies

    try:
        devices = topologies.get_topology_desc(platform=platform, **options).devices
    except Exception as error:  # the plugins may raise anything
        lines = str(error).strip().splitlines()
        raise FmnistError(f"{name} cannot be opened ({lines[0] if lines else type(error).__name__})") from error
    return Mesh(np.array(devices), (AXIS,))
