"""What several files of tests compare with."""

import time

import pytest

from tests.conftest import CommandLine
from tests.reliability.faults import SWEEP


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory, command_line) -> CommandLine:
    """A sweep that nothing has happened to, and how long it took."""
    train = command_line(tmp_path_factory.mktemp("whole"))
    started = time.monotonic()
    train(*SWEEP)
    train.seconds = time.monotonic() - started
    return train
