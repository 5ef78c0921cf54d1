"""Progress and metrics that a run reports while it trains. This module does not use PyTorch."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import with_current_names

# A mean loss above this multiple of ln(classes), the loss of uniform guessing, has exploded.
_EXPLODED = 1000


@dataclass(frozen=True)
class Progress:
    """Training progress of a run.

    Attributes:
        steps: number of completed steps of the run.
        total_steps: number of steps of the whole run.
        share: fraction of the run's time that has passed, in [0, 1], which includes evaluation.
    """

    steps: int
    total_steps: int
    share: float


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of an epoch, one line of metrics.jsonl.

    Attributes:
        epoch: epoch, counted from 1.
        values: values by the columns of config/metrics.py. Losses are means over images in nats.
            Validation and test metrics are NaN if the run diverged. `lr` is the learning rate of
            the last step. `peak_memory_bytes` is the peak since the run started, of its GPU
            tensors or of the process.
    """

    epoch: int
    values: Mapping[str, float]

    def __getitem__(self, column: str) -> float:
        """Return a value, or NaN if it was not measured."""
        return self.values.get(column, math.nan)

    def as_json(self) -> dict[str, Any]:
        """Return the line as JSON values; non-finite values become None."""
        values = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self.values.items()
        }
        return {"epoch": self.epoch, **values}

    @staticmethod
    def from_json(row: Mapping[str, Any], evaluated_on: str) -> "EpochMetrics":
        """Read a line written by `as_json` of this or an earlier version.

        Args:
            row: line of metrics.jsonl.
            evaluated_on: split on which the run is evaluated.
        """
        named = with_current_names(row, evaluated_on)
        epoch = named.pop("epoch")
        values = {key: math.nan if value is None else value for key, value in named.items()}
        return EpochMetrics(epoch, values)


Event = Progress | EpochMetrics
Events = Generator[Event, None, bool]  # returns whether a run was trained; False if it had ended


def best_epoch(accuracies: Sequence[float]) -> int:
    """Return the first epoch with the highest accuracy, counted from 1; 0 without epochs."""
    return accuracies.index(max(accuracies)) + 1 if accuracies else 0


def has_diverged(loss: float, classes: int) -> bool:
    """Return whether a mean loss is non-finite, or far above that of uniform guessing."""
    return not math.isfinite(loss) or loss > _EXPLODED * math.log(classes)
