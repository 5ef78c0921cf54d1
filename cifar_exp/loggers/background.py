"""A thread that talks to a tracker, so that one that hangs or fails costs training nothing."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from cifar_exp.loggers.base import LoggedRun, RunLogger
from cifar_exp.training.progress import EpochMetrics

_log = logging.getLogger("cifar_exp")

_MOST_WAITING = 1000  # calls; further ones are dropped
_PATIENCE_SECONDS = 60.0  # for one call, until it is said to hang
_KEPT = "the run's own files have everything"


class Background:
    """Makes the calls of one kind of tracker in their order, for all runs of this process.

    Nothing here waits but `close`, and nothing raises. Warnings are given by the thread that
    calls, since only that may speak to whoever started the process.

    Args:
        name: of the tracker, for the warning.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: Queue[tuple[Callable[[], None], bool] | None] = Queue(_MOST_WAITING)
        self._busy_since: float | None = None
        self._problem: str | None = None
        self._warned = False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, action: Callable[[], None], always: bool = False) -> None:
        """Let the thread do something.

        Args:
            action: a call of the tracker.
            always: do it after a failure as well, as what ends a run.
        """
        try:
            self._waiting.put_nowait((action, always))
        except Full:
            self._problem = self._problem or "does not keep up"
        since = self._busy_since
        if since is not None and time.monotonic() - since > _PATIENCE_SECONDS:
            self._problem = self._problem or f"has not answered for {_PATIENCE_SECONDS:.0f} s"
        self._warn()

    def close(self, seconds: float) -> None:
        """Wait until all is done, but not longer than this."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            try:
                self._waiting.put(None, timeout=0.1)
                break
            except Full:
                continue
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._problem = self._problem or f"was not done after {seconds:.0f} s"
        self._warn()

    def _work(self) -> None:
        while (next_call := self._waiting.get()) is not None:
            action, always = next_call
            if self._problem and not always:
                continue
            self._busy_since = time.monotonic()
            try:
                action()
            except BaseException as error:  # whatever: a tracker must not end a run
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                self._problem = self._problem or f"{type(error).__name__}: {reason}"
            self._busy_since = None

    def _warn(self) -> None:
        if self._problem and not self._warned:
            self._warned = True
            _log.warning("%s gets no more: %s; %s", self._name, self._problem, _KEPT)


class InBackground:
    """A tracker of one run whose calls are made by such a thread."""

    def __init__(self, run_logger: RunLogger, background: Background) -> None:
        self._run_logger = run_logger
        self._background = background

    def begin(self, run: LoggedRun) -> None:
        """Begin, or go on."""
        self._background.call(lambda: self._run_logger.begin(run))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch."""
        self._background.call(lambda: self._run_logger.epoch(metrics))

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """End, in any case."""
        self._background.call(lambda: self._run_logger.end(status, images), always=True)
