"""Ctrl-C, SIGTERM, a closed terminal: stop at the next step, and at once if asked twice."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has no SIGHUP, which says that the terminal was closed.
STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
TOLD = "interrupted: the same command goes on where this one stopped"


class Interrupted(Exception):
    """A run or sweep was asked to stop, and has.

    Attributes:
        signal_number: of the signal.
        exit_status: 128 plus the signal's number: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signal_number: int, by: str | None = None) -> None:
        super().__init__(by or signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


class StopRequest:
    """Remembers the signal that asked to stop. Calling it raises once there is one."""

    def __init__(self) -> None:
        self._signal_number: int | None = None
        self._again = False

    @property
    def at_once(self) -> bool:
        """Whether it was asked twice, and nothing more is to be waited for."""
        return self._again

    def __call__(self) -> None:
        """Go on, or stop here.

        Raises:
            Interrupted: a signal has come.
        """
        if self._signal_number is not None:
            raise Interrupted(self._signal_number)

    def receive(self, signal_number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; a second one does not wait for the next step.

        Raises:
            Interrupted: it is the second signal.
        """
        self._again = self._signal_number is not None
        self._signal_number = signal_number
        if self._again:
            raise Interrupted(signal_number)
        _tell("\nstopping at the next step; once more stops at once\n")


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Collect the signals to stop while the block runs, instead of ending at any line of it."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in _heard():
        signal.signal(number, request.receive)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_at_once_when_asked() -> None:
    """Let the signals to stop end the process in a line, for while there is nothing to save."""

    def leave(signal_number: int, _frame: FrameType | None) -> None:
        _tell(f"\n{TOLD}\n")
        os._exit(128 + signal_number)

    for number in _heard():
        signal.signal(number, leave)


def _heard() -> list[int]:
    """Leave out what `nohup`, or `&` in a script, has told the process not to hear."""
    return [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def _tell(text: str) -> None:
    # not print: a handler may come in the middle of another one
    with suppress(OSError):  # nobody may be there any more
        os.write(2, text.encode())
