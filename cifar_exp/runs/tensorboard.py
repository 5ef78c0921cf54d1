"""TensorBoard's event files, a mirror of metrics.jsonl: nothing reads them back."""

import os
import re
import time
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
_PREFIX = "events.out.tfevents"


class TensorBoard:
    """Writes the metrics of a run as curves.

    PyTorch's SummaryWriter hands events to a thread, which on a full disk prints a traceback and
    tells of it one epoch late; here an epoch is written when `write` returns.

    Args:
        folder: of this run's event files; None writes nothing.
        first_epoch: that will be written; what an interrupted run wrote from there on is hidden.
    """

    def __init__(self, folder: Path | None, first_epoch: int) -> None:
        self._folder = folder
        self._first_epoch = first_epoch
        self._records: Any = None

    def __enter__(self) -> "TensorBoard":
        """Write epochs inside a block."""
        return self

    def write(self, metrics: EpochMetrics) -> None:
        """Add one epoch to every curve.

        Raises:
            OSError: it cannot be written.
        """
        if self._folder is None:
            return
        # imported when the first epoch has ended: training need not wait for it
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._records is None:
            self._begin(self._folder)
        values = [
            Summary.Value(tag=tag, simple_value=getattr(metrics, field))
            for field, tag in TAGS.items()
        ]
        self._add(step=metrics.epoch, summary=Summary(value=values))

    def _begin(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter((folder / _next_name(folder)).open("wb"))
        self._add(file_version="brain.Event:2")
        if self._first_epoch > 1:
            self._add(step=self._first_epoch, session_log=SessionLog(status=SessionLog.START))

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._records.flush()

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._records is not None:
            with suppress(OSError):  # what it could not write it has told
                self._records.close()


def _next_name(folder: Path) -> str:
    """Return a name that sorts after those of earlier files, as TensorBoard reads them.

    They carry the time in seconds, and clocks are set back at times.
    """
    found = [re.match(rf"{_PREFIX}\.(\d+)", name) for name in os.listdir(folder)]
    latest = max((int(match[1]) for match in found if match), default=0)
    return f"{_PREFIX}.{max(int(time.time()), latest + 1):010d}.{os.getpid()}"
