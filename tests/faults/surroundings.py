"""Invocations that must be refused because of paths, folders, devices, networks or data."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import to_dict
from tests.data.test_idx import write
from tests.faults.invocations import Case

_DEMO_CONFIG = json.dumps(to_dict(PRESETS["demo"]))
_NO_PROXY = {name: "" for lower in ("http_proxy", "all_proxy", "no_proxy") for name in (lower, lower.upper())}
_LONG_PATH = "/".join(["{here}", "n" * 256])


def _no_setup(folder: Path) -> None:
    del folder


def _link(target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "link").symlink_to(target)

    return make


def _run(*folders: str, **files: str) -> Callable[[Path], None]:
    """Makes a run directory of the demo with these folders and files; `__` stands for a dot in a file name."""

    def make(folder: Path) -> None:
        run = folder / "run"
        run.mkdir()
        (run / "config.json").write_text(_DEMO_CONFIG)
        for name, content in files.items():
            (run / name.replace("__", ".")).unlink(missing_ok=True)
            (run / name.replace("__", ".")).write_text(content)
        for name in folders:
            (run / name).unlink(missing_ok=True)
            (run / name).mkdir()

    return make


def _path_cases() -> list[Case]:
    kind = "an unusable path"
    cases = [
        Case("--run.dir s3://bucket/runs/a", "address (s3)"),
        Case("--run.dir=file:///data/a", "address (file)"),
        Case("--preset fast --data.dir hdfs://node/data", "address (hdfs)"),
        Case("--data.raw-dir http://host/files --preset fast", "address (http)"),
        Case("--preset fast", "TFDS_DATA_DIR is az:/", environment={"TFDS_DATA_DIR": "az://container/data"}),
        Case("--preset fast", "FMNIST_RAW_DIR is ~nobody", environment={"FMNIST_RAW_DIR": "~nobody_here/raw"}),
        Case("--run.dir ~nobody_here/runs/a", "no home directory"),
        Case(f"--preset demo --run.dir {_LONG_PATH}/run", "256 bytes"),
        Case(f"--preset fast --data.dir {_LONG_PATH}", "256 bytes"),
        Case("--preset demo --run.dir {here}/bell\a", "control character"),
        Case("--preset demo --run.dir {here}/link/run", "symbolic link to nowhere", _link("nowhere")),
        Case("--preset demo --run.dir {here}/link", "symbolic link to nowhere", _link("nowhere")),
        Case("--preset demo --run.dir {here}/link/run", "symbolic link to link", _link("link")),
        Case("s3://bucket/run", "RUN is s3:/bucket/run, an address", command="evaluate"),
        Case("~nobody_here/run", "RUN is ~nobody_here/run", command="report"),
        Case("{here}/run {here}/a.png --show abfs://sheet.png", "--show is abfs:", _run(), command="predict"),
        Case("--data.name synthetic --out gs://bucket/out", "--out is gs:", command="explore"),
        Case(f"{_LONG_PATH}", "256 bytes", command="evaluate"),
    ]
    return [replace(case, kind=kind) for case in cases]


def _folder_cases() -> list[Case]:
    kind = "a folder where a run cannot be written or read"
    run_flags = "--preset demo --run.dir {here}/run"
    cases = [
        Case("--preset demo --run.dir {here}/seed[12]", "cannot be read back"),
        Case("--preset demo --run.dir {here}/[a-z]/b", "cannot be read back"),
        Case("--preset demo --run.dir {here}/a\udcff", "not valid UTF-8"),
        Case(run_flags, "cannot be read (Is a directory)", _run("config.json")),
        Case(run_flags, "cannot be read (Is a directory)", _run("summary.json")),
        Case(run_flags, "summary.json is damaged (it holds list", _run(summary__json="[]")),
        Case(run_flags, ".lock cannot be opened (Is a directory)", _run(".lock")),
        Case(run_flags, "checkpoints is a file", _run(checkpoints="a file")),
        Case("{here}/run", "has no checkpoint", _run(), command="evaluate"),
        Case("{here}/run", "has no config.json", command="report"),
        Case("{here}/run {here}/a.png", "cannot be read (Is a directory)", _run("config.json"), command="predict"),
    ]
    return [replace(case, kind=kind) for case in cases]


def _device_cases() -> list[Case]:
    kind = "a device or JAX setting that does not exist"
    cases = [
        Case("--preset demo", "JAX_PLATFORMS is rocm", environment={"JAX_PLATFORMS": "rocm"}),
        Case("--preset demo", "JAX_PLATFORMS is abacus", environment={"JAX_PLATFORMS": "abacus"}),
        Case("--preset demo", "JAX_PLATFORM_NAME is gpu", environment={"JAX_PLATFORM_NAME": "gpu"}),
        Case("--preset demo", "JAX_DISABLE_JIT is set", environment={"JAX_DISABLE_JIT": "True"}),
        Case("--preset demo", "fix or unset it", environment={"JAX_ENABLE_X64": "perhaps"}),
        Case("--preset demo", "jax_default_matmul_precision", environment={"JAX_DEFAULT_MATMUL_PRECISION": "most"}),
        Case("{here}/run", "JAX_PLATFORMS is rocm", _run(), {"JAX_PLATFORMS": "rocm"}, "evaluate"),
        Case("{here}/run {here}/a.png", "JAX_PLATFORMS is rocm", _run(), {"JAX_PLATFORMS": "rocm"}, "predict"),
        Case("--data.name synthetic", "JAX_PLATFORMS is rocm", _no_setup, {"JAX_PLATFORMS": "rocm"}, "explore"),
    ]
    return [replace(case, kind=kind) for case in cases]


def _network_cases() -> list[Case]:
    kind = "a network or proxy that does not deliver"
    data_flags = "--preset fast --data.dir {here}/data"
    cases = [
        Case(data_flags, "--data.raw-dir", environment=_NO_PROXY),
        Case(data_flags, "http://127.0.0.1:1 ", environment={"HTTP_PROXY": "http://127.0.0.1:1"}),
        Case(data_flags, "http://127.0.0.1:1 ", environment=_NO_PROXY | {"all_proxy": "http://me:word@127.0.0.1:1"}),
        Case(
            data_flags, "proxy socks5h://127.0.0.1:1", environment=_NO_PROXY | {"http_proxy": "socks5h://127.0.0.1:1"}
        ),
        Case(data_flags, "fix or unset the proxy", environment=_NO_PROXY | {"http_proxy": "http://[::1"}),
        Case("--data.dir {here}/data", "proxy 127.0.0.1:1 ", _no_setup, {"http_proxy": "127.0.0.1:1"}, "explore"),
    ]
    return [replace(case, kind=kind) for case in cases]


def _npz(**changed: Any) -> Callable[[Path], None]:
    """Writes 40 training and 4 test images of two classes, with the given arrays replaced, or left out if None."""

    def write(folder: Path) -> None:
        images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
        images[:, 0, 0] = np.arange(40)
        arrays = {
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:4] + 99,
            "test_labels": labels[:4],
        }
        present = {name: array for name, array in {**arrays, **changed}.items() if array is not None}
        np.savez(folder / "a.npz", **present)

    return write


def _text_file(folder: Path) -> None:
    (folder / "a.npz").write_text("text")


def _no_test_labels(folder: Path) -> None:
    write(folder / "raw", compressed=True)
    (folder / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()


def _own_run(folder: Path) -> None:
    config = PRESETS["demo"]
    values = to_dict(replace(config, data=replace(config.data, name="own", total=3_000)))
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(values))


def _own_data_cases() -> list[Case]:
    kind = "invalid data of your own"
    data_flags, no_validation = "--data.name npz --data.file {here}/a.npz", "--data.validation-size 0"
    floats = np.zeros((4, 8, 8), np.float32)
    cases = [
        Case("--data.name npz", "--data.file is not given"),
        Case("--data.name idx", "--data.raw-dir is not given"),
        Case("--data.file {here}/a.npz", "omit it, or choose --data.name npz"),
        Case("--data.name npz --data.file s3://bucket/a.npz", "address (s3)"),
        Case(data_flags, "which does not exist: give the path of the .npz file"),
        Case(data_flags, "is not an .npz file", _text_file),
        Case(data_flags, "has no test_labels", _npz(test_labels=None)),
        Case(data_flags, "Object arrays cannot be loaded", _npz(class_names=np.array(["a", None]))),
        Case(
            f"{data_flags} {no_validation}",
            "test data: images are float32[4, 8, 8]: expected uint8",
            _npz(test_images=floats),
        ),
        Case(f"{data_flags} {no_validation}", "expected uint8[3, H, W]", _npz(test_labels=np.zeros(3, int))),
        Case(
            f"{data_flags} {no_validation}", "labels hold -1: expected 0..1", _npz(test_labels=np.array([0, 1, 0, -1]))
        ),
        Case(data_flags, "leaves none of 40 images for training", _npz()),
        Case("--data.name idx --data.raw-dir {here}/raw", "t10k-labels-idx1-ubyte is missing", _no_test_labels),
        Case("--data.name own", "is own: its images were passed in Python"),
        Case("--run.dir {here}/run", "is own: its images were passed in Python", _own_run),
    ]
    return [replace(case, kind=kind) for case in cases]


SURROUNDING_CASES = [*_path_cases(), *_folder_cases(), *_device_cases(), *_network_cases(), *_own_data_cases()]
