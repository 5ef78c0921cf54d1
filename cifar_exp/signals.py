"""Ctrl-C, SIGTERM, a closed terminal: stop at the next step, and at once if asked twice."""

import _thread
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from cifar_exp.terminal import is_first

# What schedulers send some time before they take the machine away; others use them as well.
_OF_SCHEDULERS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
# Windows has no SIGHUP, which says that the terminal was closed.
STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_SECONDS_TO_ANSWER = 10.0  # long only where a terminal takes nothing, or no core is free
_one_line_at_a_time = threading.Lock()  # taken by threads alone, never by the handler
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
    """Remembers the signals that asked to stop. Calling it raises once there is one.

    Args:
        patient: whether a second signal waits for the next step as well.
    """

    def __init__(self, patient: bool = False) -> None:
        self.signals: list[int] = []
        self._patient = patient
        self._lines: deque[str] = deque()  # to be written
        self._answered: list[threading.Event] = []

    @property
    def at_once(self) -> bool:
        """Whether it was asked twice, and nothing more is to be waited for."""
        return len(self.signals) > 1 and not self._patient

    @property
    def signal_number(self) -> int:
        """The first signal; 0 while there is none."""
        return self.signals[0] if self.signals else 0

    def __call__(self) -> None:
        """Go on, or stop here.

        Raises:
            Interrupted: a signal has come.
        """
        if self.signals:
            raise Interrupted(self.signal_number)

    def receive(self, signal_number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; a second one does not wait for the next step.

        Raises:
            Interrupted: it is the second signal.
        """
        self.signals.append(signal_number)
        if self.at_once:
            self._answer("stopping immediately")
            raise Interrupted(signal_number)
        at_once = "" if self._patient else "; once more stops at once"
        self._answer(f"stopping at the next step{at_once}")

    def wait_until_answered(self) -> None:
        """Let the lines about signals come before what is written next."""
        for answered in self._answered:
            answered.wait(_SECONDS_TO_ANSWER)

    def _answer(self, text: str) -> None:
        """Write a line above the progress bars, from a thread.

        The signal may have come while a bar was drawn, whose line would be torn; a thread waits
        for the lock of the bars. `threading.Thread` has locks that the interrupted line may hold.
        """
        if not is_first():
            return
        answered = threading.Event()
        self._lines.append(text)
        self._answered.append(answered)
        _thread.start_new_thread(_write_first_above_bars, (self._lines, answered))


@contextmanager
def stop_request(patient: bool = False, in_job: bool = False) -> Iterator[StopRequest]:
    """Collect the signals to stop while the block runs, instead of ending at any line of it.

    Args:
        patient: whether a second signal waits for the next step as well.
        in_job: whether this is the job of a scheduler. Then the block has the time to save that
            the scheduler gives, however many signals come, and afterwards each is passed on to who
            listened before: submitit has the job queued again, and ends it.
    """
    request = StopRequest(patient or in_job)
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    heard = [*_heard(), *(_listened_to() if in_job else ())]
    before = {number: signal.signal(number, request.receive) for number in heard}
    try:
        yield request
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that is not Python's cannot be set from here
                signal.signal(number, handler)
        request.wait_until_answered()
        for number in request.signals if in_job else ():
            signal.raise_signal(number)


def leave_at_once_when_asked() -> None:
    """Let the signals to stop end the process in a line, for while there is nothing to save."""

    def leave(signal_number: int, _frame: FrameType | None) -> None:
        _tell(f"{_over_the_echo()}{TOLD}\n")
        os._exit(128 + signal_number)

    for number in _heard():
        signal.signal(number, leave)


def _heard() -> list[int]:
    """Leave out what `nohup`, or `&` in a script, has told the process not to hear."""
    return [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def _listened_to() -> list[int]:
    return [number for number in _OF_SCHEDULERS if callable(signal.getsignal(number))]


def _write_first_above_bars(lines: deque[str], answered: threading.Event) -> None:
    """Write the line that waits longest, since threads start in any order."""
    from tqdm import tqdm  # not needed by what ends before there are bars

    with _one_line_at_a_time, suppress(OSError, ValueError):  # nobody may be there any more
        tqdm.write(f"{_over_the_echo()}{lines.popleft()}", file=sys.stderr)
        sys.stderr.flush()
    answered.set()


def _over_the_echo() -> str:
    """Return what takes the terminal's `^C` from the line."""
    with suppress(AttributeError, OSError, ValueError):  # there may be no standard error
        return "\r\x1b[K" if sys.stderr.isatty() else ""
    return ""


def _tell(text: str) -> None:
    # not print: a handler may come in the middle of another one
    if not is_first():
        return
    with suppress(OSError):  # nobody may be there any more
        os.write(2, text.encode())
