"""The progress display of a sweep: one bar for the sweep and one for each running run."""

import sys

from tqdm import tqdm

from cifar_exp.runs.progress_bar import Bar, RunBar, is_too_early
from cifar_exp.sweeps.run_times import RunTimes
from cifar_exp.terminal import wrapped
from cifar_exp.training.progress import Event, Progress

_MAX_BARS = 16
_BAR_TOTAL = 1000  # an integer, because a sum of floats can exceed its total
_SECONDS_BETWEEN_ESTIMATES = 0.5


class ProgressDisplay:
    """Shows the progress of the sweep and of each running run, and the remaining time.

    Args:
        times: estimates of the time of each run, which are updated here.
        label: label of the main bar, "sweep" or "search".
        unit: what the main bar counts, "run" or "trial".
    """

    def __init__(self, times: RunTimes, label: str = "sweep", unit: str = "run") -> None:
        self._times = times
        self._total = times.count
        self._unit = unit
        self._ended = 0
        self._estimate = ""
        self._estimated = 0.0  # time of the last estimate
        self._bars: dict[int, tuple[int, RunBar]] = {}
        self._bar = Bar(label, total=_BAR_TOTAL)
        self._show_counts()

    def begin(self, run: int, label: str, evaluated_on: str) -> None:
        """Add a bar for a run.

        Args:
            run: index of the run.
            label: label of the bar.
            evaluated_on: images that the run is evaluated on, "test" or "validation".
        """
        self._times.begin(run)
        taken = {position for position, _ in self._bars.values()}
        position = min(set(range(1, len(taken) + 2)) - taken)
        if position <= _MAX_BARS:
            self._bars[run] = position, RunBar(label, position, evaluated_on)
            self._compare_labels()

    def show(self, run: int, event: Event, epochs: int) -> None:
        """Update the progress of a run.

        Args:
            run: index of the run.
            event: progress within an epoch, or the metrics of a completed epoch.
            epochs: total number of epochs of the run.
        """
        if run in self._bars:
            self._bars[run][1].show(event)
        share = event.share if isinstance(event, Progress) else event.epoch / epochs
        self._times.report(run, share)
        self._advance()

    def remove(self, run: int) -> None:
        """Remove the bar of a run, which will be trained later."""
        self._times.remove(run)
        self._remove_bar(run)

    def _remove_bar(self, run: int) -> None:
        if run in self._bars:
            self._bars.pop(run)[1].close()
            self._compare_labels()

    def end(self, run: int, message: str) -> None:
        """Print one line about a run that has ended."""
        self._times.end(run)
        self._remove_bar(run)
        self._ended += 1
        self._advance(now=True)
        last = self._ended == self._total
        # on a terminal the bar shows the current estimate, and a printed one would be outdated
        time_left = "" if last or not self._bar.disable else self._estimate
        suffix = f"; {time_left}" if time_left else ""
        tqdm.write(wrapped(f"[{self._ended}/{self._total}] {message}{suffix}"))
        sys.stdout.flush()

    def close(self) -> None:
        """Remove all bars."""
        for run in list(self._bars):
            self._remove_bar(run)
        self._bar.close()

    def _compare_labels(self) -> None:
        bars = [bar for _, bar in self._bars.values()]
        for bar in bars:
            bar.differ_from([other.label for other in bars if other is not bar])

    def _advance(self, now: bool = False) -> None:
        elapsed = self._times.elapsed
        if now or elapsed - self._estimated >= _SECONDS_BETWEEN_ESTIMATES:
            self._estimated, self._estimate = elapsed, self._time_left()
        self._show_counts()
        self._bar.update(round(_BAR_TOTAL * self._times.done) - self._bar.n)

    def _show_counts(self) -> None:
        counts = f"{self._ended} of {self._total} {self._unit}{'s' * (self._total != 1)}"
        self._bar.parts = [self._estimate, counts]

    def _time_left(self) -> str:
        left = self._times.left()
        if left is None or is_too_early(self._times.elapsed, self._times.done):
            return ""
        return f"about {tqdm.format_interval(round(left))} left"
