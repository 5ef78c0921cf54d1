"""How many runs a GPU gets that is simulated in time: Packing and Pace, driven as a worker does."""

from collections.abc import Callable, Iterator

import pytest

from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit
from cifar_exp.training import throttle
from cifar_exp.training.device import Clock
from cifar_exp.training.throttle import Throttle

POLL_SECONDS = 1e-3
HOST_SECONDS = 5e-5  # to hand over a step
Speedup = Callable[[int], float]


class Gpu:
    """Does the steps of each run in order; n runs together are `speedup(n)` times as fast as one.

    Args:
        speedup: by the number of runs.
    """

    def __init__(self, speedup: Speedup) -> None:
        self.now = 0.0
        self.speedup = speedup
        self.step_seconds: dict[int, float] = {}  # of each run, alone
        self.left: dict[int, float] = {}  # steps handed over and not done
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


class Sweep:
    """A worker with an endless supply of runs of one length after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speedup: Speedup) -> None:
        self.gpu = Gpu(speedup)
        monkeypatch.setattr(throttle.time, "monotonic", lambda: self.gpu.now)
        self.packing = ConcurrencyLimit(None, free_bytes=lambda: 10**11, clock=lambda: self.gpu.now)
        self.runs: dict[int, Iterator[int]] = {}
        self.begun = 0

    def work(self, seconds: float, step_seconds: float, steps: int = 10**9) -> int:
        """Return how many runs there are after so long."""
        end = self.gpu.now + seconds
        while self.gpu.now < end:
            if self.packing.wants_more():
                self._begin(step_seconds, steps)
            for run in self.packing.turns():
                done = next(self.runs[run], None)
                if done is None:
                    del self.runs[run]
                    self.packing.ended(run)
                else:
                    self.packing.heard(run, done)
            self.gpu.advance(1e-5)
        return len(self.runs)

    def _begin(self, step_seconds: float, steps: int) -> None:
        number = self.begun = self.begun + 1
        self.gpu.step_seconds[number] = step_seconds
        self.gpu.left[number] = self.gpu.done[number] = 0.0
        self.runs[number] = self._run(number, steps)
        self.packing.admit(number)

    def _run(self, number: int, steps: int) -> Iterator[int]:
        while any(left > 1e-9 for left in self.gpu.left.values()):
            self.gpu.advance(1e-3)  # a capture waits for the whole device
        paced = Throttle(SimulatedClock(self.gpu, number))
        for step in range(1, steps + 1):
            self.gpu.advance(HOST_SECONDS)
            self.gpu.left[number] += 1
            if paced.is_due(step):
                yield paced.done()
                while paced.is_ahead():
                    yield paced.done()
                    self.gpu.advance(POLL_SECONDS)


@pytest.mark.parametrize("step_seconds", [1e-3, 5e-3])
@pytest.mark.parametrize(
    ("speedup", "expected"),
    [
        # a run more than pays is admitted, measured, and not replaced
        (lambda n: min(n, 3), 4),
        (lambda n: (0, 1, 1.5, 1.8, 1.85)[min(n, 4)], 4),
        (lambda n: 1, 2),
    ],
    ids=["pays up to three", "pays less and less", "never pays"],
)
def test_as_many_runs_train_at_once_as_pay(
    monkeypatch: pytest.MonkeyPatch, speedup: Speedup, expected: int, step_seconds: float
) -> None:
    assert Sweep(monkeypatch, speedup).work(25, step_seconds) == expected


def test_steps_count_when_they_are_done_and_not_when_they_are_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = Sweep(monkeypatch, lambda n: min(n, 2))
    sweep.work(12, 5e-3)
    assert sweep.packing._speeds[2] == pytest.approx(2, rel=0.1)


def test_small_runs_that_follow_large_ones_are_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = Sweep(monkeypatch, lambda n: 1)
    assert sweep.work(12, 5e-3, steps=1500) <= 2  # together no faster than one
    sweep.gpu.speedup = lambda n: min(n, 4)
    assert sweep.work(25, 1e-3, steps=3000) >= 3


def test_memory_of_the_runs_that_are_there_decides_and_not_of_one_that_has_ended() -> None:
    free = [100]
    packing = ConcurrencyLimit(None, lambda: free[0], clock=lambda: now[0])
    now = [0.0]

    def begin(run: int, takes: int) -> None:
        packing.admit(run)
        free[0] -= takes
        for steps in (0, 50):
            now[0] += 1
            packing.heard(run, steps)

    begin(1, takes=60)
    assert not packing.wants_more()  # 40 are free, and such a run needs 60
    packing.ended(1)
    free[0] += 60
    begin(2, takes=10)
    assert packing.wants_more()
