"""Invalid arguments, and what the message must contain."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from fmnist_jax.config.presets import PRESETS
from fmnist_jax.config.record import to_dict
from tests.faults.invocations import Case

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _file(folder: Path) -> None:
    (folder / "file").write_text("not a directory")


def _raw_files(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "raw").mkdir()
        for name in _FILES:
            (folder / "raw" / name).write_bytes(content)

    return write


def _one_raw_file(folder: Path) -> None:
    (folder / "raw").mkdir()
    (folder / "raw" / _FILES[0]).write_bytes(gzip.compress(b"\0\0\x08\x03"))


def _run_directory(config: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "run").mkdir()
        (folder / "run" / "config.json").write_text(config)

    return write


def _no_config(folder: Path) -> None:
    (folder / "run" / "checkpoints" / "40").mkdir(parents=True)


_DEMO_CONFIG = json.dumps(to_dict(PRESETS["demo"]))
_OLD_CONFIG = json.dumps({section: {} for section in ("data", "model", "optim", "augment", "train", "run")})
_NO_NETWORK = {"HTTP_PROXY": "", "http_proxy": "", "ALL_PROXY": "", "all_proxy": ""}

ARGUMENT_CASES = [
    Case("--parallel.devices 3", "choose 126 or 129, or --parallel.devices 2"),
    Case("--preset demo --parallel.devices 64", "--parallel.devices is 64, but there are "),
    Case("--parallel.devices none", "--parallel.devices"),
    Case("--parallel.axis member", "--population.seeds is 1: choose data, or several members"),
    Case("--population.seeds 0", "--population.seeds is 0: choose a value in [1, 1024]"),
    Case("--population.seeds 2 --train.seed 4294967295", "the last seed"),
    Case("--parallel.processes 2", "add --parallel.distributed"),
    Case("--preset demo --parallel.distributed --parallel.processes 2", "give --parallel.coordinator"),
    Case("--preset demo --parallel.distributed", "the processes of the run cannot be joined"),
    Case("--train.epoch 3", "--train.epochs"),
    Case("--optim.learning-rate 0.1", "Unrecognized"),
    Case("--lr 0.1", "Unrecognized"),
    Case("train", "Unrecognized"),
    Case("--preset", "--preset"),
    Case("--preset none", "standard"),
    Case("--preset=", "--preset is empty"),
    Case("--init.from=", "--init.from is empty"),
    Case("--run.dir= --preset demo", "--run.dir is empty"),
    Case("--preset Fast", "fast"),
    Case("--train.epochs", "--train.epochs"),
    Case("--train.epochs three", "three"),
    Case("--train.epochs 1.5", "1.5"),
    Case("--train.epochs 0", "[1, 100000]"),
    Case("--train.epochs -1", "[1, 100000]"),
    Case("--train.epochs 100001", "[1, 100000]"),
    Case("--train.batch-size 0", "--train.batch-size"),
    Case("--train.batch-size 65537", "--train.batch-size"),
    Case("--train.batch-size 60000", "55000"),
    Case("--train.eval-batch-size 0", "--train.eval-batch-size"),
    Case("--train.seed -1", "--train.seed"),
    Case("--train.seed 4294967296", "--train.seed"),
    Case("--train.label-smoothing 1.0", "[0, 1)"),
    Case("--train.label-smoothing -0.1", "[0, 1)"),
    Case("--augment.crop-padding 15", "choose at most 14"),
    Case("--augment.mixup-alpha 1 --augment.cutmix-alpha 1", "choose 0 for one of them"),
    Case("--augment.erase-probability 1.1", "[0, 1]"),
    Case("--model.family plain --model.stem pooled --model.stochastic-depth 0.1", "--model.family resnet"),
    Case("--model.family plain --model.stem full", "--model.family resnet"),
    Case("--model.stem stride", "pooled"),
    Case("--model.family inception", "plain"),
    Case("--augment.crop-padding -1", "[0, 1024]"),
    Case("--train.eval-every 0", "--train.eval-every"),
    Case("--augment.flip yes", "yes"),
    Case("--train.epochs 100000 --train.batch-size 1", "2**31"),
    Case("--optim.name rmsprop", "rmsprop"),
    Case("--optim.schedule linear", "linear"),
    Case("--optim.peak-lr 0", "--optim.peak-lr"),
    Case("--optim.peak-lr -0.1", "--optim.peak-lr"),
    Case("--optim.peak-lr nan", "--optim.peak-lr"),
    Case("--optim.peak-lr inf", "--optim.peak-lr"),
    Case("--optim.peak-lr 0,1", "0,1"),
    Case("--optim.warmup 1.1", "--optim.warmup"),
    Case("--optim.warmup -0.1", "--optim.warmup"),
    Case("--optim.final-lr 2", "--optim.final-lr"),
    Case("--optim.momentum 1", "[0, 1)"),
    Case("--optim.weight-decay -1e-4", "--optim.weight-decay"),
    Case("--optim.weight-decay 11", "--optim.weight-decay"),
    Case("--optim.clip-norm -1", "--optim.clip-norm"),
    Case("--model.dropout 1.0", "[0, 1)"),
    Case("--model.dropout -0.5", "[0, 1)"),
    Case("--model.dtype float8", "float8"),
    Case("--model.dtype float16", "float16"),
    Case("--model.widths 0 8 8", "--model.widths"),
    Case("--model.widths 8 8 5000", "--model.widths"),
    Case("--model.widths", "--model.widths"),
    Case("--model.widths 8 8", "--model.depths"),
    Case("--model.widths a b c", "--model.widths"),
    Case("--model.widths 8 8 8 8 8 8 --model.depths 1 1 1 1 1 1", "halve 28x28 to nothing"),
    Case("--model.depths 0 1 1", "--model.depths"),
    Case("--model.batch-norm-momentum 1", "--model.batch-norm-momentum"),
    Case("--data.name mnist", "mnist"),
    Case("--data.validation-size 60000", "60000"),
    Case("--data.validation-size -5", "--data.validation-size"),
    Case("--data.seed -1", "--data.seed"),
    Case("--data.name synthetic --data.synthetic-train-size 5", "--data.synthetic-train-size"),
    Case("--data.name synthetic --data.synthetic-test-size 0", "--data.synthetic-test-size"),
    Case("--data.name synthetic --data.synthetic-train-size 4000", "validation"),
    Case("--init.freeze Conv_*", "--init.from is not given"),
    Case("--preset demo --init.from {here}/none", "none, which has no config.json"),
    Case("--preset demo --init.from gs://runs/a", "an address"),
    Case("--preset demo --init.from {here}/run", "has no checkpoint", _run_directory(_DEMO_CONFIG)),
    Case("--run.dir {here}/run --init.from {here}/run", "init.source: None -> ", _run_directory(_DEMO_CONFIG)),
    Case("--run.log-every 0", "--run.log-every"),
    Case("--run.checkpoint-every 0", "--run.checkpoint-every"),
    Case("--run.progress fancy", "fancy"),
    Case("--train.epochs 0 --model.dropout 1.0 --optim.momentum 2", "--model.dropout"),
    Case("--train.epochs x --optim.name rmsprop --lr 1 --model.dropout 2", "--model.dropout is 2.0"),
    Case("--preset demo --run.dir {here}/file", "file", _file),
    Case("--preset demo --run.dir {here}/file/run", "file", _file),
    Case("--preset demo --run.dir /proc/run", "/proc"),
    Case("--preset fast --run.dir {here}/run", "a different configuration", _run_directory(_DEMO_CONFIG)),
    Case("--preset demo --train.seed 1 --run.dir {here}/run", "train.seed: 0 -> 1", _run_directory(_DEMO_CONFIG)),
    Case("--run.dir {here}/run --train.epochs 9", "train.epochs: 4 -> 9", _run_directory(_DEMO_CONFIG)),
    Case("--run.dir {here}/run", "config.json", _run_directory('{"preset": "demo"')),
    Case("--run.dir {here}/run", "different sections", _run_directory(_OLD_CONFIG)),
    Case("--preset demo --run.dir {here}/run", "no config.json", _no_config),
    Case("--data.dir {here}/data --data.raw-dir {here}/none", _FILES[0]),
    Case("--data.dir {here}/data", _FILES[0], environment={"FMNIST_RAW_DIR": "{here}/none"}),
    Case("--data.dir {here}/data --data.raw-dir {here}/file", _FILES[0], _file),
    Case("--data.dir {here}/data --data.raw-dir {here}/raw", "SHA-256", _raw_files(b"<!DOCTYPE html><html></html>")),
    Case("--data.dir {here}/data --data.raw-dir {here}/raw", "SHA-256", _raw_files(b"")),
    Case("--data.dir {here}/data --data.raw-dir {here}/raw", "SHA-256", _one_raw_file),
    Case("--data.dir {here}/file --data.raw-dir {here}/none", "file", _file),
    Case("--data.raw-dir {here}/none", "file", _file, {"FMNIST_DATA_DIR": "{here}/file/data"}),
    Case("--data.dir {here}/data", "--data.raw-dir", environment=_NO_NETWORK),
]
