"""TensorBoard's event files, a mirror of metrics.jsonl: nothing reads them back."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from cifar_exp.training.events import EpochMetrics

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

    The writer is made when the first epoch has ended: importing it takes a second, for which
    training need not wait.

    Args:
        folder: of this run's event files; None writes nothing.
        first_epoch: that will be written; what an interrupted run wrote from there on is hidden.
    """

    def __init__(self, folder: Path | None, first_epoch: int) -> None:
        self._folder = folder
        self._first_epoch = first_epoch
        self._writer: Any = None

    def __enter__(self) -> "TensorBoard":
        """Write epochs inside a block."""
        return self

    def write(self, metrics: EpochMetrics) -> None:
        """Add one epoch to every curve."""
        if self._folder is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            purge_step = self._first_epoch if self._first_epoch > 1 else None
            self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        for field, tag in TAGS.items():
            self._writer.add_scalar(tag, getattr(metrics, field), metrics.epoch)
        self._writer.flush()

    def __exit__(self, *_: object) -> None:
        """Write what is left."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
