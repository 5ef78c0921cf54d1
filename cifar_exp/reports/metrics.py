"""What is read off a run: one number each, by name."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev
from typing import Any

from cifar_exp.config.metrics import BEST, EPOCHS_TO, FINAL, OSCILLATION, Better, Column
from cifar_exp.config.study import MetricOfRun
from cifar_exp.runs.record import Record, fewest, tested_images

Row = dict[str, Any]
# What sweeps without claims are judged by; see `main_metrics`.
MAIN_METRIC: MetricOfRun = "final_test_accuracy"
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
    better: Better | None
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


def of_evaluated(metric: MetricOfRun, records: Iterable[Record]) -> MetricOfRun:
    """Return the metric of the validation images, where no run is evaluated on test images.

    So the claims of a study hold as well where images are held out.

    Args:
        metric: of test images, or any other.
        records: the runs.
    """
    if {record.evaluated_on for record in records} == {"validation"}:
        return metric.replace("test_", "val_")
    return metric


def main_metric(records: Iterable[Record]) -> MetricOfRun:
    """Return what runs without claims are judged by: the accuracy after the last epoch."""
    return of_evaluated(MAIN_METRIC, records)


def main_metrics(records: Iterable[Record]) -> list[MetricOfRun]:
    """Return the same for each kind of images that the runs are evaluated on, test first."""
    by_split = {record.evaluated_on: [record] for record in records}
    return [main_metric(by_split[split]) for split in sorted(by_split)]


def measured(record: Record, metric: MetricOfRun, reached: float | None = None) -> float | None:
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


def images_behind(records: Iterable[Record], metric: MetricOfRun) -> int | None:
    """Return of how many images a metric is a share, the fewest of the runs; None if of none.

    Args:
        records: the runs.
        metric: which.
    """
    column = FINAL.get(metric) or BEST.get(metric)
    if column is None or column.metric.unit != "%":
        return None
    if column.split == "train":
        return fewest(_trained_images(record) for record in records if record.rows)
    return fewest(map(tested_images, records))


def _trained_images(record: Record) -> int:
    first = record.rows[0]
    seconds, speed = first.get("train_seconds", 0.0), first.get("images_per_second", 0.0)
    return round(float(speed) * float(seconds))


def _final(column: str) -> Callable[[Record, float | None], float | None]:
    return lambda record, _: _number(record.rows[-1].get(column))


def _best(column: str) -> Callable[[Record, float | None], float | None]:
    return lambda record, _: max(_numbers(record.rows, column), default=None)


def _epochs_to(column: str) -> Callable[[Record, float | None], float | None]:
    def read(record: Record, reached: float | None) -> float | None:
        assert reached is not None
        if not any(column in row for row in record.rows):
            return None  # it was not measured
        for row in record.rows:
            value = row.get(column)
            if value is not None and value >= reached:
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
    return record.results.seconds


def _peak_memory(record: Record, _: float | None) -> float | None:
    return _number(record.results.peak_memory_bytes)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row.get(column) is not None]


def _of_diverged(better: Better | None) -> float | None:
    return None if better is None else (-math.inf if better == "higher" else math.inf)


def _of(column: Column, label: str, read: Any) -> Measure:
    metric = column.metric
    return Measure(label, metric.unit, metric.better, _of_diverged(metric.better), read(column.key))


def _time_to(column: Column) -> Measure:
    # "a training accuracy", with a number after it
    label = f"epochs to a {column.label}"
    return Measure(label, "epochs", "lower", math.inf, _epochs_to(column.key))


def _unsteadiness(column: Column) -> Measure:
    label = f"late oscillation of the {column.label}"
    return Measure(label, column.metric.unit, "lower", math.inf, _oscillation(column.key))


MEASURES: dict[MetricOfRun, Measure] = {
    **{name: _of(column, f"{column.label} at the end", _final) for name, column in FINAL.items()},
    **{name: _of(c, f"best {c.label} of all epochs", _best) for name, c in BEST.items()},
    **{name: _time_to(column) for name, column in EPOCHS_TO.items()},
    **{name: _unsteadiness(column) for name, column in OSCILLATION.items()},
    "steps_per_epoch": Measure("steps an epoch", "", None, None, _steps_per_epoch),
    "images_per_second": Measure(
        "training images a second", "images/s", "higher", None, _images_per_second
    ),
    "seconds": Measure("time of training and testing", "s", "lower", None, _seconds),
    "peak_memory_bytes": Measure("peak memory", "bytes", "lower", None, _peak_memory),
}


def optional_metrics(records: Iterable[Record]) -> list[MetricOfRun]:
    """Return those, after the last epoch, that runs have only where their settings ask for them."""
    there = {key for record in records for row in record.rows[-1:] for key in row}
    return [name for name, c in FINAL.items() if c.metric.optional and c.key in there]
