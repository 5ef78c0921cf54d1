"""The metrics of an epoch: a column of metrics.jsonl each, and how it is shown everywhere.

To add one takes an entry here and, where it is summed over images, how in training/metrics.py:
the loop, metrics.jsonl, TensorBoard, claims, tables and reports follow. Needs no PyTorch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]
# The images that a metric is measured on, with what people call them.
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Metric:
    """What is measured in every epoch.

    Attributes:
        name: of its column in metrics.jsonl, after the split where there are several.
        label: what it is, for people.
        unit: "nats", "%" (of a fraction) and so on; "" for a plain number.
        better: which direction is good; None where neither is.
        tag: of its curve in loggers, before the split where there are several; "" for no curve.
        splits: of SPLITS, on which it is measured; none for one that is not about images.
        optional: whether it is measured only where the setting `metrics` names it.
    """

    name: str
    label: str
    unit: str = ""
    better: Better | None = None
    tag: str = ""
    splits: tuple[str, ...] = ()
    optional: bool = False

    def key(self, split: str) -> str:
        """Return the name of a column. Args: split: that it is about; "" for none."""
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
    """A metric on one split, a value in each line of metrics.jsonl.

    Attributes:
        key: its name there, such as test_accuracy.
        label: what it is, for people.
        tag: of its curve in loggers; "" for no curve.
        split: of SPLITS; "" for none.
        metric: that it is of.
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
# The names of those that are off unless the setting `metrics` names them.
OPTIONAL = [name for name, metric in METRICS.items() if metric.optional]
# What is read off a whole run, and claims may be about; reports/metrics.py has how.
CURVES = {key: c for key, c in COLUMNS.items() if c.metric.splits and c.tag}
FINAL = {f"final_{key}": column for key, column in CURVES.items()}
BEST = {
    f"best_{key}": column
    for key, column in CURVES.items()
    if column.split != "train" and column.metric.better == "higher"
}
EPOCHS_TO = {f"epochs_to_{key}": c for key, c in CURVES.items() if c.metric.unit == "%"}
OSCILLATION = {f"{key}_oscillation": column for key, column in CURVES.items()}
OF_RUNS = (
    *(*FINAL, *BEST, *EPOCHS_TO, *OSCILLATION),
    *("steps_per_epoch", "images_per_second", "seconds", "peak_memory_bytes"),
)


def evaluated_split(evaluated_on: str) -> str:
    """Return the split that a run is evaluated on. Args: evaluated_on: as in the run's data."""
    return "val" if evaluated_on == "validation" else "test"


def evaluated(name: str, evaluated_on: str) -> str:
    """Return the column of a metric on the images that a run is evaluated on.

    Args:
        name: of the metric.
        evaluated_on: "test" or "validation", as in the run's data.
    """
    return METRICS[name].key(evaluated_split(evaluated_on))


def as_named_now(row: Mapping[str, Any], evaluated_on: str) -> dict[str, Any]:
    """Return a line of metrics.jsonl under the names of today.

    Older versions called validation images test.

    Args:
        row: as it was written.
        evaluated_on: as of the run.
    """
    if evaluated_on == "test" or any(key.startswith("val_") for key in row):
        return dict(row)
    return {
        f"val_{key.removeprefix('test_')}" if key.startswith("test_") else key: value
        for key, value in row.items()
    }


def with_defaults(row: Mapping[str, Any], evaluated_on: str) -> dict[str, Any]:
    """Return a line of metrics.jsonl with None for losses and accuracies that it lacks.

    Args:
        row: as it was written.
        evaluated_on: as of the run.
    """
    usual = [
        METRICS[name].key(split)
        for split in ("train", evaluated_split(evaluated_on))
        for name in ("loss", "accuracy")
    ]
    return dict.fromkeys(usual) | as_named_now(row, evaluated_on)
