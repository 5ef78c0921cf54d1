"""What the tests of faults share: processes to end, disks to fill, runs to compare."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TINY, CommandLine, computed

# A run of some two seconds; dropout and crops so that every random stream takes part.
SHORT = (*TINY, "epochs=6", "data.train_size=640", "dropout=0.5", "data.augment=crop_flip")
# A run whose epochs take seconds: 400 steps each.
LONG_EPOCHS = (*TINY, "epochs=2", "data.train_size=400", "batch_size=1", "dropout=0.5")
TWO_AT_ONCE = "hydra.launcher.runs_per_device=2"
SWEEP = ("-m", *SHORT, "seed=0,1,2", TWO_AT_ONCE)


def epochs_done(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


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
    """No temporary files, and no checkpoints of runs that have ended."""
    names = [str(path) for path in train.folder.rglob("*")]
    assert not [name for name in names if re.search(r"\.tmp$|/tmp[^/]*$|checkpoints", name)]


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
