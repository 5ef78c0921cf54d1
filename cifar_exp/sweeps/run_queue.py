"""In which order the runs of a sweep are trained, and which must wait for others."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cifar_exp.config.identity import is_prefix
from cifar_exp.config.schema import RunConfig
from cifar_exp.models.settings import NetworkSection

# What a step costs besides its images, in images of the full-width network: on a GPU what starting
# its kernels takes (estimated), on a CPU little (measured: 5.5 ms, and 14 ms an image). Only the
# order of the runs and the estimate of the rest hang on it.
_IMAGES_WORTH_OF_A_STEP_ON_GPU = 40.0
_IMAGES_WORTH_OF_A_STEP_ON_CPU = 0.4


def expected_cost(config: RunConfig, on_gpu: bool) -> float:
    """Return how long a run will take compared with others on the same data, in no unit."""
    step = _IMAGES_WORTH_OF_A_STEP_ON_GPU if on_gpu else _IMAGES_WORTH_OF_A_STEP_ON_CPU
    # of what a custom network costs nothing is known
    image = config.model.width**2 if isinstance(config.model, NetworkSection) else 1.0
    return config.training.epochs * (image + step / config.data.batch_size)


@dataclass(frozen=True)
class Task:
    """A run to train, and the shorter ones that it trains on the way."""

    run: int
    prefix_runs: tuple[int, ...]


class RunQueue:
    """Hands out the runs of a sweep, the longest first so that the end is not one long run.

    A run that equals the first epochs of another waits for it, and then has nothing left to train.
    A run that is to be repeated alone comes after all others.

    Args:
        configs: of all runs, by their numbers.
        interrupted: runs that come before all others.
        on_gpu: whether they train on one.
    """

    def __init__(
        self, configs: Sequence[RunConfig], interrupted: Sequence[int] = (), on_gpu: bool = False
    ) -> None:
        self._configs = configs
        numbers = range(len(configs))
        self._longer = {
            short: long
            for short in numbers
            if short not in interrupted and not configs[short].rerun
            for long in numbers
            if is_prefix(configs[short], configs[long])
        }
        order = sorted(
            numbers, key=lambda run: (run not in interrupted, -expected_cost(configs[run], on_gpu))
        )
        self._ready = deque(run for run in order if run not in self._longer)
        self._open = set(numbers)
        self._training: set[int] = set()
        self._alone: deque[int] = deque()
        self._repeated: set[int] = set()

    @property
    def done(self) -> bool:
        """Whether all runs have ended."""
        return not self._open

    @property
    def repeats(self) -> bool:
        """Whether a run is training that is to be alone."""
        return bool(self._training & self._repeated)

    def add(self, run: int) -> None:
        """Add a run that was not there at the beginning; it begins no other."""
        self._open.add(run)
        self._ready.append(run)

    def next(self) -> Task | None:
        """Return what to train next, if something can begin now."""
        run = self._take()
        if run is None:
            return None
        self._training.add(run)
        return Task(run, tuple(short for short, long in self._longer.items() if long == run))

    def _take(self) -> int | None:
        if self.repeats:
            return None
        if self._ready:
            return self._ready.popleft()
        return self._alone.popleft() if self._alone and not self._training else None

    def passed(self, run: int, epoch: int) -> None:
        """Take note of an epoch: shorter runs that end with it can be finished."""
        self._release(run, lambda short: self._configs[short].training.epochs <= epoch)

    def ended(self, run: int) -> None:
        """Take note of a run that is over, well or not."""
        self._training.discard(run)
        self._open.discard(run)
        self._release(run, lambda short: True)

    def postpone(self, run: int) -> None:
        """Put a run back at the end: another process is training it."""
        self._training.discard(run)
        (self._alone if run in self._repeated else self._ready).append(run)

    def is_single(self, run: int) -> bool:
        """Tell whether no other run is training beside this one."""
        return self._training == {run}

    def repeat_alone(self, run: int) -> bool:
        """Put a run that failed at the very end, with no other beside it, once.

        Returns:
            False if it has been repeated before, so that it has failed for good.
        """
        if run in self._repeated:
            return False
        self._training.discard(run)
        self._repeated.add(run)
        self._alone.append(run)
        return True

    def _release(self, long: int, ends: Callable[[int], bool]) -> None:
        for short in [s for s, other in self._longer.items() if other == long and ends(s)]:
            del self._longer[short]
            self._ready.appendleft(short)
