"""The number of concurrent runs on a GPU."""

import time
from collections.abc import Callable
from statistics import fmean, median

# One more run must raise the total throughput by at least this factor.
_MIN_SPEEDUP = 1.05
_MAX_RUNS = 16
# A new run is measured alone for this many steps or seconds, then together with the others in
# several windows. Their median is used: while one run is evaluated or saved, all wait.
_STEPS_ALONE = 50
_SECONDS_ALONE = 2.0
_WINDOWS = 5
_WINDOW_SECONDS = 0.5
# A run whose step time differs by more than this factor invalidates earlier measurements.
_STEP_TIME_RATIO = 1.5
# Free memory required for one more run, as a multiple of the memory of the largest run.
_MEMORY_MARGIN = 1.3


class ConcurrencyLimit:
    """Decides how many runs a device trains concurrently.

    Without a fixed limit, the limit is measured. The throughput of `n` runs is the sum of their
    speeds relative to their speeds alone. Another run is accepted while each one raises the
    throughput and memory is left. A run with a much shorter or longer step time than the earlier
    ones starts a new measurement.

    Args:
        limit: number of concurrent runs; None to measure it.
        free_bytes: returns the free memory of the device in bytes.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        limit: int | None,
        free_bytes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit or _MAX_RUNS
        self._measures = limit is None
        self._free_bytes = free_bytes
        self._clock = clock
        self._runs: dict[int, _RunSpeed] = {}
        self._alone: int | None = None  # the run that is measured while the others wait
        self._step_seconds = 0.0  # mean step time of the runs in the last measurement
        self._throughputs = {0: 0.0, 1: 1.0}  # by number of runs
        self._window_started = 0.0
        self._windows: list[float] = []  # throughputs of the current number of runs

    def accepts_run(self) -> bool:
        """Return whether the device should train one more run."""
        count = len(self._runs)
        if count >= self._limit:
            return False
        if count == 0 or not self._measures:
            return True
        if self._alone is not None or count not in self._throughputs:
            return False  # the last run is not measured yet
        return self._free_bytes() > _MEMORY_MARGIN * max(run.bytes for run in self._runs.values())

    def add(self, run: int) -> None:
        """Add a run that starts."""
        self._runs[run] = _RunSpeed(free_bytes_before=self._free_bytes() if self._measures else 0)
        if self._measures:
            self._alone = run

    def active(self) -> list[int]:
        """Return the runs that should train now."""
        return list(self._runs) if self._alone is None else [self._alone]

    def record(self, run: int, steps: int) -> None:
        """Record the progress of a run.

        Args:
            run: index of the run.
            steps: number of steps that the device has completed since the run started, without
                those that are only queued.
        """
        if not self._measures:
            return
        speed = self._runs[run]
        speed.record(steps, self._clock())
        if run == self._alone:
            self._measure_alone(speed)
        elif self._clock() - self._window_started >= _WINDOW_SECONDS:
            self._measure_together()

    def remove(self, run: int) -> None:
        """Remove a run that has ended."""
        del self._runs[run]
        if run == self._alone:
            self._alone = None
        self._start_windows()

    def _measure_alone(self, speed: "_RunSpeed") -> None:
        now = self._clock()
        if speed.alone_since is None:  # the time before the first report was spent on setup
            speed.alone_since, speed.alone_from = now, speed.steps
            return
        steps = speed.steps - speed.alone_from
        if steps >= _STEPS_ALONE or (steps and now - speed.alone_since >= _SECONDS_ALONE):
            speed.seconds_per_step = (now - speed.alone_since) / steps
            self._reset_if_different(speed.seconds_per_step)
            speed.bytes = speed.free_bytes_before - self._free_bytes()
            self._alone = None
            self._start_windows()

    def _reset_if_different(self, step_seconds: float) -> None:
        longest, shortest = sorted((step_seconds, self._step_seconds), reverse=True)
        if self._step_seconds and longest > _STEP_TIME_RATIO * shortest:
            self._limit, self._throughputs, self._step_seconds = _MAX_RUNS, {0: 0.0, 1: 1.0}, 0.0

    def _measure_together(self) -> None:
        speeds = [run.relative_speed() for run in self._runs.values()]
        if not all(speeds):
            return  # a run is being evaluated, or its steps are long
        self._start_window()
        count = len(self._runs)
        if count == 1:
            return
        self._windows.append(sum(speeds))
        if len(self._windows) < _WINDOWS:
            return
        self._step_seconds = fmean(run.seconds_per_step for run in self._runs.values())
        self._throughputs[count] = median(self._windows)
        self._windows = []
        fewer = max(number for number in self._throughputs if number < count)
        if self._throughputs[count] < _MIN_SPEEDUP * self._throughputs[fewer]:
            self._limit = fewer

    def _start_windows(self) -> None:
        self._windows = []
        self._start_window()

    def _start_window(self) -> None:
        self._window_started = self._clock()
        for run in self._runs.values():
            run.start_window()


class _RunSpeed:
    """The step time of a run alone, and its progress in the current window."""

    def __init__(self, free_bytes_before: int) -> None:
        self.free_bytes_before = free_bytes_before
        self.bytes = 0
        self.steps = 0
        self.alone_since: float | None = None
        self.alone_from = 0
        self.seconds_per_step = 0.0
        # Time and steps at the first and last change of `steps` in the window. Steps complete in
        # blocks, and a window that cuts a block would distort the speed by more than _MIN_SPEEDUP.
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] = (0.0, 0)

    def start_window(self) -> None:
        self._first = None

    def record(self, steps: int, now: float) -> None:
        if steps == self.steps:
            return
        self.steps = steps
        self._last = now, steps
        self._first = self._first or self._last

    def relative_speed(self) -> float:
        """Return the speed in the window divided by the speed alone; 0 if unknown."""
        if self._first is None or self._last[0] <= self._first[0]:
            return 0.0
        seconds, steps = (last - first for last, first in zip(self._last, self._first, strict=True))
        return self.seconds_per_step * steps / seconds
