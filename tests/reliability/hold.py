"""Lets runs wait at a training step. Runs import it as well, so it needs no test library."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cifar_exp.files import write_atomically

# Long, because importing PyTorch takes minutes on a busy machine.
LONGEST_WAIT_SECONDS = 1800
# In the folder of a command: a file with the step to wait at, and a folder with a file for each
# process that waits.
HOLD_AT = Path("hold-at")
HELD = Path("held")


class Hold:
    """Lets runs with the network `Holding` wait at a training step while the block runs.

    Args:
        folder: folder in which the command is started.
        step: training step, at least 2.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._step = step

    def __enter__(self) -> Self:
        (self._folder / HELD).mkdir(exist_ok=True)
        write_atomically(
            self._folder / HOLD_AT, lambda path: path.write_text(str(self._step), "utf-8")
        )
        return self

    def __exit__(self, *_: object) -> None:
        (self._folder / HOLD_AT).unlink()
        self.release()

    @property
    def held(self) -> set[int]:
        """Ids of the processes that wait."""
        return {int(file.name) for file in (self._folder / HELD).iterdir()}

    def wait(self, process: Any, processes: int = 1) -> set[int]:
        """Wait until this number of processes wait at the step, and return their ids."""
        wait_for(lambda: len(self.held) >= processes, process)
        return self.held

    def release(self, *processes: int) -> None:
        """Let processes continue, or forget killed ones. Args: processes: ids, by default all."""
        for process in processes or self.held:
            (self._folder / HELD / str(process)).unlink(missing_ok=True)


def wait_for(
    condition: Callable[[], object], process: "subprocess.Popen[str] | None" = None
) -> None:
    """Wait until a condition is true.

    Args:
        condition: function that returns a true value once the condition holds.
        process: process that makes it true; if it ends before, an AssertionError is raised.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        ended = process is not None and process.poll() is not None
        if (ended and not condition()) or time.monotonic() > deadline:
            printed = _kill(process) if process is not None else ""
            raise AssertionError(f"the condition never became true: {printed[-500:]}")
        time.sleep(0.005)


def _kill(process: "subprocess.Popen[str]") -> str:
    process.kill()
    return "".join(filter(None, process.communicate()))
