"""What the tests of faults share: processes to end, disks to fill, runs to compare."""

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

# A run of a second or two; dropout and crops so that every random stream takes part. Its network
# waits where `Hold` says, so that a fault comes at that step on any machine.
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
STEPS_PER_EPOCH = 20  # 320 images, 16 a batch
# The loop lets a signal stop it after so many steps at the latest.
STEPS_BETWEEN_PAUSES = 10
TWO_AT_ONCE = "hydra.launcher.runs_per_device=2"
SWEEP = ("-m", *SHORT, "seed=0,1,2", TWO_AT_ONCE)


class Held(NamedTuple):
    """A command whose runs wait at a step."""

    process: Any  # a `subprocess.Popen` or a fork
    hold: Hold


def epochs_done(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that have their manifest, oldest first."""
    return sorted(p for p in run.glob("checkpoints/*.pt") if p.with_suffix(".json").exists())


def begun_anew(run: Path) -> int:
    """Return how often a run was trained from its first step on."""
    log = run / "train.log"
    text = log.read_text("utf-8") if log.exists() else ""
    # one that goes on says so just before, perhaps at this moment
    begun = re.findall(r"(?s)resumed after.*? on synthetic: | on synthetic: ", text)
    return begun.count(" on synthetic: ")


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, which PyTorch loads without a word."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def workers_of(process: "subprocess.Popen[str]") -> list[int]:
    """Return the processes that train for a sweep: children of its fork server. Linux only."""
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
    """Start a command, and hold it at a training step of its runs while the block runs.

    Args:
        train: the folder.
        command: with the settings of `SHORT`.
        step: from 2 on; the first of an epoch comes after the checkpoint of the one before.
        processes: how many must have come to the step before the block begins.
        how: for `subprocess.Popen`.
    """
    with Hold(train.folder, step) as hold:
        process = train.start(*command, **how)
        hold.wait(process, processes)
        yield Held(process, hold)


def kill_at(train: CommandLine, *command: str, step: int) -> None:
    """Start a command, and kill it when its run has come to a step. Args: as of `held`."""
    with held(train, *command, step=step) as it:
        end(it.process)


# Imported by Python before anything else in a process that is started.
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
KILLS_ALL = "os.killpg(os.getpgid(0), signal.SIGKILL)"  # the command and all that it has started


def killed_in(
    train: CommandLine, module: str, function: str, *command: str, kills: str = KILLS_ALL
) -> tuple[int, str, str]:
    """Run a command in which a process is killed where it first calls a function.

    Args:
        train: the folder.
        module: of the function.
        function: its name, `Class.method` for a method.
        command: as users type it.
        kills: which processes.

    Returns:
        The exit status, and what was printed.
    """
    with replaced_in(train, module, function, kills):
        process = train.start(*command, start_new_session=True)
        out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    return process.returncode, out, err


@contextmanager
def replaced_in(
    train: CommandLine, module: str, function: str, instead: str, code: str = ""
) -> Iterator[None]:
    """Let the commands that are started in the block call something else than a function.

    Args:
        train: the folder.
        module: of the function.
        function: its name, `Class.method` for a method.
        instead: an expression, in which `replaced` is the function and `given` its arguments.
        code: that is run before, such as functions for `instead`.
    """
    first = train.folder / "sitecustomize.py"
    first.write_text(code + REPLACED.format(module=module, function=function, instead=instead))
    usual = dict(train.environment)
    train.environment["PYTHONPATH"] = str(train.folder)
    try:
        yield
    finally:
        first.unlink()
        train.environment.clear()
        train.environment |= usual


def kill_with_two_checkpoints(train: CommandLine, *command: str) -> None:
    """Kill a run in its second epoch, and once more in its third."""
    # a process saves after its first epoch, however fast it trains; after others it may not
    for epochs in (1, 2):
        kill_at(train, *command, step=epochs * STEPS_PER_EPOCH + 1)


def end(process: subprocess.Popen[str], *, group: bool = False) -> None:
    """Kill a process, or with it all that it has started, if it has a group of its own."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


def assert_same_run(one: Path, other: Path) -> None:
    """Compare metrics and weights bit for bit."""
    assert computed(one) == computed(other)
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def assert_same_runs(one: CommandLine, other: CommandLine) -> None:
    names = sorted(run.name for run in other.runs.iterdir())
    assert sorted(run.name for run in one.runs.iterdir()) == names
    for name in names:
        assert_same_run(one.runs / name, other.runs / name)


def assert_nothing_is_left_over(train: CommandLine) -> None:
    """No temporary files, and of complete runs the last checkpoint alone."""
    names = [str(path) for path in train.folder.rglob("*")]
    assert not [name for name in names if re.search(r"\.tmp$|/tmp[^/]*$", name)]
    for folder in train.folder.rglob("checkpoints"):
        assert len({path.stem for path in folder.iterdir()}) == 1


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """Make a folder a disk of its own, with little room: a real file system in memory."""
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
    """Put a device such as /dev/full where a file was."""
    _mount("--bind", device, str(file))
    try:
        yield
    finally:
        subprocess.run(["umount", file], check=True)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")


def fill(folder: Path) -> Path:
    """Take all the room that a disk has left; returns the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                pass
    return ballast
