"""The progress bar of a run and the log that goes with it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from cifar_exp.training.loop import Progress
from cifar_exp.training.metrics import EpochMetrics

log = logging.getLogger("cifar_exp")


class RunBar:
    """Shows the steps of one run, the rest of its time, and the last epoch's metrics.

    Quiet where standard error is not a terminal.

    Args:
        label: a word or two that tells the run from others.
        steps: done before, by a run that is resumed.
        total_steps: of the whole run.
        position: line of the bar, from 0.
    """

    def __init__(self, label: str, steps: int, total_steps: int, position: int) -> None:
        self._bar: tqdm[NoReturn] = tqdm(
            desc=label,
            total=total_steps,
            initial=steps,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            position=position,
            leave=False,
            dynamic_ncols=True,
            disable=None,
        )

    def show(self, event: Progress | EpochMetrics) -> None:
        """Move the bar, or show the metrics of an epoch."""
        if isinstance(event, Progress):
            self._bar.update(event.steps - self._bar.n)
        else:
            self._bar.set_postfix_str(
                f"epoch {event.epoch}: loss {event.train_loss:.3f}, "
                f"test accuracy {event.test_accuracy:.3f}"
            )

    def close(self) -> None:
        """Take the bar from the screen."""
        self._bar.close()


class _AboveBars(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"{record.levelname.lower()}: {record.getMessage()}")


def show_warnings() -> None:
    """Let warnings of this package appear above the progress bars."""
    handler = _AboveBars(logging.WARNING)
    handler.addFilter(lambda record: record.levelno < logging.ERROR)  # errors have their own line
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write what the package logs to a file as well, while the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
