"""TensorBoard's event files, a mirror of metrics.jsonl: nothing reads them back."""

import logging
from contextlib import suppress
from pathlib import Path

from cifar_exp.training.metrics import EpochMetrics

log = logging.getLogger("cifar_exp")

# The tag of each metric; the step is the epoch.
TAGS = {
    "train_loss": "loss/train",
    "test_loss": "loss/test",
    "train_accuracy": "accuracy/train",
    "test_accuracy": "accuracy/test",
    "lr": "lr",
    "images_per_second": "speed/images_per_second",
    "peak_memory_bytes": "memory/peak_bytes",
}


class TensorBoard:
    """Writes the metrics of a run as curves.

    Args:
        folder: of this run's event files.
        first_epoch: that will be written; what an interrupted run wrote from there on is hidden.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes two seconds

        purge_step = first_epoch if first_epoch > 1 else None
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, metrics: EpochMetrics) -> None:
        """Add one epoch to every curve."""
        for field, tag in TAGS.items():
            self._writer.add_scalar(tag, getattr(metrics, field), metrics.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        with suppress(OSError):
            self._writer.close()
