"""ConcurrencyLimit and Throttle on a GPU that is simulated in time, as a worker uses them."""

from collections.abc import Callable, Iterator

import pytest

from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit
from cifar_exp.training import throttle
from cifar_exp.training.device import Clock
from cifar_exp.training.throttle import Throttle

POLL_SECONDS = 1e-3
HOST_SECONDS = 5e-5  # to launch a step
Speedup = Callable[[int], float]


class Gpu:
    """Executes the steps of each run in order.

    Args:
        speedup: returns the throughput of `n` runs, relative to one run.
    """

    def __init__(self, speedup: Speedup) -> None:
        self.now = 0.0
        self.speedup = speedup
        self.step_seconds: dict[int, float] = {}  # of each run alone
        self.left: dict[int, float] = {}  # steps that are queued
        self.done: dict[int, float] = {}

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-12:
            busy = [run for run, left in self.left.items() if left > 1e-9]
            if not busy:
                self.now = end
                return
            share = self.speedup(len(busy)) / len(busy)
            rates = {run: share / self.step_seconds[run] for run in busy}
            span = min(end - self.now, *(self.left[run] / rates[run] for run in busy))
            for run in busy:
                self.left[run] -= rates[run] * span
                self.done[run] += rates[run] * span
            self.now += span


class SimulatedClock(Clock):
    def __init__(self, gpu: Gpu, run: int) -> None:
        self.gpu, self.run = gpu, run

    def record(self) -> float:
        return self.gpu.done[self.run] + self.gpu.left[self.run]

    def passed(self, mark: float) -> bool:
        return self.gpu.done[self.run] >= mark - 1e-6


class Worker:
    """A worker that never runs out of runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speedup: Speedup) -> None:
        self.gpu = Gpu(speedup)
        monkeypatch.setattr(throttle.time, "monotonic", lambda: self.gpu.now)
        self.limit = ConcurrencyLimit(None, free_bytes=lambda: 10**11, clock=lambda: self.gpu.now)
        self.runs: dict[int, Iterator[int]] = {}
        self.started = 0

    def train(self, seconds: float, step_seconds: float, steps: int = 10**9) -> int:
        """Train for some time, and return the number of concurrent runs."""
        end = self.gpu.now + seconds
        while self.gpu.now < end:
            if self.limit.accepts_run():
                self._start(step_seconds, steps)
            for run in self.limit.active():
                done = next(self.runs[run], None)
                if done is None:
                    del self.runs[run]
                    self.limit.remove(run)
                else:
                    self.limit.record(run, done)
            self.gpu.advance(1e-5)
        return len(self.runs)

    def _start(self, step_seconds: float, steps: int) -> None:
        number = self.started = self.started + 1
        self.gpu.step_seconds[number] = step_seconds
        self.gpu.left[number] = self.gpu.done[number] = 0.0
        self.runs[number] = self._run(number, steps)
        self.limit.add(number)

    def _run(self, number: int, steps: int) -> Iterator[int]:
        while any(left > 1e-9 for left in self.gpu.left.values()):
            self.gpu.advance(1e-3)  # capturing a graph waits until the device is idle
        limiter = Throttle(SimulatedClock(self.gpu, number))
        for step in range(1, steps + 1):
            self.gpu.advance(HOST_SECONDS)
            self.gpu.left[number] += 1
            if limiter.is_due(step):
                yield limiter.done()
                while limiter.is_ahead():
                    yield limiter.done()
                    self.gpu.advance(POLL_SECONDS)


@pytest.mark.parametrize("step_seconds", [1e-3, 5e-3])
@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        # one run more than useful is accepted, measured, and not replaced
        (lambda n: min(n, 3), 4),
        (lambda n: (0, 1, 1.5, 1.8, 1.85)[min(n, 4)], 4),
        (lambda n: 1, 2),
    ],
    ids=["three are fastest", "diminishing gain", "no gain"],
)
def test_the_fastest_number_of_runs_trains_concurrently(
    monkeypatch: pytest.MonkeyPatch, speedup: Speedup, expected: int, step_seconds: float
) -> None:
    assert Worker(monkeypatch, speedup).train(25, step_seconds) == expected


def test_steps_count_when_they_are_completed_and_not_when_they_are_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch, lambda n: min(n, 2))
    worker.train(12, 5e-3)
    assert worker.limit._throughputs[2] == pytest.approx(2, rel=0.1)


def test_small_runs_after_large_ones_are_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch, lambda n: 1)
    assert worker.train(12, 5e-3, steps=1500) <= 2  # without a gain
    worker.gpu.speedup = lambda n: min(n, 4)
    assert worker.train(25, 1e-3, steps=3000) >= 3


def test_only_the_memory_of_runs_that_are_training_counts() -> None:
    free = [100]
    limit = ConcurrencyLimit(None, lambda: free[0], clock=lambda: now[0])
    now = [0.0]

    def start(run: int, memory: int) -> None:
        limit.add(run)
        free[0] -= memory
        for steps in (0, 50):
            now[0] += 1
            limit.record(run, steps)

    start(1, memory=60)
    assert not limit.accepts_run()  # 40 are free, and one more run needs 1.3 * 60
    limit.remove(1)
    free[0] += 60
    start(2, memory=10)
    assert limit.accepts_run()
