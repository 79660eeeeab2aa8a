"""Runs that are killed, signalled, starved or damaged; `make faults` is the long form."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from fmnist_jax.system.environment import python_command
from tests.faults.harness import (
    STEPS,
    Lab,
    corrupt_payload,
    kill_at_random,
    kill_while_saving,
    read_metrics,
    read_outcome,
    wait_for_step,
)

pytestmark = pytest.mark.slow


def _newest_checkpoint(run: Path) -> Path:
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))


def _assert_finishes_identically(lab: Lab, run: Path) -> None:
    result = lab.finish(run)
    assert result.returncode == 0, result.stderr
    assert read_outcome(run) == lab.reference_outcome()


def test_run_killed_while_saving_and_at_random_finishes_bit_identically(lab: Lab) -> None:
    assert kill_while_saving(lab, "killed", 1, random.Random(7)) == 1
    # With this seed, the first of these kills comes seven steps later, the second 1.5 s after the restart.
    assert kill_at_random(lab, "killed", 2, random.Random(38)) == 2
    _assert_finishes_identically(lab, lab.folder / "killed")


def test_sigterm_saves_and_prints_how_to_resume(lab: Lab) -> None:
    """SIGINT, which also saves, is sent by other tests."""
    run, signal_number = lab.folder / "stopped", signal.SIGTERM
    process = lab.start(run, log_delay=0.02)
    assert wait_for_step(run, process, 10)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal_number
    step = read_metrics(run)[-1]["step"]
    assert 10 <= step < STEPS
    assert errors.splitlines() == [
        f"stopped: {signal_number.name} at step {step} of {STEPS}; its state is saved; "
        f"resume with: {python_command()} -m fmnist_jax.train --run.dir {run}"
    ]
    assert _newest_checkpoint(run).name == str(step)


def test_second_process_is_refused_and_second_interrupt_stops_without_damage(lab: Lab) -> None:
    run = lab.folder / "twice"
    process = lab.start(run, log_delay=0.2, save_delay=1.0)
    assert wait_for_step(run, process, 1)
    refused = lab.finish(run)
    assert refused.returncode == 2
    assert f"in use by process {process.pid} " in refused.stderr
    process.send_signal(signal.SIGINT)
    # The first interrupt's save takes two seconds here, so the second one arrives during it.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=3.0)
    assert process.returncode == -signal.SIGINT
    _assert_finishes_identically(lab, run)


def test_damaged_checkpoint_falls_back_to_the_previous_and_litter_is_harmless(lab: Lab) -> None:
    run = lab.copy(lab.interrupted_run(), "damaged")
    checkpoint = _newest_checkpoint(run)
    corrupt_payload(checkpoint)
    (run / "checkpoints" / "59").mkdir()
    (run / "checkpoints" / "58.orbax-checkpoint-tmp-1").mkdir()
    result = lab.finish(run)
    assert result.returncode == 0, result.stderr
    damaged_warning, empty_warning = result.stderr.splitlines()
    assert damaged_warning.startswith(f"warning: checkpoint {checkpoint.name} in ")
    assert empty_warning.startswith("warning: checkpoint 59 in ")
    assert {path.name for path in (run / "damaged").iterdir()} == {checkpoint.name, "59"}
    assert read_outcome(run) == lab.reference_outcome()


def test_run_with_only_damaged_checkpoints_is_refused_and_left_unchanged(lab: Lab) -> None:
    run = lab.copy(lab.interrupted_run(), "all-damaged")
    for checkpoint in (run / "checkpoints").iterdir():
        corrupt_payload(checkpoint)
    sizes_before = {path: path.stat().st_size for path in (run / "checkpoints").rglob("*")}
    result = lab.finish(run)
    assert result.returncode == 2
    assert result.stderr.startswith("error: checkpoint ")
    assert len(result.stderr.splitlines()) == 1
    assert {path: path.stat().st_size for path in (run / "checkpoints").rglob("*")} == sizes_before


def test_resumed_run_is_bit_identical_with_another_checkpoint_interval(lab: Lab) -> None:
    run = lab.copy(lab.interrupted_run(), "harmless")
    result = lab.finish(run, "--run.checkpoint-every", "7")
    assert result.returncode == 0, result.stderr
    sessions = [json.loads(line) for line in (run / "sessions.jsonl").read_text().splitlines()]
    assert [session["run"]["checkpoint_every"] for session in sessions] == [4, 7]
    assert read_outcome(run) == lab.reference_outcome()


def test_divergence_names_the_step_and_leaves_only_finite_checkpoints(lab: Lab) -> None:
    run = lab.folder / "diverged"
    result = lab.finish(run, "--optim.peak-lr", "1e9", "--run.checkpoint-every", "1")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "not finite" in result.stderr
    assert "step " in result.stderr
    checkpoints = list((run / "checkpoints").iterdir())
    assert checkpoints
    for checkpoint in checkpoints:
        leaves = ocp.StandardCheckpointer().restore(checkpoint / "state")
        assert all(np.isfinite(leaf).all() for leaf in leaves.values() if leaf.dtype.kind == "f")


def test_full_disk_errors_name_path_and_bytes_and_the_run_resumes_later(lab: Lab) -> None:
    disk = lab.folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        process = lab.start(disk / "run", log_delay=0.05)
        assert wait_for_step(disk / "run", process, 20)
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(b"\0" * 4096):
                pass
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert len(errors.splitlines()) == 1
        assert str(disk / "run") in errors

        refused = lab.finish(disk / "run")
        assert refused.returncode == 2
        assert "bytes free and the run needs" in refused.stderr

        (disk / "filler").unlink()
        _assert_finishes_identically(lab, disk / "run")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_out_of_device_memory_is_reported_without_a_traceback(lab: Lab) -> None:
    # 20,000 images of 28 x 28 x 4096 float32 channels are 257 GB, and the step holds several such arrays.
    run, file = lab.folder / "huge", lab.folder / "huge.npz"
    blank, labels = np.zeros((20_100, 28, 28), np.uint8), np.arange(20_100) % 10
    np.savez(file, train_images=blank, train_labels=labels, test_images=blank[:50], test_labels=labels[:50])
    size_flags = ("--model.widths", "4096", "4", "--train.batch-size", "20000")
    result = lab.finish(run, *size_flags, "--data.name", "npz", "--data.file", str(file), "--train.epochs", "1")
    assert result.returncode == 2, result.stderr
    assert "error: the device is out of memory: choose less than --train.batch-size 20000" in result.stderr
    assert "Traceback" not in result.stderr


def test_plain_orbax_restores_a_checkpoint(lab: Lab) -> None:
    lab.reference_outcome()
    script = """
import sys
import orbax.checkpoint as ocp
leaves = ocp.StandardCheckpointer().restore(sys.argv[1])
assert "fmnist_jax" not in sys.modules
print(int(leaves["step"]), leaves["params.Conv_0.kernel"].shape)
"""
    path = _newest_checkpoint(lab.folder / "undisturbed") / "state"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split(maxsplit=1) == [str(STEPS), "(3, 3, 1, 4)\n"]
