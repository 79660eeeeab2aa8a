"""A training run of 60 steps on 512 synthetic images that can be started, damaged and compared."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmnist_jax.system import lock

ROOT = Path(__file__).parents[2]
STEPS = 60
TIMEOUT = 120.0  # seconds; far more than a run takes on a busy machine

TINY_RUN = (
    *("--data.name", "synthetic", "--data.synthetic-train-size", "512", "--data.synthetic-test-size", "50"),
    *("--data.validation-size", "32", "--model.family", "plain", "--model.stem", "pooled", "--model.dropout", "0.3"),
    *("--model.widths", "4", "4", "--model.depths", "1", "1"),
    *("--train.batch-size", "32", "--train.eval-batch-size", "32", "--train.epochs", "4"),
    *("--run.log-every", "1", "--run.checkpoint-every", "4", "--run.progress", "plain"),
)


@dataclass(frozen=True)
class Outcome:
    """What must not depend on how a run was interrupted."""

    digest: str
    losses: tuple[tuple[int, float], ...]
    validations: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Lab:
    """A folder for runs, and the compilation cache that they share."""

    folder: Path
    draw_figures: bool = True
    """Whether runs leave figures and a report, which take a fifth of their time."""

    def command(self, *arguments: str, save_delay: float = 0.0, log_delay: float = 0.0) -> list[str]:
        """The command line of a run, with delays in seconds for each save and each log line."""
        return [sys.executable, "-m", "tests.faults.slowed", str(save_delay), str(log_delay), *TINY_RUN, *arguments]

    def start(
        self, run: Path, *arguments: str, save_delay: float = 0.0, log_delay: float = 0.0, **options: Any
    ) -> subprocess.Popen[str]:
        """Starts or resumes a run; `options` for `Popen` override the pipes."""
        return subprocess.Popen(
            self.command("--run.dir", str(run), *arguments, save_delay=save_delay, log_delay=log_delay),
            **{**self.popen_options(), **options},
        )

    def popen_options(self) -> dict[str, Any]:
        """Options for `Popen`: a run is observed through pipes."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return {"cwd": ROOT, "env": self.environment(), **pipes}

    def finish(self, run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Starts or resumes a run and waits for its end."""
        process = self.start(run, *arguments)
        output, errors = process.communicate(timeout=TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def reference_outcome(self) -> Outcome:
        """The outcome of an undisturbed run, which is trained once."""
        run = self.folder / "undisturbed"
        with lock.wait_exclusive(self.folder):
            if not (run / "summary.json").exists():
                result = self.finish(run)
                assert result.returncode == 0, result.stderr
        return read_outcome(run)

    def interrupted_run(self) -> Path:
        """A run that SIGINT stopped halfway, trained once; copy it before damaging it."""
        run = self.folder / "half-done"
        with lock.wait_exclusive(self.folder):
            if not run.exists():
                process = self.start(run, log_delay=0.02)
                wait_for_step(run, process, STEPS // 2)
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=TIMEOUT)
                assert process.returncode == 128 + signal.SIGINT
        return run

    def copy(self, run: Path, name: str) -> Path:
        """Copies a run directory."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(run, target)
        return target

    def environment(self) -> dict[str, str]:
        """The process's environment, with the compilation cache and without variables that would change a run."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            # As for most users, output is buffered.
            if not name.startswith(("FMNIST_", "XLA_", "JAX_")) and name != "PYTHONUNBUFFERED"
        }
        settings = {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return inherited | settings | ({} if self.draw_figures else {"TESTS_LEAVE_UNDRAWN": "1"})


def read_outcome(run: Path) -> Outcome:
    """Reads the outcome of a finished run."""
    summary = json.loads((run / "summary.json").read_text())
    lines = read_metrics(run)
    return Outcome(
        digest=summary["state_digest"],
        losses=tuple((line["step"], line["train_loss"]) for line in lines if "train_loss" in line),
        validations=tuple(
            (line["step"], line["val_loss"], line["val_accuracy"]) for line in lines if "val_loss" in line
        ),
    )


def read_metrics(run: Path) -> list[Mapping[str, Any]]:
    """Reads the metrics lines."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_step(run: Path, process: subprocess.Popen[str], step: int) -> bool:
    """Waits until a run has logged a step; False if it ended before."""
    return _wait_until(process, lambda: any(line["step"] >= step for line in read_metrics(run)))


def wait_for_save(run: Path, process: subprocess.Popen[str], known_saves: set[str]) -> bool:
    """Waits until a checkpoint that is not in `known_saves` is being written; False if the run ended before.

    A kill leaves an unfinished one, which the next process removes after it has started, and may then write again.
    """

    def has_started() -> bool:
        unfinished = _unfinished(run)
        known_saves.intersection_update(unfinished)
        return not unfinished <= known_saves

    return _wait_until(process, has_started)


def _unfinished(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").glob("*.orbax-checkpoint-tmp*")}


def _wait_until(process: subprocess.Popen[str], condition: Any) -> bool:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    raise TimeoutError(f"nothing happened in {TIMEOUT} s")


def kill_at_random(lab: Lab, name: str, kills: int, rng: random.Random) -> int:
    """Starts a run and kills it (SIGKILL) at a random moment, `kills` times; returns how many kills hit it."""
    run, hits = lab.folder / name, 0
    for _ in range(kills):
        process = lab.start(run, log_delay=0.03, save_delay=0.02)
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0.0, 4.0))
        else:
            lines = read_metrics(run)
            last_step = lines[-1]["step"] if lines else 0
            wait_for_step(run, process, last_step + rng.randint(1, 8))
            time.sleep(rng.uniform(0.0, 0.06))
        hits += _kill_process(process)
    return hits


def kill_while_saving(lab: Lab, name: str, kills: int, rng: random.Random) -> int:
    """Does the same while a checkpoint is being written or an old one is being deleted."""
    run, hits = lab.folder / name, 0
    for _ in range(kills):
        known_saves = _unfinished(run)
        process = lab.start(run, log_delay=0.01, save_delay=0.1)
        # After a few saves, so that later ones are hit too and the run makes progress.
        for _ in range(rng.randint(1, 3)):
            wait_for_save(run, process, known_saves)
            known_saves |= _unfinished(run)
            time.sleep(rng.uniform(0.0, 0.3))
        hits += _kill_process(process)
    return hits


def _kill_process(process: subprocess.Popen[str]) -> bool:
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


def damage_cases(checkpoint: Path) -> Iterator[tuple[str, Path]]:
    """Every kind of damage to every file of a checkpoint: (kind, path relative to the checkpoint)."""
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        for kind in ("truncated", "deleted", "flipped"):
            yield kind, path.relative_to(checkpoint)


def damage(path: Path, kind: str) -> None:
    """Truncates a file to half, deletes it, or flips one bit in its middle."""
    if kind == "deleted":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif content:
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)


def corrupt_payload(checkpoint: Path) -> None:
    """Flips one bit in every 64 bytes of a checkpoint's payload, because some bytes are never read.

    OCDBT keeps tree nodes that later writes have replaced, and a file may contain nothing else, so that flipping a
    single bit or deleting a single file may do no harm.
    """
    for path in checkpoint.glob("state/**/d/*"):
        content = bytearray(path.read_bytes())
        content[::64] = bytes(byte ^ 0x10 for byte in content[::64])
        path.write_bytes(content)
