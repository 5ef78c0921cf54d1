"""A folder in which commands are started, ended and looked at."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cifar_exp.errors import UserError
from cifar_exp.files import write_atomically

ROOT = Path(__file__).parents[2]
# Ends what would never end. Where other programs take all cores, importing PyTorch takes minutes.
LONGEST_WAIT_SECONDS = 1800
# In the folder of a command: the step to wait at, and a file for each process that waits there.
HOLD_AT = Path("hold-at")
HELD = Path("held")
# These depend on the clock and the machine, not on what is computed.
MEASURED = {"train_seconds", "test_seconds", "images_per_second", "peak_memory_bytes"}
# A run of a second or two; dropout and crops, so that every kind of chance takes part.
SMALL = (
    "data=synthetic",
    "data.train_size=640",
    "data.test_size=80",
    "data.augment=crop_flip",
    "model._target_=cifar_exp.selftest.holding.Holding",
    "model.width=0.0625",
    "dropout=0.5",
    "epochs=6",
)
STEPS_PER_EPOCH = 10  # 640 images, 64 a batch


class BrokenPromiseError(Exception):
    """Something that must happen did not; the text says what happened instead."""


def expect(holds: object, otherwise: str) -> None:
    """Go on if something is so.

    Raises:
        BrokenPromiseError: it is not.
    """
    if not holds:
        raise BrokenPromiseError(otherwise)


class Workspace:
    """Runs `train.py` and `python -m cifar_exp` in a folder of its own.

    Args:
        folder: new; made with its parents.
        device: that runs are trained on, "cpu" or "cuda".
    """

    def __init__(self, folder: Path, device: str) -> None:
        if not (ROOT / "train.py").exists():
            raise UserError(f"selftest: expected train.py in {ROOT}; install with `pip install -e`")
        self.folder = folder
        self._device = device
        folder.mkdir(parents=True)

    @property
    def runs(self) -> list[Path]:
        """The folders of all runs, sorted by name."""
        return sorted(self.folder.glob("multirun_results/runs/*"))

    @property
    def run(self) -> Path:
        """The folder of the only run."""
        expect(len(self.runs) == 1, f"there are {len(self.runs)} runs, not one")
        return self.runs[0]

    def start(self, *overrides: str, **how: Any) -> subprocess.Popen[str]:
        """Start a small run or, with -m, a sweep. Args: how: for `subprocess.Popen`."""
        command = [str(ROOT / "train.py"), *SMALL, f"device={self._device}", *overrides]
        return self._start(command, **how)

    def train(self, *overrides: str, status: int = 0, **how: Any) -> str:
        """Train to the end, and return what was said. Args: status: that is expected."""
        return finish(self.start(*overrides, **how), status)

    def command(self, *arguments: str, status: int = 0) -> str:
        """Run `python -m cifar_exp` to the end. Args: status: that is expected."""
        return finish(self._start(["-m", "cifar_exp", *arguments]), status)

    def _start(self, arguments: list[str], **how: Any) -> subprocess.Popen[str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment["OMP_NUM_THREADS"] = "1"  # several commands run at once
        environment.pop("HYDRA_FULL_ERROR", None)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            errors="replace",
            **(streams | how),
        )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for a process to end, and return what it said.

    Raises:
        BrokenPromiseError: it ended with another exit status, a traceback, or not at all.
    """
    try:
        said, _ = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise BrokenPromiseError("a command did not end") from None
    last = (said or "").strip()[-300:]
    expect(process.returncode == status, f"exit status {process.returncode}, not {status}: {last}")
    expect("Traceback" not in (said or ""), f"a traceback: {last}")
    return said or ""


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait, while a process runs, until something is so.

    Raises:
        BrokenPromiseError: it never came to that.
    """
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        ended = process.poll() is not None
        if (ended and not condition()) or time.monotonic() > until:
            process.kill()
            printed = "".join(filter(None, process.communicate()))
            raise BrokenPromiseError(f"the moment for the fault never came: {printed[-500:]}")
        time.sleep(0.005)


class Hold:
    """Lets runs with `Holding` wait at a training step while the block runs; the end releases them.

    Args:
        folder: where the command is started.
        step: of the run, from 2 on.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._step = step

    def __enter__(self) -> Self:
        """Let every run wait that comes to the step from now on."""
        (self._folder / HELD).mkdir(exist_ok=True)
        write_atomically(
            self._folder / HOLD_AT, lambda path: path.write_text(str(self._step), "utf-8")
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Let all continue."""
        (self._folder / HOLD_AT).unlink()
        self.release()

    @property
    def held(self) -> set[int]:
        """The processes that wait."""
        return {int(file.name) for file in (self._folder / HELD).iterdir()}

    def wait(self, process: subprocess.Popen[str], processes: int = 1) -> set[int]:
        """Wait until so many processes wait at the step, and return them.

        Args:
            process: the command.
            processes: how many.

        Raises:
            BrokenPromiseError: they never came there.
        """
        wait_for(lambda: len(self.held) >= processes, process)
        return self.held

    def release(self, *processes: int) -> None:
        """Let processes continue, or forget those that were killed; none for all that wait."""
        for process in processes or self.held:
            (self._folder / HELD / str(process)).unlink(missing_ok=True)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process."""
    process.kill()
    process.communicate()


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints that have their manifest, oldest first."""
    return sorted(p for p in run.glob("checkpoints/*.pt") if p.with_suffix(".json").exists())


def result(run: Path) -> tuple[list[dict[str, Any]], bytes]:
    """Return all that a run has computed: its metrics, but for times, and its weights."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    computed = [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
    return computed, (run / "model.safetensors").read_bytes()


def state(run: Path) -> dict[str, Any]:
    """Return the run.json of a run."""
    content: dict[str, Any] = json.loads((run / "run.json").read_text("utf-8"))
    return content


def begun_anew(run: Path) -> int:
    """Return how often a run was trained from its first step on."""
    # one that goes on says so just before, perhaps at this moment
    begun = re.findall(r"(?s)goes on after.*? on synthetic: | on synthetic: ", _log(run))
    return begun.count(" on synthetic: ")


def _log(run: Path) -> str:
    file = run / "train.log"
    return file.read_text("utf-8") if file.exists() else ""


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file, which PyTorch loads without a word."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that train for a sweep: children of its fork server. Linux only."""
    return [worker for child in _children(process.pid) for worker in _children(child)]


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
