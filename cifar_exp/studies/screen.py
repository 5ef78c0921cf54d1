"""The screen of a sweep: a bar for all of it, one for each running run, and lines that stay."""

import sys
import time
from typing import NoReturn

from tqdm import tqdm

from cifar_exp.runs.progress import RunBar
from cifar_exp.training.events import EpochMetrics, Progress

_SHOWN_RUNS = 16


class Screen:
    """Shows how far the sweep and each running run are, and how long the rest will take.

    Args:
        costs: of the runs, in any unit.
    """

    def __init__(self, costs: list[float]) -> None:
        self._costs = costs
        self._shares = [0.0] * len(costs)  # of each run that is done
        self._first_shares: dict[int, float] = {}
        self._ended = 0
        self._started = time.monotonic()
        self._bars: dict[int, tuple[int, RunBar]] = {}
        self._bar: tqdm[NoReturn] = tqdm(
            desc="sweep",
            total=sum(costs),
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            disable=None,
            leave=False,
        )
        self._bar.set_postfix_str(f"0 of {len(costs)} runs")

    def begin(self, run: int, label: str, evaluated_on: str) -> None:
        """Show one more run, and which images it is evaluated on."""
        taken = {position for position, _ in self._bars.values()}
        position = min(set(range(1, len(taken) + 2)) - taken)
        if position <= _SHOWN_RUNS:
            self._bars[run] = position, RunBar(label, position, evaluated_on)

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

    def end(self, run: int, told: str) -> None:
        """Write a line about a run that has ended."""
        self.leave(run)
        self._ended += 1
        self._advance(run, 1.0)
        self._bar.set_postfix_str(f"{self._ended} of {len(self._costs)} runs")
        rest = f"; about {tqdm.format_interval(self._seconds_left())} left"
        last = self._ended == len(self._costs)
        tqdm.write(f"[{self._ended}/{len(self._costs)}] {told}{'' if last else rest}")
        sys.stdout.flush()

    def close(self) -> None:
        """Take everything from the screen."""
        for run in list(self._bars):
            self.leave(run)
        self._bar.close()

    def _advance(self, run: int, share: float) -> None:
        self._first_shares.setdefault(run, share)
        gain = max(0.0, share - self._shares[run])
        self._shares[run] += gain
        self._bar.update(gain * self._costs[run])

    def _seconds_left(self) -> float:
        pairs = list(zip(self._costs, self._shares, strict=True))
        # what a resumed run had behind it took no time now
        had = sum(
            self._costs[run] * share for run, share in self._first_shares.items() if share < 1
        )
        done = sum(cost * share for cost, share in pairs) - had
        left = sum(cost * (1 - share) for cost, share in pairs)
        return (time.monotonic() - self._started) * left / max(done, 1e-9)
