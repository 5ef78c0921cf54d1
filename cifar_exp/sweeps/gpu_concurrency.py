"""How many runs a device should hold at once."""

import time
from collections.abc import Callable
from statistics import fmean

# A further run must make all of them together faster by this factor to be worth it.
_WORTHWHILE_GAIN = 1.05
_MOST_RUNS = 16
# Measured when a run is new, while the others wait, and then over all of them together.
_STEPS_ALONE = 50
_WINDOW_SECONDS = 2.0
# What pays is measured again for a run whose steps alone take so many times as long, or as short.
_UNLIKE = 1.5
# Memory that must be free for one more run: so many times what the largest has taken.
_MEMORY_MARGIN = 1.3


class ConcurrencyLimit:
    """Admits runs to a device, a fixed number of them or as many as pay.

    What pays is measured: the speed of `n` runs is how many seconds of training alone they do in a
    second together. As long as one more run raises it, and memory is left, another is wanted. It is
    measured again for a run with much shorter or longer steps: small runs may follow large ones.

    Args:
        limit: how many runs at once; None finds out.
        free_bytes: returns the memory left on the device.
        clock: returns seconds.
    """

    def __init__(
        self,
        limit: int | None,
        free_bytes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit or _MOST_RUNS
        self._measures = limit is None
        self._free_bytes = free_bytes
        self._clock = clock
        self._runs: dict[int, _Throttle] = {}
        self._alone: int | None = None  # the run that is measured while the others wait
        self._step_seconds = 0.0  # mean of the runs that speeds and limit were found with
        self._speeds = {0: 0.0, 1: 1.0}
        self._window_started = 0.0

    def wants_more(self) -> bool:
        """Tell whether another run should be sent."""
        count = len(self._runs)
        if count >= self._limit:
            return False
        if count == 0 or not self._measures:
            return True
        if self._alone is not None or count not in self._speeds:
            return False  # first see how the last one fares
        return self._free_bytes() > _MEMORY_MARGIN * max(p.bytes for p in self._runs.values())

    def admit(self, run: int) -> None:
        """Take note of a run that begins."""
        self._runs[run] = _Throttle(free_bytes_before=self._free_bytes() if self._measures else 0)
        if self._measures:
            self._alone = run

    def turns(self) -> list[int]:
        """Return the runs that are to go on now."""
        return list(self._runs) if self._alone is None else [self._alone]

    def heard(self, run: int, steps: int) -> None:
        """Take note of how far a run has come.

        Args:
            run: as admitted.
            steps: that the device has done since it began, not those that it was only given.
        """
        if not self._measures:
            return
        pace = self._runs[run]
        pace.move(steps, self._clock())
        if run == self._alone:
            self._measure_alone(pace)
        elif self._clock() - self._window_started >= _WINDOW_SECONDS:
            self._measure_together()

    def ended(self, run: int) -> None:
        """Take note of a run that has ended."""
        del self._runs[run]
        if run == self._alone:
            self._alone = None
        self._start_window()

    def _measure_alone(self, pace: "_Throttle") -> None:
        now = self._clock()
        if pace.alone_since is None:  # until now it was built
            pace.alone_since, pace.alone_from = now, pace.steps
            return
        steps = pace.steps - pace.alone_from
        if steps >= _STEPS_ALONE or (steps and now - pace.alone_since >= _WINDOW_SECONDS):
            pace.seconds_per_step = (now - pace.alone_since) / steps
            self._forget_if_unlike(pace.seconds_per_step)
            pace.bytes = pace.free_bytes_before - self._free_bytes()
            self._alone = None
            self._start_window()

    def _forget_if_unlike(self, step_seconds: float) -> None:
        longest, shortest = sorted((step_seconds, self._step_seconds), reverse=True)
        if self._step_seconds and longest > _UNLIKE * shortest:
            self._limit, self._speeds, self._step_seconds = _MOST_RUNS, {0: 0.0, 1: 1.0}, 0.0

    def _measure_together(self) -> None:
        speeds = [pace.speed_in_window() for pace in self._runs.values()]
        if not all(speeds):
            return  # a run is tested, or its steps are long
        count = len(self._runs)
        if count > 1:
            steps = [pace.seconds_per_step for pace in self._runs.values()]
            self._step_seconds = fmean(steps)
            self._speeds[count] = sum(speeds)
            fewer = max(number for number in self._speeds if number < count)
            if self._speeds[count] < _WORTHWHILE_GAIN * self._speeds[fewer]:
                self._limit = fewer
        self._start_window()

    def _start_window(self) -> None:
        self._window_started = self._clock()
        for pace in self._runs.values():
            pace.start_window()


class _Throttle:
    """How far a run is, and how fast it was alone and is in the current window."""

    def __init__(self, free_bytes_before: int) -> None:
        self.free_bytes_before = free_bytes_before
        self.bytes = 0
        self.steps = 0
        self.alone_since: float | None = None
        self.alone_from = 0
        self.seconds_per_step = 0.0
        # at the first and the last change of `steps` in the window: they come in blocks, and a part
        # of one would count for more than what a further run gains
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def start_window(self) -> None:
        self._first = None

    def move(self, steps: int, now: float) -> None:
        if steps == self.steps:
            return
        self.steps = steps
        self._last = now, steps
        self._first = self._first or self._last

    def speed_in_window(self) -> float:
        """Return the seconds of training alone that it did in a second; 0 while unknown."""
        if self._first is None or self._last[0] <= self._first[0]:
            return 0.0
        seconds, steps = (last - first for last, first in zip(self._last, self._first, strict=True))
        return self.seconds_per_step * steps / seconds
