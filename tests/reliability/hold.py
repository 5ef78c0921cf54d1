"""Lets runs wait at a training step; also imported by the runs, so it needs no test library."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cifar_exp.files import write_atomically

# Ends what would never end. Where other programs take all cores, importing PyTorch takes minutes.
LONGEST_WAIT_SECONDS = 1800
# In the folder of a command: the step to wait at, and a file for each process that waits there.
HOLD_AT = Path("hold-at")
HELD = Path("held")


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
        """The processes that wait."""
        return {int(file.name) for file in (self._folder / HELD).iterdir()}

    def wait(self, process: Any, processes: int = 1) -> set[int]:
        """Wait until several processes of a command wait at the step, and return them."""
        wait_for(lambda: len(self.held) >= processes, process)
        return self.held

    def release(self, *processes: int) -> None:
        """Release processes, or forget those that were killed; none for all that wait."""
        for process in processes or self.held:
            (self._folder / HELD / str(process)).unlink(missing_ok=True)


def wait_for(
    condition: Callable[[], object], process: "subprocess.Popen[str] | None" = None
) -> None:
    """Wait for what must happen soon; the deadline is for a test that would never end.

    Args:
        condition: of what must happen.
        process: that makes it happen, so that nothing is waited for once it has ended.
    """
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        ended = process is not None and process.poll() is not None
        if (ended and not condition()) or time.monotonic() > deadline:
            printed = _ended(process) if process is not None else ""
            raise AssertionError(f"what was waited for never came: {printed[-500:]}")
        time.sleep(0.005)


def _ended(process: "subprocess.Popen[str]") -> str:
    process.kill()
    return "".join(filter(None, process.communicate()))
