"""What the lines of a run's metrics.jsonl come to. Nothing here needs PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import evaluated, with_current_names


@dataclass(frozen=True)
class Results:
    """What a run has come to.

    Args:
        rows: the lines of its metrics.jsonl, as this version or an earlier one wrote them.
        evaluated_on: "test" or "validation", as in the run's data.
    """

    rows: Sequence[dict[str, Any]]
    evaluated_on: str

    def column(self, name: str) -> list[float]:
        """Return a metric of the evaluated images, where it was finite. Args: name: of it."""
        key = evaluated(name, self.evaluated_on)
        values = [with_current_names(row, self.evaluated_on).get(key) for row in self.rows]
        return [value for value in values if value is not None]

    @property
    def accuracy(self) -> float | None:
        """After the last epoch, a fraction; None if there is none, or the run diverged."""
        return next(iter(Results(self.rows[-1:], self.evaluated_on).column("accuracy")), None)

    @property
    def best_accuracy(self) -> float | None:
        """The best of all epochs, a fraction; None if there is none."""
        return max(self.column("accuracy"), default=None)

    @property
    def seconds(self) -> float:
        """Time of training and evaluating."""
        trained = sum(row.get("train_seconds") or 0.0 for row in self.rows)
        return trained + sum(self.column("seconds"))

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most of all epochs; None if it is not known."""
        peaks = [row.get("peak_memory_bytes") for row in self.rows]
        return max((peak for peak in peaks if peak is not None), default=None)
