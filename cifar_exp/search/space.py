"""The search space: the domain of each hyperparameter."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One of several values; a value that is not a number is an override as Hydra parses it."""

    options: tuple[int | float | str, ...]

    @property
    def examples(self) -> Sequence[int | float | str]:
        """Values to validate before the search starts."""
        return self.options

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.options))}"


@dataclass(frozen=True)
class Interval:
    """A number between two bounds; an integer if both bounds and the step are integers.

    Attributes:
        low: lower bound, inclusive.
        high: upper bound, inclusive.
        log: whether values are distributed evenly on a log scale.
        step: distance between values; None for all values.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def examples(self) -> Sequence[float]:
        """Values to validate before the search starts."""
        return (self.low, self.high)

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return all(isinstance(x, int) for x in (self.low, self.high, self.step or 0))

    def __str__(self) -> str:
        words = f"{self.low} to {self.high}" + ", log scale" * self.log
        return words + (f" in steps of {self.step}" if self.step else "")


Domain = Choice | Interval
