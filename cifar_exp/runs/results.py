"""Results of a run, computed from its metrics.jsonl. Nothing here needs PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import evaluated, with_current_names
from cifar_exp.training.progress import best_epoch


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Args:
        rows: lines of metrics.jsonl, written by this version or an earlier one.
        evaluated_on: the evaluated split, "test" or "validation".
    """

    rows: Sequence[dict[str, Any]]
    evaluated_on: str

    def column(self, name: str) -> list[float]:
        """Return the finite values of a metric of the evaluated split, for example "accuracy"."""
        key = evaluated(name, self.evaluated_on)
        values = [with_current_names(row, self.evaluated_on).get(key) for row in self.rows]
        return [value for value in values if value is not None]

    @property
    def accuracy(self) -> float | None:
        """Accuracy after the last epoch, in [0, 1]; None without epochs or if the run diverged."""
        return next(iter(Results(self.rows[-1:], self.evaluated_on).column("accuracy")), None)

    @property
    def best_accuracy(self) -> float | None:
        """Best accuracy of all epochs, in [0, 1]; None without epochs."""
        return max(self.column("accuracy"), default=None)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the best accuracy, counted from 1; 0 without epochs."""
        return best_epoch(self.column("accuracy"))

    @property
    def seconds(self) -> float:
        """Total time of training and evaluation."""
        training = sum(row.get("train_seconds") or 0.0 for row in self.rows)
        return training + sum(self.column("seconds"))

    @property
    def peak_memory_bytes(self) -> int | None:
        """Peak memory of all epochs; None if it is unknown."""
        peaks = [row.get("peak_memory_bytes") for row in self.rows]
        return max((peak for peak in peaks if peak is not None), default=None)
