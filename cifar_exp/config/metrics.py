"""The table of metrics: names, labels, units and curves.

A new metric needs an entry here and, if it is summed over images, its computation in
training/metrics.py. The loop, metrics.jsonl, loggers, claims, tables and reports use the table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]
# The splits with their names in labels.
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Metric:
    """A metric that is measured in each epoch.

    Attributes:
        name: of the column in metrics.jsonl; with several splits the split is its prefix.
        label: for tables and reports.
        unit: "nats", "s", "%" for a fraction in [0, 1], ...; "" for none.
        better: the direction of improvement; None if neither is better.
        tag: of the curve in loggers; with several splits the split is its suffix; "" for no curve.
        splits: on which it is measured, from SPLITS; () if it does not depend on images.
        optional: whether it is measured only if listed in the setting `metrics`.
    """

    name: str
    label: str
    unit: str = ""
    better: Better | None = None
    tag: str = ""
    splits: tuple[str, ...] = ()
    optional: bool = False

    def key(self, split: str) -> str:
        """Return the name of the column of a split. Args: split: from SPLITS; "" for none."""
        return f"{split}_{self.name}" if len(self.splits) > 1 else self.name

    def columns(self) -> Iterator["Column"]:
        """Yield a column for each split."""
        for split in self.splits or ("",):
            several = len(self.splits) > 1
            label = f"{SPLITS[split]} {self.label}" if several else self.label
            tag = f"{self.tag}/{split}" if several and self.tag else self.tag
            yield Column(self.key(split), label, tag, split, self)


@dataclass(frozen=True)
class Column:
    """A metric on one split: a column of metrics.jsonl.

    Attributes:
        key: name of the column, such as test_accuracy.
        label: for tables and reports.
        tag: of the curve in loggers; "" for no curve.
        split: from SPLITS; "" for none.
        metric: the metric.
    """

    key: str
    label: str
    tag: str
    split: str
    metric: Metric


_ALL = tuple(SPLITS)
METRICS = {
    metric.name: metric
    for metric in (
        Metric("loss", "loss", "nats", "lower", "loss", _ALL),
        Metric("accuracy", "accuracy", "%", "higher", "accuracy", _ALL),
        Metric("top5_accuracy", "top-5 accuracy", "%", "higher", "top5_accuracy", _ALL, True),
        Metric("grad_norm", "gradient norm", tag="grad_norm", splits=("train",), optional=True),
        Metric("lr", "learning rate", tag="lr"),
        Metric("seconds", "time", "s", "lower", splits=_ALL),
        Metric("images_per_second", "speed", "images/s", "higher", "speed/images_per_second"),
        Metric("peak_memory_bytes", "peak memory", "bytes", "lower", "memory/peak_bytes"),
    )
}
COLUMNS = {column.key: column for metric in METRICS.values() for column in metric.columns()}
OPTIONAL = [name for name, metric in METRICS.items() if metric.optional]
# The metrics of a run, for claims; reports/metrics.py computes them.
CURVES = {key: c for key, c in COLUMNS.items() if c.metric.splits and c.tag}
FINAL = {f"final_{key}": column for key, column in CURVES.items()}
BEST = {
    f"best_{key}": column
    for key, column in CURVES.items()
    if column.split != "train" and column.metric.better == "higher"
}
EPOCHS_TO = {f"epochs_to_{key}": c for key, c in CURVES.items() if c.metric.unit == "%"}
OSCILLATION = {f"{key}_oscillation": column for key, column in CURVES.items()}
RUN_METRICS = (
    *(*FINAL, *BEST, *EPOCHS_TO, *OSCILLATION),
    *("steps_per_epoch", "images_per_second", "seconds", "peak_memory_bytes"),
)


def evaluated_split(evaluated_on: str) -> str:
    """Return the split for `evaluated_on` of a run's data: "val" or "test"."""
    return "val" if evaluated_on == "validation" else "test"


def evaluated(name: str, evaluated_on: str) -> str:
    """Return the column of a metric on the evaluated split.

    Args:
        name: of the metric.
        evaluated_on: "test" or "validation", from the run's data.
    """
    return METRICS[name].key(evaluated_split(evaluated_on))


def with_current_names(row: Mapping[str, Any], evaluated_on: str) -> dict[str, Any]:
    """Return a row of metrics.jsonl with the current column names.

    Older versions used the prefix `test_` for validation images.

    Args:
        row: of metrics.jsonl.
        evaluated_on: "test" or "validation", from the run's data.
    """
    if evaluated_on == "test" or any(key.startswith("val_") for key in row):
        return dict(row)
    return {
        f"val_{key.removeprefix('test_')}" if key.startswith("test_") else key: value
        for key, value in row.items()
    }


def with_defaults(row: Mapping[str, Any], evaluated_on: str) -> dict[str, Any]:
    """Return a row of metrics.jsonl with None for missing losses and accuracies.

    Args:
        row: of metrics.jsonl.
        evaluated_on: "test" or "validation", from the run's data.
    """
    keys = [
        METRICS[name].key(split)
        for split in ("train", evaluated_split(evaluated_on))
        for name in ("loss", "accuracy")
    ]
    return dict.fromkeys(keys) | with_current_names(row, evaluated_on)
