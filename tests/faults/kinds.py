"""Situations from other programs' bug reports, each a trial that a run survives or not; `TRIALS` lists them."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.harness import TIMEOUT, TINY_RUN, Lab, corrupt_payload, read_outcome, wait_for_step


class UnavailableError(Exception):
    """A trial that cannot run on this machine; the message says what it needs."""


class Trial(NamedTuple):
    """A situation, and the function that creates it in an empty folder and returns whether it was survived."""

    kind: str
    name: str
    survives: Callable[[Lab, Path], bool]


def _ends_identically(lab: Lab, run: Path, process: subprocess.Popen[str]) -> bool:
    """Whether a run succeeds with the outcome of an undisturbed run."""
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 0 and read_outcome(run) == lab.reference_outcome()


def _reader_closes_pipe(lab: Lab, folder: Path) -> bool:
    process = lab.start(folder / "run", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=TIMEOUT)
    return process.returncode == 0 and read_outcome(folder / "run") == lab.reference_outcome()


def _full_disk(streams: Sequence[str], lab: Lab, folder: Path, *, style: str = "plain") -> bool:
    with ExitStack() as stack:
        full: dict[str, Any] = {name: stack.enter_context(Path("/dev/full").open("w")) for name in streams}
        return _ends_identically(lab, folder / "run", lab.start(folder / "run", "--run.progress", style, **full))


def _closed_streams(lab: Lab, folder: Path) -> bool:
    run, lab = folder / "run", replace(lab, draw_figures=True)
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *lab.command("--run.dir", str(run))]
    return _ends_identically(lab, run, subprocess.Popen(command, **lab.popen_options()))


def _terminal_disappears(lab: Lab, folder: Path) -> bool:
    run, (parent_fd, child_fd) = folder / "run", pty.openpty()
    process = lab.start(run, "--run.progress", "bar", log_delay=0.02, stdout=child_fd, stderr=child_fd)
    os.close(child_fd)
    os.read(parent_fd, 1)
    assert wait_for_step(run, process, 10)
    os.close(parent_fd)  # from now on its writes fail with EIO
    return _ends_identically(lab, run, process)


def _hangup(lab: Lab, folder: Path) -> bool:
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        raise UnavailableError("needs to be run without nohup, whose children ignore the signal")
    run = folder / "run"
    process = lab.start(run, log_delay=0.02)
    assert wait_for_step(run, process, 10)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 128 + signal.SIGHUP and _ends_identically(lab, run, lab.start(run))


def _nohup(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    process = subprocess.Popen(["nohup", *lab.command("--run.dir", str(run), log_delay=0.02)], **lab.popen_options())
    assert wait_for_step(run, process, 10)
    process.send_signal(signal.SIGHUP)
    return _ends_identically(lab, run, process)


def _saving_script(code: str, lab: Lab, folder: Path) -> bool:
    """Whether a script that saves and exits leaves only a checkpoint that can be restored."""
    save_script = f"import numpy as np\nfrom pathlib import Path\nimport fmnist_jax as fj\nhere = Path('here')\n{code}"
    restore_script = (
        "import numpy as np\nfrom pathlib import Path\nimport fmnist_jax as fj\n"
        "assert fj.restore(Path('here'), 3, {'a': np.zeros(4)})['a'].tolist() == [0, 1, 2, 3]\n"
        "assert [path.name for path in Path('here').iterdir()] == ['3']"
    )
    run_options = {**lab.popen_options(), "cwd": folder, "timeout": TIMEOUT}
    processes = [
        subprocess.run([sys.executable, "-c", script], check=False, **run_options)
        for script in (save_script, restore_script)
    ]
    return [process.returncode for process in processes] == [0, 0] and not processes[0].stderr


def _checkpoints_on_another_disk(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    shutil.copytree(lab.interrupted_run(), run)
    with tempfile.TemporaryDirectory(dir=_second_file_system(folder)) as other_disk:
        shutil.move(run / "checkpoints", f"{other_disk}/checkpoints")
        (run / "checkpoints").symlink_to(f"{other_disk}/checkpoints")
        newest_checkpoint = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
        corrupt_payload(newest_checkpoint)
        return _ends_identically(lab, run, lab.start(run)) and (run / "damaged" / newest_checkpoint.name).is_dir()


def _second_file_system(folder: Path) -> Path:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == folder.stat().st_dev:
        raise UnavailableError("needs a second file system at /dev/shm")
    return shared_memory


def _simultaneous_starts(lab: Lab, folder: Path) -> bool:
    options = {**lab.popen_options(), "cwd": folder}
    processes = [subprocess.Popen(lab.command(), **options) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=TIMEOUT)
    runs = list((folder / "runs").iterdir())
    all_succeeded = [process.returncode for process in processes] == [0, 0, 0] and len(runs) == 3
    return all_succeeded and all(read_outcome(run) == lab.reference_outcome() for run in runs)


def _no_locks(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    command = [sys.executable, "-m", "tests.faults.lockless", *TINY_RUN, "--run.dir", str(run)]
    result = subprocess.run(command, **lab.popen_options(), timeout=TIMEOUT, check=False)
    (line,) = result.stderr.splitlines()
    return result.returncode == 0 and line.startswith("warning: ") and read_outcome(run) == lab.reference_outcome()


def _file_limit(lab: Lab, folder: Path) -> bool:
    mount_command = ["mount", "-t", "tmpfs", "-o", "nr_inodes=40", "tmpfs", str(folder)]
    if subprocess.run(mount_command, capture_output=True, check=False).returncode:
        raise UnavailableError("needs root, to mount a file system that takes few files")
    try:
        result = lab.finish(folder / "run")
        return result.returncode == 2 and "more files" in result.stderr and not any(folder.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _unshare_command(*options: str) -> list[str]:
    command = ["unshare", *options]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        raise UnavailableError(f"needs `{' '.join(command)}`, which this machine does not allow")
    return command


def _without_home(lab: Lab, folder: Path) -> bool:
    run, lab = folder / "run", replace(lab, draw_figures=True)
    prefix = [*_unshare_command("--user", "--map-user=12345"), "env", "-u", "HOME"]
    return _ends_identically(
        lab, run, subprocess.Popen([*prefix, *lab.command("--run.dir", str(run))], **lab.popen_options())
    )


def _training_as_first_process(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    unshare = _unshare_command("--pid", "--fork", "--kill-child")
    command = [*unshare, *lab.command("--run.dir", str(run), log_delay=0.02)]
    process: subprocess.Popen[str] = subprocess.Popen(command, **lab.popen_options())
    assert wait_for_step(run, process, 10)
    _interrupt_child(process)
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 128 + signal.SIGINT and _ends_identically(lab, run, lab.start(run))


def _other_command_as_first_process(lab: Lab, folder: Path) -> bool:
    script = (
        "import signal, time; from fmnist_jax.commands import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.run_command(lambda _: print(flush=True) or time.sleep(60))"
    )
    command = [*_unshare_command("--pid", "--fork", "--kill-child"), sys.executable, "-c", script]
    process: subprocess.Popen[str] = subprocess.Popen(command, **lab.popen_options())
    assert process.stdout is not None
    process.stdout.readline()
    _interrupt_child(process)
    process.communicate(timeout=20)
    return process.returncode == 128 + signal.SIGINT


def _interrupt_child(process: subprocess.Popen[str]) -> None:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGINT)


def _forced_colour(variable: str, lab: Lab, folder: Path) -> bool:
    process = lab.start(folder / "run", "--run.progress", "auto", env={**lab.environment(), variable: "1"})
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode == 0 and "validation: accuracy" in output and not {"\x1b", "\r"} & set(output)


def _command_succeeds(lab: Lab, name: str, *arguments: str, **variables: str) -> bool:
    """Whether a command succeeds."""
    options = {**lab.popen_options(), "env": lab.environment() | variables}
    command = [sys.executable, "-m", f"fmnist_jax.{name}", *arguments]
    result = subprocess.run(command, check=False, timeout=TIMEOUT, **options)
    return result.returncode == 0


def _raw_dir() -> str:
    if "FMNIST_RAW_DIR" not in os.environ:
        raise UnavailableError("needs the original files, named by FMNIST_RAW_DIR")
    return os.environ["FMNIST_RAW_DIR"]


def _data_prepared_by_another_tool(lab: Lab, folder: Path) -> bool:
    data = folder / "data"
    foreign_dir = data / "fashion_mnist" / "3.0.1"
    foreign_dir.mkdir(parents=True)
    (foreign_dir / "dataset_info.json").write_text('{"name": "fashion_mnist", "fileFormat": "tfrecord"}')
    (foreign_dir / "fashion_mnist-train.tfrecord-00000-of-00001").write_bytes(b"theirs")
    before = {path: path.read_bytes() for path in foreign_dir.iterdir()}
    data_flags = ("--data.dir", str(data), "--data.raw-dir", _raw_dir())
    succeeded = _command_succeeds(lab, "explore", *data_flags, "--out", str(folder / "out"))
    return succeeded and {path: path.read_bytes() for path in foreign_dir.iterdir()} == before


def _data_moved(lab: Lab, folder: Path) -> bool:
    data, new_data, run = folder / "data", str(folder / "moved"), str(folder / "run")
    size_flags = ("--train.epochs", "1", "--train.batch-size", "1000", "--model.widths", "2", "--model.depths", "1")
    data_flags = ("--data.dir", str(data), "--data.raw-dir", _raw_dir())
    if not _command_succeeds(lab, "train", "--preset", "fast", *size_flags, *data_flags, "--run.dir", run):
        return False
    data.rename(new_data)
    found_by_flag = _command_succeeds(lab, "evaluate", run, "--data.dir", new_data)
    found_by_environment = _command_succeeds(lab, "report", run, FMNIST_DATA_DIR=new_data)
    return found_by_flag and found_by_environment and not data.exists()


def _make_trials(kind: str, **named: Callable[[Lab, Path], bool]) -> list[Trial]:
    return [Trial(kind, name.replace("_", " "), survives) for name, survives in named.items()]


_WRITING = "with fj.writing(here) as writer:\n    writer.save({'a': np.arange(4.0)}, step=3)"
_RAISING = (
    f"try:\n    {_WRITING.replace(chr(10), chr(10) + '    ')}\n        raise KeyError\nexcept KeyError:\n    pass"
)

TRIALS: Sequence[Trial] = [
    *_make_trials(
        "output that fails during training",
        the_reader_of_a_pipe_leaves=_reader_closes_pipe,
        standard_output_on_a_full_disk=partial(_full_disk, ["stdout"]),
        both_streams_on_a_full_disk=partial(_full_disk, ["stdout", "stderr"]),
        a_bar_on_a_full_disk=partial(_full_disk, ["stdout"], style="bar"),
        no_standard_streams_at_all=_closed_streams,
        a_terminal_that_is_gone=_terminal_disappears,
    ),
    *_make_trials("a closed terminal (SIGHUP)", the_run_saves_and_goes_on_later=_hangup, under_nohup=_nohup),
    *_make_trials(
        "a script that saves and ends",
        save=partial(_saving_script, "fj.save(here, {'a': np.arange(4.0)}, step=3)"),
        writing=partial(_saving_script, _WRITING),
        writing_in_a_block_that_fails=partial(_saving_script, _RAISING),
    ),
    *_make_trials("checkpoints on another disk, the newest damaged", a_symbolic_link=_checkpoints_on_another_disk),
    *_make_trials("runs started at once under the default name", three=_simultaneous_starts),
    *_make_trials("a file system without locks, or room for files", no_locks=_no_locks, no_room=_file_limit),
    *_make_trials(
        "a user without a home, or the first process of a container",
        no_home=_without_home,
        training_interrupted=_training_as_first_process,
        another_command_interrupted=_other_command_as_first_process,
    ),
    *_make_trials("data that another tool has prepared", they_are_left_alone=_data_prepared_by_another_tool),
    *_make_trials("data that have moved since the training", evaluate_and_report_find_them=_data_moved),
    *_make_trials(
        "colour forced on a log file",
        force_color=partial(_forced_colour, "FORCE_COLOR"),
        tty_compatible=partial(_forced_colour, "TTY_COMPATIBLE"),
    ),
]


def run_trial(lab: Lab, trial: Trial) -> bool:
    """Runs a trial in a new folder; one whose outcome cannot even be read counts as not survived."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder))
    try:
        return trial.survives(lab, folder)
    except (OSError, ValueError, AssertionError, subprocess.TimeoutExpired) as error:
        print(f"{trial.kind}, {trial.name}: {error!r}", file=sys.stderr)
        return False
