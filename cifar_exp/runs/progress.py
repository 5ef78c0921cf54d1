"""The progress bar of a run."""

from typing import NoReturn

from tqdm import tqdm

from cifar_exp.terminal import printable
from cifar_exp.training.events import EpochMetrics, Progress


class RunBar:
    """Shows the steps of one run, the rest of its time, and the last epoch's metrics.

    Quiet where standard error is not a terminal.

    Args:
        label: a word or two that tells the run from others.
        position: line of the bar, from 0.
        evaluated_on: "test" or "validation" images.
    """

    def __init__(self, label: str, position: int, evaluated_on: str) -> None:
        self._evaluated_on = evaluated_on
        self._begun = False
        self._bar: tqdm[NoReturn] = tqdm(
            desc=printable(label),  # settings may hold anything
            total=1,  # until the first event says how many steps there are
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            position=position,
            leave=False,
            dynamic_ncols=True,
            disable=None,
        )

    def show(self, event: Progress | EpochMetrics) -> None:
        """Move the bar, or show the metrics of an epoch."""
        if isinstance(event, Progress):
            if not self._begun:  # a resumed run has steps behind it that took no time now
                self._begun = True
                self._bar.total = event.total_steps
                self._bar.initial = self._bar.n = event.steps
            self._bar.update(event.steps - self._bar.n)
        else:
            self._bar.set_postfix_str(
                f"epoch {event.epoch}: loss {event.train_loss:.3f}, "
                f"{self._evaluated_on} accuracy {event.test_accuracy:.3f}"
            )

    def close(self) -> None:
        """Take the bar from the screen."""
        self._bar.close()
