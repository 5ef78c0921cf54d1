"""What is read off a run: one number each, by name."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev
from typing import Any, Literal

from cifar_exp.config.study import Metric
from cifar_exp.runs.record import Record, fewest, tested_images

Row = dict[str, Any]
MAIN_METRIC: Metric = "final_test_accuracy"  # what sweeps without claims are judged by
# Fewer changes from epoch to epoch say nothing about how much a curve oscillates.
_LEAST_CHANGES = 3


@dataclass(frozen=True)
class Measure:
    """How a number is read off a run, and how it is shown.

    Attributes:
        label: what it is, for people.
        unit: "nats", "%" and so on; "" for a count.
        better: which direction is good; None where neither is.
        of_diverged: what a run that diverged counts as; None: such a run has no value.
    """

    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    of_diverged: float | None
    read: Callable[[Record, float | None], float | None]

    def text(self, value: float) -> str:
        """Return a value as it is shown, with its unit."""
        if not math.isfinite(value):
            return "never" if self.unit == "epochs" else "diverged"
        match self.unit:
            case "%":
                return f"{100 * value:.1f} %"
            case "bytes":
                return f"{value / 1e6:,.0f} MB"
            case "" | "epochs":  # counts, and means of counts
                return f"{round(value, 1):,g} {self.unit}".rstrip()
        digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
        return f"{digits} {self.unit}".rstrip()

    def difference(self, value: float) -> str:
        """Return the difference of two values as it is shown, with its unit."""
        if self.unit == "%" and math.isfinite(value):
            return f"{100 * value:.1f} points"
        return self.text(value)


def measured(record: Record, metric: Metric, reached: float | None = None) -> float | None:
    """Read a metric off a run.

    Args:
        record: the run.
        metric: which.
        reached: the accuracy for `epochs_to_...`, a fraction.

    Returns:
        The value; what the metric makes of a diverged run (infinitely bad, where better and worse
        have a meaning); None for a run that has not ended, failed, or has no such value.
    """
    measure = MEASURES[metric]
    if record.status == "diverged" and measure.of_diverged is not None:
        return measure.of_diverged
    if record.status not in ("complete", "diverged") or not record.rows:
        return None
    try:
        value = measure.read(record, reached)
    except KeyError:  # in files that another version wrote
        return None
    return value if value is None or not math.isnan(value) else None


def images_behind(records: Iterable[Record], metric: Metric) -> int | None:
    """Return of how many images a metric is a share, the fewest of the runs; None if of none.

    Args:
        records: the runs.
        metric: which.
    """
    match metric:
        case "final_test_accuracy" | "best_test_accuracy":
            return fewest(map(tested_images, records))
        case "final_train_accuracy":
            return fewest(_trained_images(record) for record in records if record.rows)
    return None


def _trained_images(record: Record) -> int:
    first = record.rows[0]
    seconds, speed = first.get("train_seconds", 0.0), first.get("images_per_second", 0.0)
    return round(float(speed) * float(seconds))


def _final(column: str) -> Callable[[Record, float | None], float | None]:
    return lambda record, _: _number(record.rows[-1][column])


def _best_test_accuracy(record: Record, _: float | None) -> float | None:
    return max(_numbers(record.rows, "test_accuracy"), default=None)


def _epochs_to(column: str) -> Callable[[Record, float | None], float]:
    def read(record: Record, reached: float | None) -> float:
        assert reached is not None
        for row in record.rows:
            if row[column] is not None and row[column] >= reached:
                return float(row["epoch"])
        return math.inf  # never, as far as it was trained

    return read


def _oscillation(column: str) -> Callable[[Record, float | None], float | None]:
    """Deviation of the changes from epoch to epoch in the second half, where the trend is flat."""

    def read(record: Record, _: float | None) -> float | None:
        late = _numbers(record.rows[len(record.rows) // 2 :], column)
        changes = [after - before for before, after in pairwise(late)]
        return stdev(changes) if len(changes) >= _LEAST_CHANGES else None

    return read


def _steps_per_epoch(record: Record, _: float | None) -> float:
    first = record.rows[0]
    images = round(first["images_per_second"] * first["train_seconds"])
    return float(math.ceil(images / record.config.data.batch_size))


def _images_per_second(record: Record, _: float | None) -> float:
    return float(median(row["images_per_second"] for row in record.rows))


def _seconds(record: Record, _: float | None) -> float | None:
    if record.status == "diverged":
        return None  # it ended early, which is no speed
    return float(record.state["seconds"])


def _peak_memory(record: Record, _: float | None) -> float:
    return float(record.state["peak_memory_bytes"])


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


_INF = math.inf
MEASURES: dict[Metric, Measure] = {
    "final_train_loss": Measure(
        "training loss at the end", "nats", "lower", _INF, _final("train_loss")
    ),
    "final_train_accuracy": Measure(
        "training accuracy at the end", "%", "higher", -_INF, _final("train_accuracy")
    ),
    "final_test_loss": Measure("test loss at the end", "nats", "lower", _INF, _final("test_loss")),
    "final_test_accuracy": Measure(
        "test accuracy at the end", "%", "higher", -_INF, _final("test_accuracy")
    ),
    "best_test_accuracy": Measure(
        "best test accuracy of all epochs", "%", "higher", -_INF, _best_test_accuracy
    ),
    "epochs_to_train_accuracy": Measure(
        "epochs to a training accuracy", "epochs", "lower", _INF, _epochs_to("train_accuracy")
    ),
    "epochs_to_test_accuracy": Measure(
        "epochs to a test accuracy", "epochs", "lower", _INF, _epochs_to("test_accuracy")
    ),
    "train_loss_oscillation": Measure(
        "late oscillation of the training loss", "nats", "lower", _INF, _oscillation("train_loss")
    ),
    "test_accuracy_oscillation": Measure(
        "late oscillation of the test accuracy", "%", "lower", _INF, _oscillation("test_accuracy")
    ),
    "steps_per_epoch": Measure("steps an epoch", "", None, None, _steps_per_epoch),
    "images_per_second": Measure(
        "training images a second", "images/s", "higher", None, _images_per_second
    ),
    "seconds": Measure("time of training and testing", "s", "lower", None, _seconds),
    "peak_memory_bytes": Measure("peak memory", "bytes", "lower", None, _peak_memory),
}
