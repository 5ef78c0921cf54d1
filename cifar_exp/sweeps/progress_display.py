"""The screen of a sweep: a bar for all of it, one for each running run, and lines that stay."""

import sys
import time

from tqdm import tqdm

from cifar_exp.runs.progress_bar import Bar, RunBar, time_left
from cifar_exp.terminal import wrapped
from cifar_exp.training.progress import EpochMetrics, Progress

_SHOWN_RUNS = 16
_PARTS = 1000  # that the bar counts: a sum of floats can exceed its own total


class ProgressDisplay:
    """Shows how far the sweep and each running run are, and how long the rest will take.

    Args:
        costs: of the runs, in any unit.
        label: of the bar for all of them: "sweep" or "search".
        unit: what is counted: "run" or "trial".
    """

    def __init__(self, costs: list[float], label: str = "sweep", unit: str = "run") -> None:
        self._costs = costs
        self._unit = unit
        self._shares = [0.0] * len(costs)  # of each run that is done
        self._first_shares: dict[int, float] = {}
        self._ended = 0
        self._started = time.monotonic()
        self._bars: dict[int, tuple[int, RunBar]] = {}
        self._bar = Bar(label, total=_PARTS)
        self._show_counts()

    def begin(self, run: int, label: str, evaluated_on: str) -> None:
        """Show one more run, and which images it is evaluated on."""
        taken = {position for position, _ in self._bars.values()}
        position = min(set(range(1, len(taken) + 2)) - taken)
        if position <= _SHOWN_RUNS:
            self._bars[run] = position, RunBar(label, position, evaluated_on)
            self._compare_labels()

    def show(self, run: int, event: Progress | EpochMetrics, epochs: int) -> None:
        """Show how far a run is."""
        if run in self._bars:
            self._bars[run][1].show(event)
        if isinstance(event, Progress):
            self._advance(run, event.steps / event.total_steps)
        else:
            self._advance(run, event.epoch / epochs)

    def leave(self, run: int) -> None:
        """Take a run from the screen."""
        if run in self._bars:
            self._bars.pop(run)[1].close()
            self._compare_labels()

    def end(self, run: int, message: str) -> None:
        """Write a line about a run that has ended."""
        self.leave(run)
        self._ended += 1
        self._advance(run, 1.0)
        self._show_counts()
        last = self._ended == len(self._costs)
        # a line that stays would show an old estimate below a bar with the present one
        left = "" if last or not self._bar.disable else self._time_left()
        rest = f"; {left}" if left else ""
        tqdm.write(wrapped(f"[{self._ended}/{len(self._costs)}] {message}{rest}"))
        sys.stdout.flush()

    def close(self) -> None:
        """Take everything from the screen."""
        for run in list(self._bars):
            self.leave(run)
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
        self._bar.update(round(_PARTS * done) - self._bar.n)

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
        # what a resumed run had behind it took no time now
        had = sum(
            self._costs[run] * share for run, share in self._first_shares.items() if share < 1
        )
        done = sum(cost * share for cost, share in self._pairs) - had
        left = sum(cost * (1 - share) for cost, share in self._pairs)
        return time_left(time.monotonic() - self._started, done, left)
