"""Situations out of other programs' bug reports, each a trial that a run survives or not; `TRIALS` lists them."""

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

from tests.faults.harness import TIMEOUT, TINY, Lab, outcome, riddle, wait_for_step


class UnavailableError(Exception):
    """A trial that this machine cannot make; the message says what it needs."""


class Trial(NamedTuple):
    """A situation, and the function that tries it in an empty folder and says whether it was survived."""

    kind: str
    name: str
    survives: Callable[[Lab, Path], bool]


def _ended_alike(lab: Lab, run: Path, process: subprocess.Popen[str]) -> bool:
    """Whether a run ends with success, as one that nothing happened to."""
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 0 and outcome(run) == lab.undisturbed()


def _reader_leaves(lab: Lab, folder: Path) -> bool:
    process = lab.start(folder / "run", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=TIMEOUT)
    return process.returncode == 0 and outcome(folder / "run") == lab.undisturbed()


def _full(streams: Sequence[str], lab: Lab, folder: Path, *, style: str = "plain") -> bool:
    with ExitStack() as stack:
        full: dict[str, Any] = {name: stack.enter_context(Path("/dev/full").open("w")) for name in streams}
        return _ended_alike(lab, folder / "run", lab.start(folder / "run", "--run.progress", style, **full))


def _closed_streams(lab: Lab, folder: Path) -> bool:
    run, lab = folder / "run", replace(lab, drawn=True)
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *lab.command("--run.dir", str(run))]
    return _ended_alike(lab, run, subprocess.Popen(command, **lab.options()))


def _terminal_goes(lab: Lab, folder: Path) -> bool:
    run, (ours, theirs) = folder / "run", pty.openpty()
    process = lab.start(run, "--run.progress", "bar", log_delay=0.02, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.read(ours, 1)
    wait_for_step(run, process, 10)
    os.close(ours)  # what it writes fails from now on with EIO
    return _ended_alike(lab, run, process)


def _hung_up(lab: Lab, folder: Path) -> bool:
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        raise UnavailableError("needs to be run without nohup, whose children ignore the signal")
    run = folder / "run"
    process = lab.start(run, log_delay=0.02)
    wait_for_step(run, process, 10)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 128 + signal.SIGHUP and _ended_alike(lab, run, lab.start(run))


def _nohup(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    process = subprocess.Popen(["nohup", *lab.command("--run.dir", str(run), log_delay=0.02)], **lab.options())
    wait_for_step(run, process, 10)
    process.send_signal(signal.SIGHUP)
    return _ended_alike(lab, run, process)


def _script(code: str, lab: Lab, folder: Path) -> bool:
    """Whether a script that saves and ends leaves a checkpoint that restores, and nothing else."""
    saving = f"import numpy as np\nfrom pathlib import Path\nimport fmnist_jax as fj\nhere = Path('here')\n{code}"
    reading = (
        "import numpy as np\nfrom pathlib import Path\nimport fmnist_jax as fj\n"
        "assert fj.restore(Path('here'), 3, {'a': np.zeros(4)})['a'].tolist() == [0, 1, 2, 3]\n"
        "assert [path.name for path in Path('here').iterdir()] == ['3']"
    )
    options = {**lab.options(), "cwd": folder, "timeout": TIMEOUT}
    done = [subprocess.run([sys.executable, "-c", script], check=False, **options) for script in (saving, reading)]
    return [process.returncode for process in done] == [0, 0] and not done[0].stderr


def _another_disk(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    shutil.copytree(lab.half_done(), run)
    with tempfile.TemporaryDirectory(dir=_another(folder)) as disk:
        shutil.move(run / "checkpoints", f"{disk}/checkpoints")
        (run / "checkpoints").symlink_to(f"{disk}/checkpoints")
        newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
        riddle(newest)
        return _ended_alike(lab, run, lab.start(run)) and (run / "damaged" / newest.name).is_dir()


def _another(folder: Path) -> Path:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == folder.stat().st_dev:
        raise UnavailableError("needs a second file system at /dev/shm")
    return memory


def _at_once(lab: Lab, folder: Path) -> bool:
    options = {**lab.options(), "cwd": folder}
    processes = [subprocess.Popen(lab.command(), **options) for _ in range(3)]
    for process in processes:
        process.communicate(timeout=TIMEOUT)
    runs = list((folder / "runs").iterdir())
    good = [process.returncode for process in processes] == [0, 0, 0] and len(runs) == 3
    return good and all(outcome(run) == lab.undisturbed() for run in runs)


def _no_locks(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    command = [sys.executable, "-m", "tests.faults.lockless", *TINY, "--run.dir", str(run)]
    done = subprocess.run(command, **lab.options(), timeout=TIMEOUT, check=False)
    (line,) = done.stderr.splitlines()
    return done.returncode == 0 and line.startswith("warning: ") and outcome(run) == lab.undisturbed()


def _few_files(lab: Lab, folder: Path) -> bool:
    mounting = ["mount", "-t", "tmpfs", "-o", "nr_inodes=40", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        raise UnavailableError("needs root, to mount a file system that takes few files")
    try:
        done = lab.finish(folder / "run")
        return done.returncode == 2 and "more files" in done.stderr and not any(folder.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _unshared(*options: str) -> list[str]:
    command = ["unshare", *options]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        raise UnavailableError(f"needs `{' '.join(command)}`, which this machine does not allow")
    return command


def _without_home(lab: Lab, folder: Path) -> bool:
    run, lab = folder / "run", replace(lab, drawn=True)
    unnamed = [*_unshared("--user", "--map-user=12345"), "env", "-u", "HOME"]
    return _ended_alike(lab, run, subprocess.Popen([*unnamed, *lab.command("--run.dir", str(run))], **lab.options()))


def _first_process(lab: Lab, folder: Path) -> bool:
    run = folder / "run"
    first = _unshared("--pid", "--fork", "--kill-child")
    command = [*first, *lab.command("--run.dir", str(run), log_delay=0.02)]
    process: subprocess.Popen[str] = subprocess.Popen(command, **lab.options())
    wait_for_step(run, process, 10)
    _interrupt_child(process)
    process.communicate(timeout=TIMEOUT)
    return process.returncode == 128 + signal.SIGINT and _ended_alike(lab, run, lab.start(run))


def _first_process_of_another_command(lab: Lab, folder: Path) -> bool:
    script = (
        "import signal, time; from fmnist_jax.commands import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.run_command(lambda _: print(flush=True) or time.sleep(60))"
    )
    first = [*_unshared("--pid", "--fork", "--kill-child"), sys.executable, "-c", script]
    process: subprocess.Popen[str] = subprocess.Popen(first, **lab.options())
    assert process.stdout is not None
    process.stdout.readline()
    _interrupt_child(process)
    process.communicate(timeout=20)
    return process.returncode == 128 + signal.SIGINT


def _interrupt_child(process: subprocess.Popen[str]) -> None:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGINT)


def _coloured(variable: str, lab: Lab, folder: Path) -> bool:
    process = lab.start(folder / "run", "--run.progress", "auto", env={**lab.environment(), variable: "1"})
    shown, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode == 0 and "\x1b" not in shown and "\r" not in shown


def _command(lab: Lab, name: str, *arguments: str, **variables: str) -> bool:
    """Whether a command ends with success."""
    options = {**lab.options(), "env": lab.environment() | variables}
    command = [sys.executable, "-m", f"fmnist_jax.{name}", *arguments]
    done = subprocess.run(command, check=False, timeout=TIMEOUT, **options)
    return done.returncode == 0


def _raw_dir() -> str:
    if "FMNIST_RAW_DIR" not in os.environ:
        raise UnavailableError("needs the original files, named by FMNIST_RAW_DIR")
    return os.environ["FMNIST_RAW_DIR"]


def _prepared_by_another(lab: Lab, folder: Path) -> bool:
    data = folder / "data"
    theirs = data / "fashion_mnist" / "3.0.1"
    theirs.mkdir(parents=True)
    (theirs / "dataset_info.json").write_text('{"name": "fashion_mnist", "fileFormat": "tfrecord"}')
    (theirs / "fashion_mnist-train.tfrecord-00000-of-00001").write_bytes(b"theirs")
    before = {path: path.read_bytes() for path in theirs.iterdir()}
    places = ("--data.dir", str(data), "--data.raw-dir", _raw_dir())
    good = _command(lab, "explore", *places, "--out", str(folder / "out"))
    return good and {path: path.read_bytes() for path in theirs.iterdir()} == before


def _moved(lab: Lab, folder: Path) -> bool:
    data, moved, run = folder / "data", str(folder / "moved"), str(folder / "run")
    small = ("--train.epochs", "1", "--train.batch-size", "1000", "--model.widths", "2", "--model.depths", "1")
    places = ("--data.dir", str(data), "--data.raw-dir", _raw_dir())
    if not _command(lab, "train", "--preset", "fast", *small, *places, "--run.dir", run):
        return False
    data.rename(moved)
    told = _command(lab, "evaluate", run, "--data.dir", moved)
    remembered = _command(lab, "report", run, FMNIST_DATA_DIR=moved)
    return told and remembered and not data.exists()


def _trials(kind: str, **named: Callable[[Lab, Path], bool]) -> list[Trial]:
    return [Trial(kind, name.replace("_", " "), survives) for name, survives in named.items()]


_WRITING = "with fj.writing(here) as writer:\n    writer.save({'a': np.arange(4.0)}, step=3)"
_RAISING = (
    f"try:\n    {_WRITING.replace(chr(10), chr(10) + '    ')}\n        raise KeyError\nexcept KeyError:\n    pass"
)

TRIALS: Sequence[Trial] = [
    *_trials(
        "output that fails during training",
        the_reader_of_a_pipe_leaves=_reader_leaves,
        standard_output_on_a_full_disk=partial(_full, ["stdout"]),
        both_streams_on_a_full_disk=partial(_full, ["stdout", "stderr"]),
        a_bar_on_a_full_disk=partial(_full, ["stdout"], style="bar"),
        no_standard_streams_at_all=_closed_streams,
        a_terminal_that_is_gone=_terminal_goes,
    ),
    *_trials("a closed terminal (SIGHUP)", the_run_saves_and_goes_on_later=_hung_up, under_nohup=_nohup),
    *_trials(
        "a script that saves and ends",
        save=partial(_script, "fj.save(here, {'a': np.arange(4.0)}, step=3)"),
        writing=partial(_script, _WRITING),
        writing_in_a_block_that_fails=partial(_script, _RAISING),
    ),
    *_trials("checkpoints on another disk, the newest damaged", a_symbolic_link=_another_disk),
    *_trials("runs started at once under the default name", three=_at_once),
    *_trials("a file system without locks, or room for files", no_locks=_no_locks, no_room=_few_files),
    *_trials(
        "a user without a home, or the first process of a container",
        no_home=_without_home,
        training_interrupted=_first_process,
        another_command_interrupted=_first_process_of_another_command,
    ),
    *_trials("data that another tool has prepared", they_are_left_alone=_prepared_by_another),
    *_trials("data that have moved since the training", evaluate_and_report_find_them=_moved),
    *_trials(
        "colour forced on a log file",
        force_color=partial(_coloured, "FORCE_COLOR"),
        tty_compatible=partial(_coloured, "TTY_COMPATIBLE"),
    ),
]


def tried(lab: Lab, trial: Trial) -> bool:
    """Makes a trial in a folder of its own; a situation that could not even be read counts as not survived."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder))
    try:
        return trial.survives(lab, folder)
    except (OSError, ValueError, AssertionError, subprocess.TimeoutExpired) as error:
        print(f"{trial.kind}, {trial.name}: {error!r}", file=sys.stderr)
        return False
