"""The progress bar of a run, and what it shares with that of a sweep."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from cifar_exp.config.metrics import evaluated
from cifar_exp.terminal import printable
from cifar_exp.training.progress import EpochMetrics, Progress

if TYPE_CHECKING:
    _Tqdm = tqdm[NoReturn]
else:
    _Tqdm = tqdm

_SHORTEST_BAR = 10  # characters
_USUAL_COLUMNS = 80
# Before that an estimate of the time left is off by a factor: first steps are slow ones.
_SECONDS_BEFORE_ESTIMATE = 3.0
_SHARE_BEFORE_ESTIMATE = 0.05


def time_left(seconds: float, done: float, left: float) -> str:
    """Return for example "about 01:20 left"; "" as long as the estimate would mean nothing.

    Args:
        seconds: that `done` took.
        done: work that was done in this time, in any unit.
        left: work that is left, in the same unit.
    """
    if seconds < _SECONDS_BEFORE_ESTIMATE or done < _SHARE_BEFORE_ESTIMATE * (done + left):
        return ""
    return f"about {tqdm.format_interval(seconds * left / done)} left"


class Bar(_Tqdm):
    """A line of label, bar and text that fits the terminal; the last parts of the text go first.

    Quiet where standard error is not a terminal.

    Args:
        label: at the beginning of the line.
        total: what the bar counts to.
        position: line of the bar, from 0.
    """

    def __init__(self, label: str, total: int, position: int = 0) -> None:
        self.others: Sequence[str] = ()  # labels of bars that are shown at the same time
        self.label = label
        self.parts: list[str] = []  # shown after the elapsed time, the most important first
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
        """The values that tqdm formats, with a format that leaves the bar enough columns."""
        values = super().format_dict
        # a line to the end would make the terminal write `^C` on two lines, and tear what follows
        columns = (values["ncols"] or _USUAL_COLUMNS) - len("^C")
        elapsed = tqdm.format_interval(values["elapsed"])
        label, *_ = cut_labels([self.label, *self.others], columns // 4)
        line = line_of(label, values["n"] / values["total"], [elapsed, *self.parts], columns)
        return {**values, "ncols": columns, "bar_format": line}

    def close(self) -> None:
        """Take the bar from the screen, and a `^C` behind it."""
        first = not self.disable and self.pos == 0
        super().close()
        if first:
            self.fp.write("\r\x1b[K")
            self.fp.flush()


def line_of(label: str, share: float, parts: list[str], columns: int) -> str:
    """Return the format of a line for tqdm, in which `{bar}` takes the room that is left.

    Args:
        label: at the beginning.
        share: that is done, in [0, 1].
        parts: of the text behind the bar; as many as leave the bar ten columns.
        columns: of the terminal.
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
    """Return labels that fit, no two of them the same unless they were.

    Args:
        labels: words separated by spaces, such as "lr=0.1 seed=2".
        longest: characters.
    """
    words = [label.split() for label in labels]
    shared = set(words[0]).intersection(*words[1:])
    differing = [" ".join(word for word in of_one if word not in shared) for of_one in words]
    numbered = [f"{number} {label}" for number, label in enumerate(labels, 1)]
    for candidates in (labels, differing):
        shown = [_without_middle(label, longest) for label in candidates]
        if len({*shown}) == len({*labels}):
            return shown
    return [_without_middle(label, longest) for label in numbered]


def _without_middle(label: str, longest: int) -> str:
    """Cut what is neither the trial number, which comes first, nor the seed, which comes last."""
    if len(label) <= longest:
        return label
    last = longest // 2
    return f"{label[: longest - last - 1]}…{label[-last:]}"


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


class RunBar:
    """Shows the steps of one run, the rest of its time, and the last epoch's metrics.

    Args:
        label: a word or two that tells the run from others.
        position: line of the bar, from 0.
        evaluated_on: "test" or "validation" images.
    """

    def __init__(self, label: str, position: int, evaluated_on: str) -> None:
        self._evaluated_on = evaluated_on
        self._accuracy = evaluated("accuracy", evaluated_on)
        self._begun: tuple[float, int] | None = None  # seconds, steps
        self._metrics: list[str] = []
        # settings may hold anything; the first event tells the steps
        self._bar = Bar(printable(label), total=1, position=position)

    @property
    def label(self) -> str:
        """The whole label."""
        return self._bar.label

    def differ_from(self, others: Sequence[str]) -> None:
        """Keep in the label what distinguishes it. Args: others: labels of the other bars."""
        self._bar.others = others

    def show(self, event: Progress | EpochMetrics) -> None:
        """Move the bar, or show the metrics of an epoch."""
        if isinstance(event, EpochMetrics):
            self._metrics = [
                f"epoch {event.epoch}",
                f"{self._evaluated_on} accuracy {event[self._accuracy]:.3f}",
                f"loss {event['train_loss']:.3f}",
            ]
            return
        now = time.monotonic()
        if self._begun is None:  # a resumed run has steps behind it that took no time now
            self._begun = now, event.steps
            self._bar.total = event.total_steps
        began, first = self._begun
        left = time_left(now - began, event.steps - first, event.total_steps - event.steps)
        self._bar.parts = [left, *self._metrics]
        self._bar.update(event.steps - self._bar.n)

    def close(self) -> None:
        """Take the bar from the screen."""
        self._bar.close()
