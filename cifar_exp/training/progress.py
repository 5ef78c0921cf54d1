"""What a run tells while it trains. Nothing here needs PyTorch, so that others can listen."""

import math
from dataclasses import asdict, dataclass
from typing import Any

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
        train_loss: cross-entropy, mean over the images as they were trained on.
        train_accuracy: fraction in [0, 1], likewise.
        test_loss: mean over the whole test set after the epoch, or with `data.val_fraction` over
            the validation images; NaN if the run diverged.
        test_accuracy: fraction in [0, 1]; NaN if the run diverged.
        lr: learning rate of the epoch's last step.
        train_seconds: wall time of training in the epoch.
        test_seconds: wall time of testing after it.
        images_per_second: training images over train_seconds.
        peak_memory_bytes: since the run started: of the GPU's tensors, or of the whole process.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    lr: float
    train_seconds: float
    test_seconds: float
    images_per_second: float
    peak_memory_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields; what is not finite becomes None, since JSON has no NaN."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }

    @staticmethod
    def from_json(row: dict[str, Any]) -> "EpochMetrics":
        """Read what `as_json` made."""
        values: dict[str, Any] = {k: math.nan if v is None else v for k, v in row.items()}
        return EpochMetrics(**values)


def has_diverged(loss: float, classes: int) -> bool:
    """Tell whether a mean loss is not finite, or has exploded far beyond that of guessing."""
    return not math.isfinite(loss) or loss > _EXPLODED * math.log(classes)
