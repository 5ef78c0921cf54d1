"""What the tests share: the command line, as a user calls it, in a folder of its own.

A command usually runs in a process forked from one that has imported PyTorch (tests/processes.py).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Command, run_command
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytest_plugins = ["tests.cuda_emulator.plugin"]

# Before PyTorch is imported: tests run side by side, a thread each.
os.environ["OMP_NUM_THREADS"] = "1"
# What a shell starts in the background, or under nohup, ignores these, and so would all commands.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
# A run of about a second on one core.
TINY = (
    "data=synthetic",
    "data.train_size=160",
    "data.test_size=80",
    "model=vgg11",
    "model.width=0.0625",
    "epochs=3",
    "device=cpu",
)
# These depend on the clock and the machine, not on what is computed.
MEASURED = {"train_seconds", "test_seconds", "images_per_second", "peak_memory_bytes"}
# Variables that do nothing in a process that is running already.
READ_AT_THE_START = ("PYTHON", "OMP_", "LD_", "HOME", "CUDA_")


class CommandLine:
    """`python train.py` in one folder; what it writes is found in `runs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "multirun_results" / "runs"
        self.environment = os.environ | {"COLUMNS": "100"}
        self.environment.pop("HYDRA_FULL_ERROR", None)
        self._usual = dict(self.environment)

    def start(self, *overrides: str, **how: Any) -> Any:
        """Start a process and do not wait for it. Args: how: for `subprocess.Popen`.

        Of a key that is set twice the last is passed on: tests add to common settings.
        """
        overrides = last_of_each(overrides)
        if how or self._needs_a_new_process():
            command = [sys.executable, "-W", "error::UserWarning", str(ROOT / "train.py")]
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return subprocess.Popen(
                [*command, *overrides],
                cwd=self.folder,
                env=self.environment,
                text=True,
                **(streams | how),
            )
        return Command(*overrides, cwd=self.folder, environment=self.environment)

    def __call__(self, *overrides: str, status: int = 0) -> str:
        """Run to the end and return what was printed; the exit status must be `status`."""
        if self._needs_a_new_process():
            process = self.start(*overrides)
            out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
            assert process.returncode == status, out + err
            return out + err
        return self._run("train.py", last_of_each(overrides), status)

    def cifar_exp(self, *words: str, status: int = 0) -> str:
        """Run `python -m cifar_exp` to the end and return what was printed."""
        return self._run("cifar_exp", words, status)

    def _run(self, program: str, words: tuple[str, ...], status: int) -> str:
        done = run_command(*words, program=program, cwd=self.folder, environment=self.environment)
        assert done.status == status, done.out + done.err
        return done.out + done.err

    def _needs_a_new_process(self) -> bool:
        changed = dict(self.environment.items() ^ self._usual.items())
        return any(name.startswith(READ_AT_THE_START) for name in changed)

    @property
    def only_run(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder


@pytest.fixture(scope="session")
def command_line() -> type[CommandLine]:
    return CommandLine


@pytest.fixture
def train(tmp_path: Path, command_line: type[CommandLine]) -> CommandLine:
    return command_line(tmp_path)


@pytest.fixture
def new_folder(tmp_path: Path, command_line: type[CommandLine]) -> Callable[[str], CommandLine]:
    def make(name: str) -> CommandLine:
        (tmp_path / name).mkdir()
        return command_line(tmp_path / name)

    return make


def last_of_each(overrides: tuple[str, ...]) -> tuple[str, ...]:
    last = {override.partition("=")[0]: place for place, override in enumerate(overrides)}
    return tuple(
        override
        for place, override in enumerate(overrides)
        if "=" not in override or last[override.partition("=")[0]] == place
    )


def read_rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def computed(run: Path) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(run)]


def read_state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "run.json").read_text())
    return state


def event_folder(logs: Path, run: Path) -> Path:
    """The folder of a run's event files, which shares the id with the run's."""
    (folder,) = logs.glob(f"*-{run.name.rpartition('-')[2]}")
    return folder
