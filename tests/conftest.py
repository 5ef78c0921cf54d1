"""Shared fixtures: the command line, run in a temporary folder.

Commands usually run in a process forked from one that has imported PyTorch (tests/processes.py).
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

# Set before PyTorch is imported: parallel tests use one thread each.
os.environ["OMP_NUM_THREADS"] = "1"
# Processes in the background or under nohup ignore these signals, and so would all commands.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
# A run of about one second on one core.
TINY = (
    "data=synthetic",
    "data.train_size=160",
    "data.test_size=80",
    "model=vgg11",
    "model.width=0.0625",
    "epochs=3",
    "device=cpu",
)
# Columns that vary between identical runs.
MEASURED = {
    "train_seconds",
    "val_seconds",
    "test_seconds",
    "images_per_second",
    "peak_memory_bytes",
}
# Prefixes of variables that are read only at the start of a process.
READ_AT_THE_START = ("PYTHON", "OMP_", "LD_", "HOME", "CUDA_")


class CommandLine:
    """`python train.py` in a folder; its runs are in `runs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "multirun_results" / "runs"
        self.environment = os.environ | {"COLUMNS": "100"}
        self.environment.pop("HYDRA_FULL_ERROR", None)
        self.initial_environment = dict(self.environment)

    def start(self, *overrides: str, **options: Any) -> Any:
        """Start a command without waiting for it.

        Args:
            overrides: of a key that is set twice, only the last is passed.
            options: for `subprocess.Popen`.
        """
        overrides = last_of_each(overrides)
        if options or self._needs_new_process():
            command = [sys.executable, "-W", "error::UserWarning", str(ROOT / "train.py")]
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            return subprocess.Popen(
                [*command, *overrides],
                cwd=self.folder,
                env=self.environment,
                text=True,
                **(streams | options),
            )
        return Command(*overrides, cwd=self.folder, environment=self.environment)

    def __call__(self, *overrides: str, status: int = 0) -> str:
        """Run a command, check its exit status, and return its output."""
        if self._needs_new_process():
            process = self.start(*overrides)
            out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
            assert process.returncode == status, out + err
            return out + err
        return self._run("train.py", last_of_each(overrides), status)

    def cifar_exp(self, *arguments: str, status: int = 0) -> str:
        """Run `python -m cifar_exp`, check its exit status, and return its output."""
        return self._run("cifar_exp", arguments, status)

    def _run(self, program: str, arguments: tuple[str, ...], status: int) -> str:
        done = run_command(
            *arguments, program=program, cwd=self.folder, environment=self.environment
        )
        assert done.status == status, done.out + done.err
        return done.out + done.err

    def _needs_new_process(self) -> bool:
        changed = dict(self.environment.items() ^ self.initial_environment.items())
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
    last = {override.partition("=")[0]: index for index, override in enumerate(overrides)}
    return tuple(
        override
        for index, override in enumerate(overrides)
        if "=" not in override or last[override.partition("=")[0]] == index
    )


def read_rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def computed(run: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without the columns that vary between identical runs."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(run)]


def read_state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "run.json").read_text())
    return state


def event_folder(logs: Path, run: Path) -> Path:
    """Return the folder of a run's event files, found by the id of the run."""
    (folder,) = logs.glob(f"*-{run.name.rpartition('-')[2]}")
    return folder
