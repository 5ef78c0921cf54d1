"""Ctrl-C and SIGTERM: stop at the next step, and at once if asked twice."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A run or sweep was asked to stop, and has.

    Attributes:
        signal_number: of the signal.
        exit_status: 128 plus the signal's number: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


class StopRequest:
    """Remembers the signal that asked to stop. Calling it raises once there is one."""

    def __init__(self) -> None:
        self._signal_number: int | None = None

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
        again = self._signal_number is not None
        self._signal_number = signal_number
        if again:
            raise Interrupted(signal_number)
        # not print: a handler may come in the middle of another one
        os.write(2, b"\nstopping at the next step; once more stops at once\n")


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM while the block runs, instead of ending at any line of it."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
