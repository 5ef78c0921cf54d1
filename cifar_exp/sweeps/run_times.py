"""Estimates of the time that runs take, before and during a sweep (no PyTorch import)."""

import functools
import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from cifar_exp.config.schema import RunConfig
from cifar_exp.models.settings import NetworkSection

# Constant cost of a step, in images of the full-width network: the latency of kernels on a GPU
# (H100: 1.2 ms, and 9.2 us per image), little on a CPU (5.5 ms, and 14 ms per image).
_STEP_COST_ON_GPU = 120.0
_STEP_COST_ON_CPU = 0.4
# Multiplications of a network for one image, relative to VGG16; 1 for others.
_RELATIVE_WORK = {"vgg11": 0.49, "vgg13": 0.73, "vgg19": 1.27, "resnet18": 1.77}
_EVALUATION_COST = 1 / 3  # of an image, relative to training
_USUAL_IMAGES = 50_000, 10_000
_IMAGE_SIZE = 32
# Time of a run before its first step and after its last one (figures), until it is observed.
# Medians of the runs in multirun_results/published.
_SECONDS_TO_BEGIN = 0.3
_SECONDS_TO_END = 0.7
_MIN_OBSERVED = 0.05  # of a run, before its speed replaces the expected one


def image_counts(config: RunConfig, train_size: int | None = None) -> tuple[int, int]:
    """Return the numbers of training and evaluated images of a run; usual ones if unknown.

    Args:
        config: settings of the run.
        train_size: number of training images, if it is known.
    """
    data = config.data
    train, test = data.sizes or (train_size or _USUAL_IMAGES[0], (train_size or 0) // 4)
    train = train_size or round(min(train, data.limit_train or train) * (1 - data.val_fraction))
    if data.evaluated_on == "validation":
        test = round(train * data.val_fraction / (1 - data.val_fraction))
    return train, min(test, data.limit_test or test) or _USUAL_IMAGES[1]


def expected_cost(config: RunConfig, on_gpu: bool, train_size: int | None = None) -> float:
    """Estimate the relative duration of a run.

    Args:
        config: settings of the run.
        on_gpu: whether the run trains on a GPU.
        train_size: number of training images, if it is known.
    """
    step = _STEP_COST_ON_GPU if on_gpu else _STEP_COST_ON_CPU
    train, test = image_counts(config, train_size)
    training = train * (_image_cost(config) + step / config.data.batch_size)
    return config.training.epochs * (training + _evaluation_cost(config, test))


def part_after_epochs(config: RunConfig) -> float:
    """Estimate the time of the predictions at the end of a run, as a fraction of all its epochs."""
    _, test = image_counts(config)
    return _evaluation_cost(config, test) / expected_cost(config, on_gpu=False)


def _evaluation_cost(config: RunConfig, test: int) -> float:
    return test * _image_cost(config) * _EVALUATION_COST


def _image_cost(config: RunConfig) -> float:
    cost = (getattr(config.data, "image_size", _IMAGE_SIZE) / _IMAGE_SIZE) ** 2
    if isinstance(config.model, NetworkSection):  # the cost of a custom network is unknown
        cost *= config.model.width**2 * _RELATIVE_WORK.get(config.model.name, 1.0)
    return cost


def shape(config: RunConfig) -> str:
    """Return the settings on which the time of an epoch depends; equal for equally fast runs."""
    parts = {
        "model": config.model.model_dump(mode="json", exclude={"init", "dropout"}),
        "data": config.data.identity(),
        "optimizer": config.optimizer.name,
        "compute": (config.device, config.precision, config.deterministic),
        "metrics": config.metrics,
    }
    return str(parts)


@dataclass
class _Run:
    """What is known about the time of a run.

    Attributes:
        cost: expected duration of all epochs.
        shape: see `shape`.
        share: fraction of its epochs that has passed.
        after: time of the predictions at its end, as a fraction of `cost`.
        began: time at which it was started; None if it was not.
        in_new_worker: whether its worker may have had to start first.
        first: time and share of its first report.
        last: time and share of its last report.
        ended: time at which it ended.
    """

    cost: float
    shape: str
    share: float = 0.0
    after: float = 0.0
    began: float | None = None
    in_new_worker: bool = True
    first: tuple[float, float] | None = None
    last: tuple[float, float] = (0.0, 0.0)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.is_free = self.share >= 1  # it has no epochs to train

    @property
    def is_training(self) -> bool:
        return self.began is not None and self.ended is None

    @property
    def observed(self) -> tuple[float, float]:
        """Seconds between the first and the last report, and the cost of what was done then."""
        if self.first is None:
            return 0.0, 0.0
        (begin, before), (end, after) = self.first, self.last
        return end - begin, self.cost * (after - before)

    def remaining(
        self, rate: float | None, to_begin: float, to_end: float, now: float
    ) -> float | None:
        """Return the remaining seconds; None if the rate, in seconds per cost, is unknown."""
        if self.ended is not None:
            return 0.0
        if rate is None:
            return None
        begin, end = to_begin, to_end + rate * self.cost * self.after
        if self.first is not None:
            begin = 0.0
            end -= (now - self.last[0]) * (self.share >= 1)
        elif self.began is not None:
            begin -= now - self.began
        return max(0.0, begin) + rate * self.cost * (1 - self.share) + max(0.0, end)


class RunTimes:
    """Estimates how long the runs of a sweep will take, from the speed of runs so far.

    Runs of the same shape are assumed to be equally fast. The speed is that between reports, so the
    start of workers and figures do not count as training.

    Args:
        costs: expected duration of each run, in seconds or in any other unit.
        shapes: shape of each run; empty for one shape.
        shares: fraction of each run that was trained before; empty for none.
        afters: see `part_after_epochs`; empty for none.
        cost_of: returns the expected duration of a run that was not known at the start.
        in_seconds: whether costs are seconds.
        clock: returns the time in seconds; None for the monotonic clock.
    """

    def __init__(
        self,
        costs: Sequence[float],
        shapes: Sequence[str] = (),
        shares: Sequence[float] = (),
        afters: Sequence[float] = (),
        cost_of: Callable[[RunConfig], float] = lambda _: 1.0,
        in_seconds: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        none = [0.0] * len(costs)
        given = (costs, shapes or [""] * len(costs), shares or none, afters or none)
        self._runs = [_Run(*of_run) for of_run in zip(*given, strict=True)]
        self._cost_of = cost_of
        self._in_seconds = in_seconds
        self._clock = clock or time.monotonic
        self._started = self._clock()
        self._at_once = 1  # largest number of concurrent runs so far

    @staticmethod
    def of(
        configs: Sequence[RunConfig],
        cost_of: Callable[[RunConfig], float],
        shares: Sequence[float] = (),
        in_seconds: bool = False,
    ) -> "RunTimes":
        """Estimate the times of runs. Args: cost_of: returns the expected duration of a run."""
        costs = [cost_of(config) for config in configs]
        shapes, afters = map(shape, configs), map(part_after_epochs, configs)
        return RunTimes(costs, list(shapes), shares, list(afters), cost_of, in_seconds)

    @property
    def count(self) -> int:
        """The number of runs."""
        return len(self._runs)

    @property
    def done(self) -> float:
        """The completed fraction of the runs with epochs to train, in [0, 1]."""
        runs = [run for run in self._runs if not run.is_free]
        total = sum(run.cost for run in runs)
        return sum(run.cost * run.share for run in runs) / total if total else 1.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def choose(self, run: int, config: RunConfig) -> None:
        """Set a run that was not known at the start, or that starts with its first epoch after all.

        Args:
            run: its index; the number of runs for a new one.
            config: its settings.
        """
        after = part_after_epochs(config)
        self._runs[run : run + 1] = [_Run(self._cost_of(config), shape(config), after=after)]

    def begin(self, run: int) -> None:
        """Record that a run starts."""
        state = self._runs[run]
        state.in_new_worker = all(other.ended is None for other in self._runs)
        state.began, state.first, state.ended = self._clock(), None, None
        self._at_once = max(self._at_once, sum(run.is_training for run in self._runs))

    def report(self, run: int, share: float) -> None:
        """Record which fraction of its time a run has passed."""
        state, now = self._runs[run], self._clock()
        if state.began is None:
            state.began = now
        state.share = max(share, state.share)
        state.last = now, state.share
        state.first = state.first or state.last

    def remove(self, run: int) -> None:
        """Record that a run will be trained later."""
        self._runs[run].began = None

    def end(self, run: int) -> None:
        """Record that a run has ended."""
        self._runs[run].ended = self._clock()
        self._runs[run].share = 1.0

    def left(self, at_once: int | None = None) -> float | None:
        """Return the remaining seconds of all runs; None if they cannot be estimated.

        Args:
            at_once: number of concurrent runs; None for the largest number so far.
        """
        seconds = [value for value in self._remaining(self._runs) if value is not None]
        if len(seconds) < len(self._runs):
            return None
        of_runs = list(zip(self._runs, seconds, strict=True))
        training = [value for run, value in of_runs if run.is_training]
        waiting = [value for run, value in of_runs if run.began is None and run.ended is None]
        waiting.sort(reverse=True)  # as the queue does
        return makespan(waiting, training, at_once or self._at_once)

    def remaining(self, run: int) -> float | None:
        """Return the remaining seconds of a run; None if they cannot be estimated."""
        return self._remaining([self._runs[run]])[0]

    def _remaining(self, runs: Iterable[_Run]) -> list[float | None]:
        rate_of = functools.cache(self._rate)
        begins = [
            run.first[0] - run.began
            for run in self._runs
            if run.first and run.began is not None and not run.in_new_worker
        ]
        ends = [
            run.ended - run.last[0] - (rate_of(run.shape) or 0.0) * run.cost * run.after
            for run in self._runs
            if run.first and run.ended is not None
        ]
        to_begin = fmean(begins) if begins else _SECONDS_TO_BEGIN
        to_end = fmean(ends) if ends else _SECONDS_TO_END
        now = self._clock()
        return [run.remaining(rate_of(run.shape), to_begin, to_end, now) for run in runs]

    def _rate(self, shape: str) -> float | None:
        """Return the seconds per unit of cost of a shape, else of all runs; None if unknown."""
        same = [run for run in self._runs if run.shape == shape]
        for runs in (same, self._runs):
            seconds, work = map(sum, zip(*(run.observed for run in runs), strict=True))
            enough = _MIN_OBSERVED * fmean(run.cost for run in runs) if self._in_seconds else 0.0
            if work > enough:
                return seconds / work
        if self._in_seconds:
            return 1.0
        return 0.0 if any(run.ended is not None for run in self._runs) else None


class Budget:
    """The time that a command may take.

    Args:
        seconds: length of the time.
        clock: returns the time in seconds; None for the monotonic clock.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._end = self._clock() + seconds

    @property
    def left(self) -> float:
        """The remaining seconds; negative after the end."""
        return self._end - self._clock()


def makespan(waiting: Iterable[float], training: Sequence[float], at_once: int) -> float:
    """Return the seconds until all runs have ended.

    Args:
        waiting: durations of the runs to start, in order.
        training: remaining durations of the runs that are training.
        at_once: number of concurrent runs, at least 1.
    """
    free = [*training, *[0.0] * (at_once - len(training))]
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free, default=0.0)
