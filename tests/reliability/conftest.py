"""Fixtures that several files share."""

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import CommandLine
from tests.reliability.faults import SWEEP


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory, command_line) -> CommandLine:
    """An undisturbed sweep and its duration, shared by all test processes."""
    folder: Path = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    train = command_line(folder / "whole sweep")
    ended = folder / "whole sweep has ended"
    with FileLock(folder / "whole sweep.lock"):
        if not ended.exists():
            train.folder.mkdir()
            started = time.monotonic()
            train(*SWEEP)
            ended.write_text(str(time.monotonic() - started))
    train.seconds = float(ended.read_text())
    return train
