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
    kill_at_random,
    kill_while_saving,
    outcome,
    records,
    riddle,
    wait_for_step,
)

pytestmark = pytest.mark.slow


def _newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))


def _assert_same_in_the_end(lab: Lab, run: Path) -> None:
    done = lab.finish(run)
    assert done.returncode == 0, done.stderr
    assert outcome(run) == lab.undisturbed()


def test_a_run_killed_during_a_save_and_at_random_moments_ends_in_the_same_bits(lab: Lab) -> None:
    assert kill_while_saving(lab, "killed", 1, random.Random(7)) == 1
    # As this seed has it, the first of these falls seven steps later, the second 1.5 s after the run goes on.
    assert kill_at_random(lab, "killed", 2, random.Random(38)) == 2
    _assert_same_in_the_end(lab, lab.folder / "killed")


def test_a_signal_saves_and_says_how_to_go_on(lab: Lab) -> None:
    """The other tests send SIGINT, which saves, too."""
    run, number = lab.folder / "stopped", signal.SIGTERM
    process = lab.start(run, log_delay=0.02)
    assert wait_for_step(run, process, 10)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    step = records(run)[-1]["step"]
    assert 10 <= step < STEPS
    assert errors.splitlines() == [
        f"stopped: {number.name} at step {step} of {STEPS}; its state is saved; "
        f"resume with: {python_command()} -m fmnist_jax.train --run.dir {run}"
    ]
    assert _newest(run).name == str(step)


def test_a_second_process_is_refused_and_a_second_interrupt_stops_at_once_and_damages_nothing(lab: Lab) -> None:
    run = lab.folder / "twice"
    process = lab.start(run, log_delay=0.2, save_delay=1.0)
    assert wait_for_step(run, process, 1)
    second = lab.finish(run)
    assert second.returncode == 2
    assert f"in use by process {process.pid} " in second.stderr
    process.send_signal(signal.SIGINT)
    # The first interrupt's save takes two seconds here, so the second one falls into it.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=3.0)
    assert process.returncode == -signal.SIGINT
    _assert_same_in_the_end(lab, run)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_litter_does_no_harm(lab: Lab) -> None:
    run = lab.copy(lab.half_done(), "damaged")
    checkpoint = _newest(run)
    riddle(checkpoint)
    (run / "checkpoints" / "59").mkdir()
    (run / "checkpoints" / "58.orbax-checkpoint-tmp-1").mkdir()
    done = lab.finish(run)
    assert done.returncode == 0, done.stderr
    damaged, empty = done.stderr.splitlines()
    assert damaged.startswith(f"warning: checkpoint {checkpoint.name} in ")
    assert empty.startswith("warning: checkpoint 59 in ")
    assert {path.name for path in (run / "damaged").iterdir()} == {checkpoint.name, "59"}
    assert outcome(run) == lab.undisturbed()


def test_without_a_believable_checkpoint_a_run_never_starts_afresh(lab: Lab) -> None:
    run = lab.copy(lab.half_done(), "all-damaged")
    for checkpoint in (run / "checkpoints").iterdir():
        riddle(checkpoint)
    before = {path: path.stat().st_size for path in (run / "checkpoints").rglob("*")}
    done = lab.finish(run)
    assert done.returncode == 2
    assert done.stderr.startswith("error: checkpoint ")
    assert len(done.stderr.splitlines()) == 1
    assert {path: path.stat().st_size for path in (run / "checkpoints").rglob("*")} == before


def test_an_interrupted_run_goes_on_to_the_same_bits_and_harmless_settings_may_change(lab: Lab) -> None:
    run = lab.copy(lab.half_done(), "harmless")
    done = lab.finish(run, "--run.checkpoint-every", "7")
    assert done.returncode == 0, done.stderr
    sessions = [json.loads(line) for line in (run / "sessions.jsonl").read_text().splitlines()]
    assert [session["run"]["checkpoint_every"] for session in sessions] == [4, 7]
    assert outcome(run) == lab.undisturbed()


def test_divergence_stops_with_the_first_bad_step_and_finite_checkpoints(lab: Lab) -> None:
    run = lab.folder / "diverged"
    done = lab.finish(run, "--optim.peak-lr", "1e9", "--run.checkpoint-every", "1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "not finite" in done.stderr
    assert "step " in done.stderr
    saved = list((run / "checkpoints").iterdir())
    assert saved
    for checkpoint in saved:
        leaves = ocp.StandardCheckpointer().restore(checkpoint / "state")
        assert all(np.isfinite(leaf).all() for leaf in leaves.values() if leaf.dtype.kind == "f")


def test_a_full_disk_is_said_with_path_and_bytes_and_earlier_checkpoints_restore(lab: Lab) -> None:
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
        _assert_same_in_the_end(lab, disk / "run")
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_running_out_of_device_memory_is_said_in_one_line(lab: Lab) -> None:
    # 20,000 images of 28 x 28 x 4096 float32 channels are 257 GB, and the step holds several such arrays.
    run, file = lab.folder / "huge", lab.folder / "huge.npz"
    blank, labels = np.zeros((20_100, 28, 28), np.uint8), np.arange(20_100) % 10
    np.savez(file, train_images=blank, train_labels=labels, test_images=blank[:50], test_labels=labels[:50])
    sizes = ("--model.widths", "4096", "4", "--train.batch-size", "20000")
    done = lab.finish(run, *sizes, "--data.name", "npz", "--data.file", str(file), "--train.epochs", "1")
    assert done.returncode == 2, done.stderr
    assert "error: the device is out of memory: choose less than --train.batch-size 20000" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_orbax_restores_a_checkpoint(lab: Lab) -> None:
    lab.undisturbed()
    script = """
import sys
import orbax.checkpoint as ocp
leaves = ocp.StandardCheckpointer().restore(sys.argv[1])
assert "fmnist_jax" not in sys.modules
print(int(leaves["step"]), leaves["params.Conv_0.kernel"].shape)
"""
    path = _newest(lab.folder / "undisturbed") / "state"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split(maxsplit=1) == [str(STEPS), "(3, 3, 1, 4)\n"]
