"""What a run tells while it trains. Nothing here needs PyTorch, so that others can listen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import with_current_names

# An epoch whose mean loss is this many times that of guessing, ln(classes), counts as exploded.
_EXPLODED = 1000


@dataclass(frozen=True)
class Progress:
    """How far a run is: `steps` of its `total_steps` are done, the last one in `epoch`."""

    epoch: int
    steps: int
    total_steps: int


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl.

    Attributes:
        epoch: counted from 1.
        values: by the columns of config/metrics.py. Losses are means over images; those of the
            evaluated images are NaN if the run diverged. Speed is training images over
            train_seconds, the learning rate that of the epoch's last step, and the peak of memory
            since the run started: of the GPU's tensors, or of the whole process.
    """

    epoch: int
    values: Mapping[str, float]

    def __getitem__(self, column: str) -> float:
        """Return a value; NaN for one that was not measured."""
        return self.values.get(column, math.nan)

    def as_json(self) -> dict[str, Any]:
        """Return the line; what is not finite becomes None, since JSON has no NaN."""
        values = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self.values.items()
        }
        return {"epoch": self.epoch, **values}

    @staticmethod
    def from_json(row: Mapping[str, Any], evaluated_on: str) -> "EpochMetrics":
        """Read what `as_json` made, by this version or an earlier one.

        Args:
            row: the line.
            evaluated_on: as in the run's data.
        """
        named = with_current_names(row, evaluated_on)
        epoch = named.pop("epoch")
        values = {key: math.nan if value is None else value for key, value in named.items()}
        return EpochMetrics(epoch, values)


def has_diverged(loss: float, classes: int) -> bool:
    """Tell whether a mean loss is not finite, or has exploded far beyond that of guessing."""
    return not math.isfinite(loss) or loss > _EXPLODED * math.log(classes)
