"""The time in which worker processes train runs, for a sweep or a search."""

import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from tqdm import tqdm

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import RunFolder
from cifar_exp.signals import Interrupted, StopRequest
from cifar_exp.sweeps.messages import Died, Ended, FromWorker, Leave, Ready, Told, Warned
from cifar_exp.sweeps.progress_display import Screen
from cifar_exp.sweeps.run_queue import Agenda, Task, expected_cost
from cifar_exp.sweeps.worker_pool import Worker, Workers
from cifar_exp.training.progress import EpochMetrics

_POLL_SECONDS = 0.2


class Owner(Protocol):
    """Whose runs are trained: a sweep, which knows them all, or a search, which asks for them."""

    @property
    def wants_more(self) -> bool:
        """Whether runs may come that are not there yet."""

    def more(self) -> RunConfig | None:
        """Return one more run, for a worker that has nothing to do; None if there is none now."""

    def label(self, config: RunConfig) -> str:
        """Say in a few words what tells a run from the others."""

    def goes_on(self, config: RunConfig, metrics: EpochMetrics) -> bool:
        """Take note of an epoch. Returns: whether the run is worth going on."""

    def ended(self, config: RunConfig, end: Ended) -> str:
        """Take note of a run that is over. Returns: how it ended, in a line."""


class Shift:
    """Hands runs out to workers, and listens to them, until all have ended.

    Args:
        owner: of the runs.
        configs: that are there at the beginning.
        half_done: places of those in `configs` that come before the others.
        workers: that train.
        more: how many runs the owner is likely to add.
    """

    def __init__(
        self,
        owner: Owner,
        configs: Sequence[RunConfig],
        half_done: Sequence[int],
        workers: Workers,
        more: int = 0,
    ) -> None:
        self.failed = 0
        self._owner = owner
        self._configs = list(configs)  # runs go by their place in this list
        self._agenda = Agenda(self._configs, half_done, workers.on_gpu)
        self._workers = workers
        self._idle: deque[Worker] = deque()
        self._warned: set[str] = set()
        costs = [expected_cost(config, workers.on_gpu) for config in configs]
        self._screen = Screen(costs + [1.0] * more)

    def __enter__(self) -> "Shift":
        """Show the runs while a block runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take them from the screen."""
        self._screen.close()

    def work(self, stop: StopRequest) -> None:
        """Train all of them.

        Args:
            stop: raises when it is time to stop.

        Raises:
            Interrupted: it was asked for; the runs have stopped.
            UserError: nothing more can be trained; the runs have stopped.
        """
        try:
            while self._owner.wants_more or not self._agenda.done:
                stop()
                for worker, message in self._workers.messages(_POLL_SECONDS):
                    self._hear(worker, message)
                self._hand_out()
        except (Interrupted, UserError) as end:
            if not stop.at_once:
                self._workers.stop(getattr(end, "signal_number", signal.SIGTERM))
            raise

    def _hand_out(self) -> None:
        while self._idle and (task := self._agenda.next() or self._added()):
            worker = self._idle.popleft()
            config = self._configs[task.run]
            beginnings = [self._configs[short] for short in task.beginnings]
            worker.train(task.run, config, beginnings)
            self._screen.begin(task.run, self._owner.label(config), config.data.evaluated_on)

    def _added(self) -> Task | None:
        """Ask the owner for a run, unless one that is repeated must stay alone."""
        config = None if self._agenda.repeats else self._owner.more()
        if config is None:
            return None
        self._agenda.add(len(self._configs))
        self._configs.append(config)
        return self._agenda.next()

    def _hear(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Ready():
                self._idle.append(worker)
            case Warned(text):
                self._warn(text)
            case Told(run, event):
                config = self._configs[run]
                self._screen.show(run, event, config.training.epochs)
                if isinstance(event, EpochMetrics):
                    self._agenda.passed(run, event.epoch)
                    if not self._owner.goes_on(config, event):
                        worker.send(Leave(run))
            case Ended(run, busy=True):
                self._screen.leave(run)
                self._agenda.postpone(run)
            case Ended(run, problem, out_of_memory=True) if not self._agenda.is_alone(run):
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
        if not self._agenda.repeat_alone(run):
            self._end(Ended(run, f"{reason}, twice"))
            return
        label = self._owner.label(self._configs[run])
        self._screen.leave(run)
        tqdm.write(f"{label}: {reason}; it is repeated alone after the others")

    def _end(self, end: Ended) -> None:
        config = self._configs[end.run]
        self.failed += end.problem is not None
        self._agenda.ended(end.run)
        label = self._owner.label(config)
        self._screen.end(end.run, f"{label}: {self._owner.ended(config, end)}")
