"""The run queue: the order in which runs are trained, and which runs wait for others."""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps.run_times import expected_cost


@dataclass(frozen=True)
class Task:
    """A run to train, and the shorter runs that equal its first epochs."""

    run: int
    prefix_runs: tuple[int, ...]


class RunQueue:
    """Orders the runs of a sweep, longest first, so that workers finish at about the same time.

    A run that equals the first epochs of a longer run waits for it, and then has nothing left to
    train. A run that is retried alone comes last.

    Args:
        configs: all runs; methods identify a run by its index in this list.
        prefix_runs: see `find_prefix_runs`.
        interrupted: indices of the runs that come first.
        on_gpu: whether the runs train on a GPU.
        in_order: whether the other runs keep their order, instead of longest first.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        prefix_runs: Mapping[int, Sequence[int]],
        interrupted: Collection[int] = (),
        on_gpu: bool = False,
        in_order: bool = False,
    ) -> None:
        self._configs = configs
        first, indices = set(interrupted), range(len(configs))
        self._shorter = {run: list(shorter) for run, shorter in prefix_runs.items()}
        waiting = {short for runs in self._shorter.values() for short in runs}
        order = sorted(
            indices,
            key=lambda run: (
                run not in first,
                0.0 if in_order else -expected_cost(configs[run], on_gpu),
            ),
        )
        self._ready = deque(run for run in order if run not in waiting)
        self._unfinished = set(indices)
        self._training: set[int] = set()
        self._alone: deque[int] = deque()
        self._retried: set[int] = set()
        self._postponed: list[int] = []

    @property
    def done(self) -> bool:
        """Whether all runs have ended."""
        return not self._unfinished

    @property
    def is_retrying(self) -> bool:
        """Whether a retried run is training, which must stay alone."""
        return bool(self._training & self._retried)

    def add(self, run: int) -> None:
        """Add a run that was not known at the start; no other run waits for it."""
        self._unfinished.add(run)
        self._ready.append(run)

    def next(self) -> Task | None:
        """Return the next task; None if no run can start now."""
        run = self._take()
        if run is None:
            return None
        self._training.add(run)
        return Task(run, tuple(sorted(self._shorter.get(run, ()))))

    def _take(self) -> int | None:
        if self.is_retrying:
            return None
        if self._ready:
            return self._ready.popleft()
        return self._alone.popleft() if self._alone and not self._training else None

    def passed(self, run: int, epoch: float) -> list[int]:
        """Record that a run has completed an epoch.

        Args:
            run: index of the run.
            epoch: completed epoch, counted from 1; infinity for all.

        Returns:
            The shorter runs that end by this epoch; they wait no longer.
        """
        waiting, released = self._shorter.get(run, []), []
        while waiting and self._configs[waiting[-1]].training.epochs <= epoch:
            released.append(waiting.pop())
        self._ready.extendleft(released)
        return released

    def ended(self, run: int) -> list[int]:
        """Record that a run has ended, whether complete or failed.

        Returns:
            The shorter runs that waited for it and must train all their epochs.
        """
        self._training.discard(run)
        self._unfinished.discard(run)
        return self.passed(run, epoch=math.inf)

    def postpone(self, run: int) -> None:
        """Set a run aside that another process is training."""
        self._training.discard(run)
        self._postponed.append(run)

    def resume_postponed(self, is_free: Callable[[int], bool]) -> None:
        """Queue the postponed runs again that no other process is training any more.

        Args:
            is_free: returns whether no process is training a run.
        """
        for run in filter(is_free, tuple(self._postponed)):
            self._postponed.remove(run)
            (self._alone if run in self._retried else self._ready).append(run)

    def is_alone(self, run: int) -> bool:
        """Return whether this run is the only one that is training."""
        return self._training == {run}

    def retry_alone(self, run: int) -> bool:
        """Schedule a failed run to be retried once, alone, after all others.

        Returns:
            Whether it is retried; False if it has been retried before.
        """
        if run in self._retried:
            return False
        self._training.discard(run)
        self._retried.add(run)
        self._alone.append(run)
        return True
