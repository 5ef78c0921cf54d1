"""What the tests share: the command line, as a user calls it, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Before PyTorch is imported: tests run side by side, a thread each.
os.environ["OMP_NUM_THREADS"] = "1"

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


class CommandLine:
    """`python train.py` in one folder; what it writes is found in `runs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "multirun_results" / "runs"
        self.environment = os.environ | {"COLUMNS": "100"}
        self.environment.pop("HYDRA_FULL_ERROR", None)

    def start(self, *overrides: str, **how: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error::UserWarning", str(ROOT / "train.py"), *overrides]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, **(streams | how)
        )

    def __call__(self, *overrides: str, status: int = 0) -> str:
        """Run to the end and return what was printed; the exit status must be `status`."""
        process = self.start(*overrides)
        out, err = process.communicate(timeout=300)
        assert process.returncode == status, out + err
        return out + err

    @property
    def only_run(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder


@pytest.fixture
def train(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[str], CommandLine]:
    def make(name: str) -> CommandLine:
        (tmp_path / name).mkdir()
        return CommandLine(tmp_path / name)

    return make


def read_rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def computed(run: Path) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(run)]


def read_state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "run.json").read_text())
    return state
