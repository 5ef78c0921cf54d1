"""Progress bars of runs, and functions that the progress display of a sweep uses as well."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from cifar_exp.config.metrics import evaluated
from cifar_exp.terminal import USUAL_COLUMNS, printable
from cifar_exp.training.progress import EpochMetrics, Event

if TYPE_CHECKING:
    _Tqdm = tqdm[NoReturn]
else:
    _Tqdm = tqdm

_SHORTEST_BAR = 10  # characters
# No time left is shown before this, since the first steps are slow.
_SECONDS_BEFORE_ESTIMATE = 3.0
_SHARE_BEFORE_ESTIMATE = 0.05


def time_left(seconds: float, done: float, left: float) -> str:
    """Return the estimated time left, for example "about 01:20 left"; "" if it is too early.

    Args:
        seconds: elapsed time.
        done: work done in this time, in any unit.
        left: remaining work, in the same unit.
    """
    if not done or is_too_early(seconds, done / (done + left)):
        return ""
    return f"about {tqdm.format_interval(round(seconds * left / done))} left"


def is_too_early(seconds: float, share: float) -> bool:
    """Return whether an estimate after some seconds and a share of the work is too uncertain."""
    return seconds < _SECONDS_BEFORE_ESTIMATE or share < _SHARE_BEFORE_ESTIMATE


class Bar(_Tqdm):
    """A progress bar with a label and text, cut to the width of the terminal.

    It is hidden if standard error is not a terminal.

    Args:
        label: text at the start of the line.
        total: number of steps of the whole bar.
        position: line of the bar, from 0.
    """

    def __init__(self, label: str, total: int, position: int = 0) -> None:
        self.others: Sequence[str] = ()  # labels of the other bars on the screen
        self.label = label
        self.parts: list[str] = []  # text after the elapsed time, the most important first
        super().__init__(
            total=total,
            position=position,
            leave=False,
            dynamic_ncols=True,
            miniters=1,
            disable=None,
        )

    @property
    def format_dict(self) -> Any:
        """The values that tqdm formats, and the format of the line."""
        values = super().format_dict
        # room for the `^C` that the terminal writes, which would otherwise wrap the line
        columns = (values["ncols"] or USUAL_COLUMNS) - len("^C")
        elapsed = tqdm.format_interval(values["elapsed"])
        label, *_ = cut_labels([self.label, *self.others], columns // 4)
        line = line_of(label, values["n"] / values["total"], [elapsed, *self.parts], columns)
        return {**values, "ncols": columns, "bar_format": line}

    def close(self) -> None:
        """Remove the bar and a `^C` after it from the screen."""
        first = not self.disable and self.pos == 0
        super().close()
        if first:
            self.fp.write("\r\x1b[K")
            self.fp.flush()


def line_of(label: str, share: float, parts: list[str], columns: int) -> str:
    """Return the tqdm format of a line, in which `{bar}` fills the remaining columns.

    Args:
        label: text at the start.
        share: fraction done, in [0, 1].
        parts: texts after the bar; the last ones are left out if the bar would be too short.
        columns: width of the line.
    """
    head = f"{label}: {share:4.0%}|"
    room = columns - len(head) - _SHORTEST_BAR - len("| ")
    text = ""
    for part in filter(None, parts):
        longer = f"{text}, {part}" if text else part
        if len(longer) > room:
            break
        text = longer
    return f"{_literal(head)}{{bar}}| {_literal(text)}"


def cut_labels(labels: Sequence[str], longest: int) -> list[str]:
    """Shorten labels so that different labels stay different.

    Args:
        labels: words separated by spaces, for example "lr=0.1 seed=2".
        longest: maximum length in characters.
    """
    words = [label.split() for label in labels]
    shared = set(words[0]).intersection(*words[1:])
    differing = [" ".join(word for word in label if word not in shared) for label in words]
    numbered = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    for candidates in (labels, differing):
        shown = [_without_middle(label, longest) for label in candidates]
        if len({*shown}) == len({*labels}):
            return shown
    return [_without_middle(label, longest) for label in numbered]


def _without_middle(label: str, longest: int) -> str:
    """Cut the middle of a label; it starts with the trial number and ends with the seed."""
    if len(label) <= longest:
        return label
    last = longest // 2
    return f"{label[: longest - last - 1]}…{label[-last:]}"


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


class RunBar:
    """Progress bar of one run, with the time left and the metrics of the last epoch.

    Args:
        label: short name of the run.
        position: line of the bar, from 0.
        evaluated_on: the evaluated split, "test" or "validation".
    """

    def __init__(self, label: str, position: int, evaluated_on: str) -> None:
        self._evaluated_on = evaluated_on
        self._accuracy = evaluated("accuracy", evaluated_on)
        self._begun: tuple[float, float] | None = None  # seconds, share
        self._metrics: list[str] = []
        # the first event has the real total
        self._bar = Bar(printable(label), total=1, position=position)

    @property
    def label(self) -> str:
        """The label before it is shortened."""
        return self._bar.label

    def differ_from(self, others: Sequence[str]) -> None:
        """Set the labels of the other bars, from which the shortened label must differ."""
        self._bar.others = others

    def show(self, event: Event) -> None:
        """Update the position of the bar, or the metrics of the last epoch."""
        if isinstance(event, EpochMetrics):
            self._metrics = [
                f"epoch {event.epoch}",
                f"{self._evaluated_on} accuracy {event[self._accuracy]:.3f}",
                f"loss {event['train_loss']:.3f}",
            ]
            return
        now = time.monotonic()
        if self._begun is None:  # a resumed run does not start at step 0
            self._begun = now, event.share
            self._bar.total = event.total_steps
        began, first = self._begun
        left = time_left(now - began, event.share - first, 1 - event.share)
        self._bar.parts = [left, *self._metrics]
        self._bar.update(event.steps - self._bar.n)

    def close(self) -> None:
        """Remove the bar from the screen."""
        self._bar.close()
