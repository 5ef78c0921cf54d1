"""The progress display of a sweep: one bar for the sweep and one for each running run."""

import sys
import time

from tqdm import tqdm

from cifar_exp.runs.progress_bar import Bar, RunBar, time_left
from cifar_exp.terminal import wrapped
from cifar_exp.training.progress import EpochMetrics, Progress

_MAX_BARS = 16
_BAR_TOTAL = 1000  # an integer, because a sum of floats can exceed its total


class ProgressDisplay:
    """Shows the progress of the sweep and of each running run, and the remaining time.

    Args:
        costs: expected relative duration of each run.
        label: label of the main bar, "sweep" or "search".
        unit: what the main bar counts, "run" or "trial".
    """

    def __init__(self, costs: list[float], label: str = "sweep", unit: str = "run") -> None:
        self._costs = costs
        self._unit = unit
        self._shares = [0.0] * len(costs)  # completed fraction of each run
        self._first_shares: dict[int, float] = {}
        self._ended = 0
        self._started = time.monotonic()
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
        taken = {position for position, _ in self._bars.values()}
        position = min(set(range(1, len(taken) + 2)) - taken)
        if position <= _MAX_BARS:
            self._bars[run] = position, RunBar(label, position, evaluated_on)
            self._compare_labels()

    def show(self, run: int, event: Progress | EpochMetrics, epochs: int) -> None:
        """Update the progress of a run.

        Args:
            run: index of the run.
            event: progress within an epoch, or the metrics of a completed epoch.
            epochs: total number of epochs of the run.
        """
        if run in self._bars:
            self._bars[run][1].show(event)
        if isinstance(event, Progress):
            self._advance(run, event.steps / event.total_steps)
        else:
            self._advance(run, event.epoch / epochs)

    def remove(self, run: int) -> None:
        """Remove the bar of a run."""
        if run in self._bars:
            self._bars.pop(run)[1].close()
            self._compare_labels()

    def end(self, run: int, message: str) -> None:
        """Print one line about a run that has ended."""
        self.remove(run)
        self._ended += 1
        self._advance(run, 1.0)
        self._show_counts()
        last = self._ended == len(self._costs)
        # on a terminal the bar shows the current estimate, and a printed one would be outdated
        time_left = "" if last or not self._bar.disable else self._time_left()
        suffix = f"; {time_left}" if time_left else ""
        tqdm.write(wrapped(f"[{self._ended}/{len(self._costs)}] {message}{suffix}"))
        sys.stdout.flush()

    def close(self) -> None:
        """Remove all bars."""
        for run in list(self._bars):
            self.remove(run)
        self._bar.close()

    def _compare_labels(self) -> None:
        bars = [bar for _, bar in self._bars.values()]
        for bar in bars:
            bar.differ_from([other.label for other in bars if other is not bar])

    def _advance(self, run: int, share: float) -> None:
        self._first_shares.setdefault(run, share)
        self._shares[run] = max(share, self._shares[run])
        done = sum(cost * share for cost, share in self._pairs) / sum(self._costs)
        self._show_counts()
        self._bar.update(round(_BAR_TOTAL * done) - self._bar.n)

    def _show_counts(self) -> None:
        total = len(self._costs)
        self._bar.parts = [
            self._time_left(),
            f"{self._ended} of {total} {self._unit}{'s' * (total != 1)}",
        ]

    @property
    def _pairs(self) -> list[tuple[float, float]]:
        return list(zip(self._costs, self._shares, strict=True))

    def _time_left(self) -> str:
        # epochs from before a run was resumed took no time now
        before = sum(
            self._costs[run] * share for run, share in self._first_shares.items() if share < 1
        )
        done = sum(cost * share for cost, share in self._pairs) - before
        left = sum(cost * (1 - share) for cost, share in self._pairs)
        return time_left(time.monotonic() - self._started, done, left)
