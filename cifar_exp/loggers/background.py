"""A thread for logging services, so that one that hangs or fails does not affect training."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from cifar_exp.loggers.base import LoggedRun, RunLogger
from cifar_exp.signals import UNJOINED
from cifar_exp.training.progress import EpochMetrics

_log = logging.getLogger("cifar_exp")

_QUEUE_SIZE = 1000  # calls; further ones are dropped
_TIMEOUT_SECONDS = 60.0  # for one call


class LoggerThread:
    """Makes the calls to one logging service in order, for all runs of this process.

    Only `close` waits, and no method raises. The first problem disables the service with a
    warning. The calling thread logs the warning, since only that thread may send messages to the
    parent process.

    Args:
        name: name of the service for warnings.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: Queue[tuple[Callable[[], None], bool] | None] = Queue(_QUEUE_SIZE)
        self._busy_since: float | None = None
        self._problem: str | None = None
        self._warned = False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, action: Callable[[], None], always: bool = False) -> None:
        """Enqueue a call.

        Args:
            action: call to the service.
            always: whether to make the call even after a problem, to end a run.
        """
        try:
            self._queue.put_nowait((action, always))
        except Full:
            self._problem = self._problem or "its queue is full"
        since = self._busy_since
        if since is not None and time.monotonic() - since > _TIMEOUT_SECONDS:
            self._problem = self._problem or f"no response for {_TIMEOUT_SECONDS:.0f} s"
        self._warn()

    def close(self, seconds: float) -> None:
        """Wait until all calls are made.

        Args:
            seconds: maximum time to wait, at least 0.
        """
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._queue.put(None, timeout=0.1)
                break
            except Full:
                continue
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            UNJOINED.append(self._thread)
            self._problem = self._problem or f"not finished after {seconds:.0f} s"
        self._warn()

    def _work(self) -> None:
        while (next_call := self._queue.get()) is not None:
            action, always = next_call
            if self._problem and not always:
                continue
            self._busy_since = time.monotonic()
            try:
                action()
            except BaseException as error:  # a service must not end a run
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                self._problem = self._problem or f"{type(error).__name__}: {reason}"
            self._busy_since = None

    def _warn(self) -> None:
        if self._problem and not self._warned:
            self._warned = True
            _log.warning(
                "disabled %s: %s. All data is in the run folder.", self._name, self._problem
            )


class BackgroundLogger:
    """A logger of one run whose calls are made by a `LoggerThread`."""

    def __init__(self, run_logger: RunLogger, thread: LoggerThread) -> None:
        self._run_logger = run_logger
        self._thread = thread

    def begin(self, run: LoggedRun) -> None:
        """See `RunLogger`."""
        self._thread.submit(lambda: self._run_logger.begin(run))

    def epoch(self, metrics: EpochMetrics) -> None:
        """See `RunLogger`."""
        self._thread.submit(lambda: self._run_logger.epoch(metrics))

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """See `RunLogger`; the call is made even after a problem."""
        self._thread.submit(lambda: self._run_logger.end(status, images), always=True)
