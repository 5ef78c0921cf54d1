"""The dispatcher: sends the runs of a sweep or search to worker processes."""

import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Protocol

from tqdm import tqdm

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.signals import Interrupted, StopRequest
from cifar_exp.sweeps.messages import (
    Died,
    Ended,
    FromWorker,
    ProgressReport,
    Ready,
    StopRun,
)
from cifar_exp.sweeps.progress_display import ProgressDisplay
from cifar_exp.sweeps.run_queue import RunQueue, Task
from cifar_exp.sweeps.run_times import Budget, RunTimes
from cifar_exp.sweeps.worker_pool import Worker, WorkerPool
from cifar_exp.training.progress import EpochMetrics

_POLL_SECONDS = 0.2


class Chooser(Protocol):
    """Chooses further runs while others are training. A search implements it."""

    @property
    def has_more(self) -> bool:
        """Whether further runs may be chosen."""

    def next_run(self) -> RunConfig | None:
        """Return the next run for an idle worker; None if there is none at present."""

    def continues(self, config: RunConfig, metrics: EpochMetrics) -> bool:
        """Record the metrics of an epoch, and return whether the run should continue."""


class Dispatcher:
    """Sends runs to workers and handles their messages until all runs have ended.

    Args:
        workers: worker processes.
        times: estimated times of `configs`, followed by those of the runs that are chosen.
        label: returns a short label that distinguishes a run from the others.
        ended: records that a run has ended, and returns its outcome as one line.
        configs: runs that are known at the start.
        interrupted: indices into `configs` of the runs that are trained first.
        prefix_runs: for runs in `configs` the shorter ones that wait for them, as indices; see
            `find_prefix_runs`.
        chooser: chooses further runs; None if there are none.
        budget: time for all runs; a run that would not end in time is not started. None: any time.

    Attributes:
        problems: why runs failed.
        left_out: runs that were not started because of the budget.
    """

    def __init__(
        self,
        workers: WorkerPool,
        times: RunTimes,
        label: Callable[[RunConfig], str],
        ended: Callable[[RunConfig, Ended], str],
        configs: Sequence[RunConfig] = (),
        interrupted: Sequence[int] = (),
        prefix_runs: Mapping[int, Sequence[int]] = MappingProxyType({}),
        chooser: Chooser | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.problems: list[str] = []
        self.left_out: list[RunConfig] = []
        self._times = times
        self._budget = budget
        self._label = label
        self._ended = ended
        self._chooser = chooser
        self._configs = list(configs)  # `run` is an index into this list everywhere below
        self._queue = RunQueue(
            self._configs, prefix_runs, interrupted, workers.on_gpu, budget is not None
        )
        self._workers = workers
        self._idle: deque[Worker] = deque()
        self._display = (
            ProgressDisplay(times, "search", "trial") if chooser else ProgressDisplay(times)
        )

    def __enter__(self) -> "Dispatcher":
        """Return the dispatcher."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the progress display."""
        self._display.close()

    def work(self, stop: StopRequest) -> None:
        """Train all runs.

        Args:
            stop: raises Interrupted after a signal to stop.

        Raises:
            Interrupted: a signal was received; all runs have stopped.
            UserError: no further run can be trained; all runs have stopped.
        """
        try:
            while not self._queue.done or self._may_choose:
                stop()
                for worker, message in self._workers.messages(_POLL_SECONDS):
                    self._handle(worker, message)
                self._send_runs()
            self._workers.stop(signal.SIGTERM)
            stop()  # a signal while the workers ended
        except (Interrupted, UserError) as end:
            if not stop.at_once:
                self._workers.stop(getattr(end, "signal_number", signal.SIGTERM))
            raise

    def _send_runs(self) -> None:
        if self._idle:
            self._queue.resume_postponed(lambda run: not RunFolder.of(self._configs[run]).is_held)
        while self._idle and (task := self._queue.next() or self._choose()):
            config = self._configs[task.run]
            if not self._fits(task.run):
                self._leave(task.run)
                self._times.end(task.run)
                self.left_out.append(config)
                continue
            worker = self._idle.popleft()
            prefix_runs = [self._configs[short] for short in task.prefix_runs]
            worker.train(task.run, config, prefix_runs)
            self._display.begin(task.run, self._label(config), config.data.evaluated_on)

    def _leave(self, run: int) -> None:
        """Record that a run has ended; runs that waited for it train all their epochs."""
        for short in self._queue.ended(run):
            self._times.choose(short, self._configs[short])

    def _fits(self, run: int) -> bool:
        """Return whether a run is expected to end within the budget."""
        seconds = self._times.remaining(run)
        return self._budget is None or seconds is None or seconds <= self._budget.left

    @property
    def _may_choose(self) -> bool:
        return self._chooser is not None and self._chooser.has_more and not self.left_out

    def _choose(self) -> Task | None:
        """Ask the chooser for a run, unless a retried run must stay alone."""
        if self._chooser is None or not self._may_choose or self._queue.is_retrying:
            return None
        if (config := self._chooser.next_run()) is None:
            return None
        run = len(self._configs)
        self._queue.add(run)
        self._times.choose(run, config)
        self._configs.append(config)
        return self._queue.next()

    def _handle(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Ready():
                self._idle.append(worker)
            case ProgressReport(run, event):
                config = self._configs[run]
                self._display.show(run, event, config.training.epochs)
                if isinstance(event, EpochMetrics):
                    self._queue.passed(run, event.epoch)
                    if self._chooser and not self._chooser.continues(config, event):
                        worker.send(StopRun(run))
            case Ended(run, busy=True):
                self._display.remove(run)
                self._queue.postpone(run)
                label = self._label(self._configs[run])
                tqdm.write(f"{label}: waits for another process, which is training this run")
            case Ended(run, problem, out_of_memory=True) if not self._queue.is_alone(run):
                self._fail(run, str(problem))
            case Ended() as end:
                self._end(end)
                if end.disk_full:
                    raise UserError(f"{end.problem}; the other runs were stopped as well")
            case Died(reason, runs):
                for run in runs:
                    self._save_reason(run, reason)
                    self._fail(run, reason)
                self._idle = deque(other for other in self._idle if other is not worker)
                self._workers.replace(worker, reason)

    def _save_reason(self, run: int, reason: str) -> None:
        """Mark a run as failed whose worker died before it could do so."""
        config = self._configs[run]
        folder = RunFolder.of(config)
        with suppress(OSError, BusyError), folder.lock():  # another sweep may train it
            if folder.status not in ENDED:
                folder.fail({"run_id": run_id(config)}, reason)

    def _fail(self, run: int, reason: str) -> None:
        """Retry a run once, alone, since other runs may have caused the failure."""
        reason = reason.rstrip(".")
        if not self._queue.retry_alone(run):
            self._end(Ended(run, f"{reason} (twice)"))
            return
        label = self._label(self._configs[run])
        self._display.remove(run)
        tqdm.write(f"{label}: {reason}. It is retried alone after the other runs.")

    def _end(self, end: Ended) -> None:
        config = self._configs[end.run]
        if end.problem is not None:
            self.problems.append(end.problem)
        self._leave(end.run)
        label = self._label(config)
        self._display.end(end.run, f"{label}: {self._ended(config, end)}")
