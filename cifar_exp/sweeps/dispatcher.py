"""The time in which worker processes train runs, for a sweep or a search."""

import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from tqdm import tqdm

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import RunFolder
from cifar_exp.signals import Interrupted, StopRequest
from cifar_exp.sweeps.messages import Died, Ended, FromWorker, Leave, ProgressReport, Ready, Warned
from cifar_exp.sweeps.progress_display import ProgressDisplay
from cifar_exp.sweeps.run_queue import RunQueue, Task, expected_cost
from cifar_exp.sweeps.worker_pool import Worker, WorkerPool
from cifar_exp.training.progress import EpochMetrics

_POLL_SECONDS = 0.2


class Chooser(Protocol):
    """Chooses runs while others are trained: a search."""

    @property
    def wants_more(self) -> bool:
        """Whether runs may come that are not there yet."""

    def more(self) -> RunConfig | None:
        """Return one more run, for an idle worker; None if there is none now."""

    def continues(self, config: RunConfig, metrics: EpochMetrics) -> bool:
        """Take note of an epoch. Returns: whether the run is to be continued."""


class Dispatcher:
    """Hands runs out to workers, and handles their messages, until all have ended.

    Args:
        workers: that train.
        label: returns in a few words what distinguishes a run from the others.
        ended: takes note of a run that is over, and returns in a line how it ended.
        configs: of the runs that are known at the beginning.
        interrupted: indices of those in `configs` that come before the others.
        chooser: of further runs, if any.
        more: how many runs it is likely to add.
    """

    def __init__(
        self,
        workers: WorkerPool,
        label: Callable[[RunConfig], str],
        ended: Callable[[RunConfig, Ended], str],
        configs: Sequence[RunConfig] = (),
        interrupted: Sequence[int] = (),
        chooser: Chooser | None = None,
        more: int = 0,
    ) -> None:
        self.failed = 0
        self._label = label
        self._ended = ended
        self._chooser = chooser
        self._configs = list(configs)  # runs go by their index in this list
        self._queue = RunQueue(self._configs, interrupted, workers.on_gpu)
        self._workers = workers
        self._idle: deque[Worker] = deque()
        self._warned: set[str] = set()
        costs = [expected_cost(config, workers.on_gpu) for config in configs]
        self._display = (
            ProgressDisplay(costs + [1.0] * more, "search", "trial")
            if chooser
            else ProgressDisplay(costs)
        )

    def __enter__(self) -> "Dispatcher":
        """Show the runs while a block runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take them from the screen."""
        self._display.close()

    def work(self, stop: StopRequest) -> None:
        """Train all of them.

        Args:
            stop: raises when it is time to stop.

        Raises:
            Interrupted: it was asked for; the runs have stopped.
            UserError: nothing more can be trained; the runs have stopped.
        """
        try:
            while not self._queue.done or (self._chooser and self._chooser.wants_more):
                stop()
                for worker, message in self._workers.messages(_POLL_SECONDS):
                    self._handle(worker, message)
                self._hand_out()
        except (Interrupted, UserError) as end:
            if not stop.at_once:
                self._workers.stop(getattr(end, "signal_number", signal.SIGTERM))
            raise

    def _hand_out(self) -> None:
        while self._idle and (task := self._queue.next() or self._added()):
            worker = self._idle.popleft()
            config = self._configs[task.run]
            prefix_runs = [self._configs[short] for short in task.prefix_runs]
            worker.train(task.run, config, prefix_runs)
            self._display.begin(task.run, self._label(config), config.data.evaluated_on)

    def _added(self) -> Task | None:
        """Ask the chooser for a run, unless one that is repeated must stay alone."""
        if self._chooser is None or self._queue.repeats:
            return None
        if (config := self._chooser.more()) is None:
            return None
        self._queue.add(len(self._configs))
        self._configs.append(config)
        return self._queue.next()

    def _handle(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Ready():
                self._idle.append(worker)
            case Warned(text):
                self._warn(text)
            case ProgressReport(run, event):
                config = self._configs[run]
                self._display.show(run, event, config.training.epochs)
                if isinstance(event, EpochMetrics):
                    self._queue.passed(run, event.epoch)
                    if self._chooser and not self._chooser.continues(config, event):
                        worker.send(Leave(run))
            case Ended(run, busy=True):
                self._display.leave(run)
                self._queue.postpone(run)
            case Ended(run, problem, out_of_memory=True) if not self._queue.is_single(run):
                self._fail(run, str(problem))
            case Ended() as end:
                self._end(end)
                if end.disk_full:
                    raise UserError(f"{end.problem}; the other runs have stopped as well")
            case Died(reason, runs):
                for run in runs:
                    self._keep_reason(run, reason)
                    self._fail(run, reason)
                self._idle = deque(other for other in self._idle if other is not worker)
                self._workers.replace(worker, reason)

    def _warn(self, text: str) -> None:
        """Tell a warning once, though several workers may give it."""
        if text not in self._warned:
            self._warned.add(text)
            tqdm.write(text)

    def _keep_reason(self, run: int, reason: str) -> None:
        """A worker has died in a run, and left it as it was."""
        config = self._configs[run]
        with suppress(OSError):
            RunFolder.of(config).fail({"run_id": run_id(config)}, reason)

    def _fail(self, run: int, reason: str) -> None:
        """Repeat a run alone, since others may be the reason; the second time it has failed."""
        if not self._queue.repeat_alone(run):
            self._end(Ended(run, f"{reason}, twice"))
            return
        label = self._label(self._configs[run])
        self._display.leave(run)
        tqdm.write(f"{label}: {reason}; it is repeated alone after the others")

    def _end(self, end: Ended) -> None:
        config = self._configs[end.run]
        self.failed += end.problem is not None
        self._queue.ended(end.run)
        label = self._label(config)
        self._display.end(end.run, f"{label}: {self._ended(config, end)}")
