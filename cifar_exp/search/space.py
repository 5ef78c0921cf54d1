"""The space of a search: which settings it chooses, and from what."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One of several values; what is no number stands as Hydra reads it."""

    options: tuple[int | float | str, ...]

    @property
    def examples(self) -> Sequence[int | float | str]:
        """Values that cover what can go wrong."""
        return self.options

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.options))}"


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, both included; whole numbers if both are.

    `log` spreads the orders of magnitude evenly; `step` leaves out what lies between.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def examples(self) -> Sequence[float]:
        """Values that cover what can go wrong."""
        return (self.low, self.high)

    @property
    def is_whole(self) -> bool:
        """Whether it is of whole numbers."""
        return all(isinstance(x, int) for x in (self.low, self.high, self.step or 0))

    def __str__(self) -> str:
        words = f"{self.low} to {self.high}" + ", log scale" * self.log
        return words + (f" in steps of {self.step}" if self.step else "")


Domain = Choice | Interval
