"""Shared by the fault tests: kill processes, fill disks, compare runs."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TINY, CommandLine, computed
from tests.reliability.hold import LONGEST_WAIT_SECONDS, Hold

# A run of a second or two, with dropout and crops so that every random stream is used. Its network
# waits at the step given by `Hold`, so that a fault happens at the same step on any machine.
SHORT = (
    *(word for word in TINY if not word.startswith("model")),
    "model._target_=tests.reliability.holding.Holding",
    "model.width=0.0625",
    "epochs=4",
    "data.train_size=320",
    "batch_size=16",
    "dropout=0.5",
    "data.augment=crop_flip",
)
STEPS_PER_EPOCH = 20  # 320 images / batches of 16
# Maximum number of steps until the training loop handles a signal.
STEPS_BETWEEN_PAUSES = 10
TWO_AT_ONCE = "hydra.launcher.runs_per_device=2"
SWEEP = ("-m", *SHORT, "seed=0,1,2", TWO_AT_ONCE)


class Held(NamedTuple):
    """A command whose runs wait at a training step."""

    process: Any  # a `subprocess.Popen` or a fork
    hold: Hold


def epochs_done(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that have a manifest, oldest first."""
    return sorted(p for p in run.glob("checkpoints/*.pt") if p.with_suffix(".json").exists())


def times_started(run: Path) -> int:
    """Return how often a run was started from its first step."""
    log = run / "train.log"
    text = log.read_text("utf-8") if log.exists() else ""
    # a resumed run logs "resumed after" before this line
    starts = re.findall(r"(?s)resumed after.*? on synthetic: | on synthetic: ", text)
    return starts.count(" on synthetic: ")


def flip_a_bit(path: Path) -> None:
    """Flip one bit in the middle of a file; PyTorch loads it without an error."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """Return the worker processes of a sweep, children of its fork server. Linux only."""
    return [worker for child in _children(process.pid) for worker in _children(child)]


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@contextmanager
def held(
    train: CommandLine, *command: str, step: int, processes: int = 1, **how: Any
) -> Iterator[Held]:
    """Start a command, and let its runs wait at a training step while the block runs.

    Args:
        train: folder of the command.
        command: command line with the settings of `SHORT`.
        step: training step, at least 2. Before the first step of an epoch, the checkpoint of the
            epoch before is saved.
        processes: number of processes that must wait before the block starts.
        how: arguments of `subprocess.Popen`.
    """
    with Hold(train.folder, step) as hold:
        process = train.start(*command, **how)
        hold.wait(process, processes)
        yield Held(process, hold)


def kill_at(train: CommandLine, *command: str, step: int) -> None:
    """Start a command, and kill it at a training step of its run. Args: see `held`."""
    with held(train, *command, step=step) as it:
        end(it.process)


# A sitecustomize.py, which Python imports first in a new process.
REPLACED = """
import importlib.util, os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            *owners, function = {function!r}.split(".")
            owner = module
            for part in owners:
                owner = getattr(owner, part)
            replaced = getattr(owner, function)
            setattr(owner, function, lambda *given, **__: {instead})
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
KILLS_ITSELF = "os.kill(os.getpid(), signal.SIGKILL)"
KILLS_ALL = "os.killpg(os.getpgid(0), signal.SIGKILL)"  # the command and its child processes


def killed_in(
    train: CommandLine, module: str, function: str, *command: str, kills: str = KILLS_ALL
) -> tuple[int, str, str]:
    """Run a command, and kill a process when it first calls a function.

    Args:
        train: folder of the command.
        module: module of the function.
        function: name of the function, `Class.method` for a method.
        command: command line.
        kills: expression that kills the processes.

    Returns:
        Exit status, standard output, standard error.
    """
    with replaced_in(train, module, function, kills):
        process = train.start(*command, start_new_session=True)
        out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    return process.returncode, out, err


@contextmanager
def replaced_in(
    train: CommandLine, module: str, function: str, instead: str, code: str = ""
) -> Iterator[None]:
    """Replace a function in the commands that are started in the block.

    Args:
        train: folder of the commands.
        module: module of the function.
        function: name of the function, `Class.method` for a method.
        instead: an expression, in which `replaced` is the function and `given` its arguments.
        code: code that runs before, for example functions for `instead`.
    """
    file = train.folder / "sitecustomize.py"
    file.write_text(code + REPLACED.format(module=module, function=function, instead=instead))
    environment = dict(train.environment)
    train.environment["PYTHONPATH"] = str(train.folder)
    try:
        yield
    finally:
        file.unlink()
        train.environment.clear()
        train.environment |= environment


def kill_with_two_checkpoints(train: CommandLine, *command: str) -> None:
    """Kill a run in its second epoch, and again in its third."""
    # a process always saves after its first epoch, but not always after later epochs
    for epochs in (1, 2):
        kill_at(train, *command, step=epochs * STEPS_PER_EPOCH + 1)


def end(process: subprocess.Popen[str], *, group: bool = False) -> None:
    """Kill a process. Args: group: kill its process group."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def assert_same_run(one: Path, other: Path) -> None:
    """Check that metrics and weights are equal bit for bit."""
    assert computed(one) == computed(other)
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def assert_same_runs(one: CommandLine, other: CommandLine) -> None:
    names = sorted(run.name for run in other.runs.iterdir())
    assert sorted(run.name for run in one.runs.iterdir()) == names
    for name in names:
        assert_same_run(one.runs / name, other.runs / name)


def assert_tidy(train: CommandLine) -> None:
    """Check that no temporary files exist, and at most one checkpoint per run."""
    names = [str(path) for path in train.folder.rglob("*")]
    assert not [name for name in names if re.search(r"\.tmp$|/tmp[^/]*$", name)]
    for folder in train.folder.rglob("checkpoints"):
        assert len({path.stem for path in folder.iterdir()}) == 1


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Mount a small file system in memory at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def enlarge(folder: Path, size_bytes: int) -> None:
    _mount("-o", f"remount,size={size_bytes}", str(folder))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def in_place_of(device: str, file: Path) -> Iterator[None]:
    """Replace a file by a device such as /dev/full."""
    _mount("--bind", device, str(file))
    try:
        yield
    finally:
        subprocess.run(["umount", file], check=True)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("mount not found")
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")


def fill(folder: Path) -> Path:
    """Fill a disk with a file, and return the file."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                pass
    return ballast
