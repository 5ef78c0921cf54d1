"""Stop on SIGINT, SIGTERM and SIGHUP: at the next step, or immediately on a second signal."""

import _thread
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from cifar_exp.terminal import is_first

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Schedulers send these some time before they end a job; other programs use them as well.
_SCHEDULER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
_ANSWER_TIMEOUT_SECONDS = 10.0  # reached only if the terminal is blocked or no core is free
_write_lock = threading.Lock()  # taken by threads alone, never by the handler
# Daemon threads that did not end within their time limit.
UNJOINED: list[threading.Thread] = []
RESUME = "Run the same command again to resume."


class Interrupted(Exception):
    """Raised in a run or sweep that a signal stops.

    Args:
        signal_number: number of the signal.
        by: what stopped it, for the message; None for the name of the signal.

    Attributes:
        signal_number: number of the signal.
        exit_status: 128 plus the signal number: 130 for SIGINT, 143 for SIGTERM.
        advice: how to resume what was stopped, a sentence.
    """

    def __init__(self, signal_number: int, by: str | None = None) -> None:
        super().__init__(by or signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number
        self.advice = RESUME


class StopRequest:
    """Record the signals received. Calling it raises `Interrupted` after the first one.

    Args:
        patient: whether a second signal also waits for the next step.
    """

    def __init__(self, patient: bool = False) -> None:
        self.signals: list[int] = []
        self._patient = patient
        self._lines: deque[str] = deque()  # to be written
        self._answered: list[threading.Event] = []

    @property
    def at_once(self) -> bool:
        """Whether a second signal requires an immediate stop."""
        return len(self.signals) > 1 and not self._patient

    @property
    def signal_number(self) -> int:
        """The first signal; 0 if there is none yet."""
        return self.signals[0] if self.signals else 0

    def __call__(self) -> None:
        """Check for a signal.

        Raises:
            Interrupted: a signal has been received.
        """
        if self.signals:
            raise Interrupted(self.signal_number)

    def receive(self, signal_number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            Interrupted: it is the second signal.
        """
        self.signals.append(signal_number)
        if self.at_once:
            self._answer("Stopping immediately.")
            raise Interrupted(signal_number)
        again = "" if self._patient else " Interrupt again to stop now."
        self._answer(f"Stopping at the next step.{again}")

    def wait_until_answered(self) -> None:
        """Wait until the lines about signals are written."""
        for answered in self._answered:
            answered.wait(_ANSWER_TIMEOUT_SECONDS)

    def _answer(self, text: str) -> None:
        """Write a line above the progress bars from a thread.

        The signal may arrive while a bar is being drawn. A thread waits for the lock of the bars,
        so that their lines stay whole. `threading.Thread` takes locks that the interrupted code
        may hold.
        """
        if not is_first():
            return
        answered = threading.Event()
        self._lines.append(text)
        self._answered.append(answered)
        _thread.start_new_thread(_write_first_above_bars, (self._lines, answered))


@contextmanager
def stop_request(patient: bool = False, in_job: bool = False) -> Iterator[StopRequest]:
    """Collect stop signals while the block runs.

    Args:
        patient: whether a second signal also waits for the next step.
        in_job: whether this process is a scheduler's job. Then the block always waits for the next
            step, and each signal is passed on to the previous handler afterwards: submitit
            requeues the job and ends it.
    """
    request = StopRequest(patient or in_job)
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers
        return
    numbers = _not_ignored()
    if in_job:
        numbers += [n for n in _SCHEDULER_SIGNALS if callable(signal.getsignal(n))]
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            if handler is not None:  # a handler that is not Python's cannot be restored
                signal.signal(number, handler)
        request.wait_until_answered()
        for received in request.signals if in_job else ():
            signal.raise_signal(received)


def exit_on_signal() -> None:
    """Exit with a message on a stop signal, while there is nothing to save."""

    def leave(signal_number: int, _frame: FrameType | None) -> None:
        if is_first():
            with suppress(OSError):  # standard error may be closed
                # not print: a handler can interrupt another one
                os.write(2, f"{_erase_echo()}Interrupted. {RESUME}\n".encode())
        os._exit(128 + signal_number)

    for number in _not_ignored():
        signal.signal(number, leave)


def exit_process(status: int) -> NoReturn:
    """Exit, without the cleanup of the interpreter if a daemon thread has not ended.

    Before Python 3.14, the interpreter ends such threads during its cleanup. In C++ code this
    aborts the process ("FATAL: exception not rethrown").

    Args:
        status: exit status.
    """
    if any(thread.is_alive() for thread in UNJOINED):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
    sys.exit(status)


def _not_ignored() -> list[signal.Signals]:
    """Return the stop signals except those that `nohup`, or `&` in a script, ignores."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _write_first_above_bars(lines: deque[str], answered: threading.Event) -> None:
    """Write the oldest line: threads start in any order."""
    from tqdm import tqdm  # slow to import; commands that end early do not need it

    with _write_lock, suppress(OSError, ValueError):  # standard error may be closed
        tqdm.write(f"{_erase_echo()}{lines.popleft()}", file=sys.stderr)
        sys.stderr.flush()
    answered.set()


def _erase_echo() -> str:
    """Return the codes that erase the terminal's `^C` from the line."""
    with suppress(AttributeError, OSError, ValueError):  # standard error may be None or closed
        return "\r\x1b[K" if sys.stderr.isatty() else ""
    return ""
