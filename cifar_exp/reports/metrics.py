"""Metrics of whole runs: one number per run and metric."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, stdev
from typing import TYPE_CHECKING, Any

from cifar_exp.config.metrics import BEST, EPOCHS_TO, FINAL, OSCILLATION, Better, Column
from cifar_exp.config.study import MetricOfRun
from cifar_exp.runs.record import Record, fewest, tested_images

if TYPE_CHECKING:  # importing SciPy takes half a second
    from cifar_exp.reports.statistics import Estimate

Row = dict[str, Any]
# Sweeps without claims are compared by this metric; see `main_metrics`.
MAIN_METRIC: MetricOfRun = "final_test_accuracy"
_LARGE = 1e15  # larger values are written as 1e+300
_MIN_CHANGES = 3  # between epochs, for an oscillation


@dataclass(frozen=True)
class Measure:
    """A metric of a run: how it is computed and formatted.

    Attributes:
        label: shown to users.
        unit: such as "nats", "%" or "steps".
        better: the better direction; None if neither is better.
        of_diverged: the value of a diverged run; None: `read` computes it.
        read: computes the value from a run and the accuracy that `epochs_to_...` requires.
        column: the column of metrics.jsonl that it is read from; "" for several.
    """

    label: str
    unit: str
    better: Better | None
    of_diverged: float | None
    read: Callable[[Record, float | None], float | None]
    column: str = ""

    def text(self, value: float) -> str:
        """Format a value with its unit."""
        if not math.isfinite(value):
            return "never" if self.unit == "epochs" else "diverged"
        unit = "MB" if self.unit == "bytes" else self.unit
        return f"{self._digits(value, value)} {unit}".rstrip()

    def difference(self, value: float) -> str:
        """Format the difference of two values with its unit."""
        if self.unit == "%" and math.isfinite(value):
            return f"{100 * value:.1f} points"
        return self.text(value)

    def with_interval(self, found: "Estimate") -> str:
        """Format a mean with its interval, such as "61.3 % (59.2 to 63.4; 3 seeds)"."""
        if found.n == 1:
            return f"{self.text(found.mean)} (1 seed)"
        low, high = found.bounds
        if self.unit == "%":
            low, high = max(0.0, low), min(1.0, high)
        interval = self.interval(low, high, found.mean)
        return f"{self.text(found.mean)} ({interval}; {found.n} seeds)"

    def interval(self, low: float, high: float, mean: float) -> str:
        """Format an interval without its unit, such as "46.8 to 52.2"."""
        return f"{self._digits(low, mean)} to {self._digits(high, mean)}"

    def _digits(self, value: float, mean: float) -> str:
        """Format a value without its unit, with as many decimals as the mean has."""
        match self.unit:
            case "%":
                value, decimals = 100 * value, 1
            case "bytes":
                value, decimals = value / 1e6, 0
            case "epochs" | "steps":
                return f"{round(value, 1) + 0.0:,g}"
            case _ if abs(value) >= _LARGE:
                return f"{value:.3g}"
            case _:  # three digits of the mean
                decimals = max(0, min(6, 2 - int(f"{mean:.2e}".partition("e")[2])))
        return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: never "-0.0"


def on_evaluated_split(metric: MetricOfRun, records: Iterable[Record]) -> MetricOfRun:
    """Replace a test metric by its validation metric if all runs are evaluated on validation.

    The claims of a study are about test images; they hold for validation images as well.

    Args:
        metric: any metric.
        records: the runs.
    """
    if {record.evaluated_on for record in records} == {"validation"}:
        return metric.replace("test_", "val_")
    return metric


def main_metric(records: Iterable[Record]) -> MetricOfRun:
    """Return the metric that runs without claims are compared by: the final accuracy."""
    return on_evaluated_split(MAIN_METRIC, records)


def main_metrics(records: Iterable[Record]) -> list[MetricOfRun]:
    """Return the final accuracy on each split that the runs are evaluated on, test first."""
    by_split = {record.evaluated_on: [record] for record in records}
    return [main_metric(by_split[split]) for split in sorted(by_split)]


def measured(record: Record, metric: MetricOfRun, reached: float | None = None) -> float | None:
    """Compute a metric of a run.

    Args:
        record: the run.
        metric: its name.
        reached: the accuracy to reach, in (0, 1], for `epochs_to_...`.

    Returns:
        The value. That of a diverged run is infinitely bad if the metric has a better direction.
        None if the run has not ended, has failed or lacks the metric.
    """
    measure = MEASURES[metric]
    if record.status == "diverged" and measure.of_diverged is not None:
        is_measured = any(measure.column in row for row in record.rows)
        return measure.of_diverged if is_measured or not record.rows else None
    if record.status not in ("complete", "diverged") or not record.rows:
        return None
    try:
        value = measure.read(record, reached)
    except KeyError:  # a file of another version
        return None
    return value if value is None or not math.isnan(value) else None


def images_behind(records: Iterable[Record], metric: MetricOfRun) -> int | None:
    """Return the number of images that an accuracy is a fraction of, the smallest of the runs.

    Args:
        records: the runs.
        metric: its name.

    Returns:
        None if the metric is not an accuracy or the number is unknown.
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
            return None
        for row in record.rows:
            value = row.get(column)
            if value is not None and value >= reached:
                return float(row["epoch"])
        return math.inf

    return read


def _oscillation(column: str) -> Callable[[Record, float | None], float | None]:
    """Standard deviation of the change per epoch in the second half, where the trend is flat."""

    def read(record: Record, _: float | None) -> float | None:
        late = _numbers(record.rows[len(record.rows) // 2 :], column)
        changes = [after - before for before, after in pairwise(late)]
        return stdev(changes) if len(changes) >= _MIN_CHANGES else None

    return read


def _steps_per_epoch(record: Record, _: float | None) -> float:
    first = record.rows[0]
    images = round(first["images_per_second"] * first["train_seconds"])
    return float(math.ceil(images / record.config.data.batch_size))


def _images_per_second(record: Record, _: float | None) -> float:
    return float(median(row["images_per_second"] for row in record.rows))


def _seconds(record: Record, _: float | None) -> float | None:
    if record.status == "diverged":
        return None  # it ended early
    return record.results.seconds


def _peak_memory(record: Record, _: float | None) -> float | None:
    return _number(record.results.peak_memory_bytes)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row.get(column) is not None]


def _of(column: Column, label: str, read: Any) -> Measure:
    unit, better = column.metric.unit, column.metric.better
    of_diverged = {"higher": -math.inf, "lower": math.inf, None: None}[better]
    return Measure(label, unit, better, of_diverged, read(column.key), column.key)


def _epochs_measure(column: Column) -> Measure:
    label = f"epochs to a {column.label}"  # verdicts append " of 0.8"
    return Measure(label, "epochs", "lower", math.inf, _epochs_to(column.key), column.key)


def _oscillation_measure(column: Column) -> Measure:
    label = f"late oscillation of the {column.label}"
    read = _oscillation(column.key)
    return Measure(label, column.metric.unit, "lower", math.inf, read, column.key)


MEASURES: dict[MetricOfRun, Measure] = {
    **{name: _of(column, f"final {column.label}", _final) for name, column in FINAL.items()},
    **{name: _of(c, f"best {c.label}", _best) for name, c in BEST.items()},
    **{name: _epochs_measure(column) for name, column in EPOCHS_TO.items()},
    **{name: _oscillation_measure(column) for name, column in OSCILLATION.items()},
    "steps_per_epoch": Measure("steps per epoch", "steps", None, None, _steps_per_epoch),
    "images_per_second": Measure(
        "training images per second", "images/s", "higher", None, _images_per_second
    ),
    "seconds": Measure("training and evaluation time", "s", "lower", None, _seconds),
    "peak_memory_bytes": Measure("peak memory", "bytes", "lower", None, _peak_memory),
}


def optional_metrics(records: Iterable[Record]) -> list[MetricOfRun]:
    """Return the final metrics that the setting `metrics` has enabled in any of the runs."""
    present = {key for record in records for row in record.rows[-1:] for key in row}
    return [name for name, c in FINAL.items() if c.metric.optional and c.key in present]
