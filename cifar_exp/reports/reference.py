"""Comparison of a study's runs with published values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from cifar_exp.config.identity import all_settings
from cifar_exp.config.keys import SHORT_NAMES, short, short_names
from cifar_exp.config.reference import REFERENCE_METRICS, SO_FAR
from cifar_exp.config.study import Study, Value
from cifar_exp.errors import some
from cifar_exp.reports.comparisons import Levels
from cifar_exp.reports.metrics import MEASURES, Measure
from cifar_exp.reports.statistics import prediction_half_width
from cifar_exp.runs.record import Record

_NO_EPOCH = "no common epoch"
CAPTION = "Published values and ours at the last common epoch"
READING = {
    "Published values": "Ours is the mean over n seeds, up to the same epoch. Runs that are not "
    "complete count up to their last epoch. The value after ± is the half-width of the 95 % "
    "prediction interval of one further run: the t quantile for n seeds times their standard "
    "deviation times √(1 + 1/n). A published value within it is reproduced within the spread of "
    "seeds. This needs two seeds, and with two or three the interval is wide. The last column "
    "counts the epochs whose published value lies within their interval."
}


@dataclass(frozen=True)
class Published:
    """Published values of a study and their comparison with its runs.

    Attributes:
        label: name in figures and tables.
        rows: the values as in metrics.jsonl, by level; empty if they are of other data.
        table: one row per level and metric, as text; empty if no run has a published epoch.
        note: the source, and settings that differ.
    """

    label: str
    rows: Mapping[Value, list[dict[str, Any]]]
    table: list[dict[str, str]]
    note: str

    @classmethod
    def of(cls, study: Study, levels: Levels) -> "Published | None":
        """Compare the runs of a study with its reference.

        Args:
            study: the study.
            levels: the runs at each level.

        Returns:
            None if the study has no reference.
        """
        reference = study.reference
        records = [record for of_level in levels.values() for record in of_level]
        if reference is None:
            return None
        if other := _differing(reference.settings, records, only="data"):
            note = f"Not compared with the values of {reference.label}: {other[0]}."
            return cls(reference.label, {}, [], note)
        (key,) = study.vary
        rows: dict[Value, list[dict[str, Any]]] = {}
        for row in reference.rows(key):
            rows.setdefault(row["level"], []).append(row)
        for of_level in rows.values():
            of_level.sort(key=lambda row: int(row["epoch"]))
        (name,), label = short_names([key]), reference.label
        table = [
            {name: str(level)} | _compared(metric, label, of_level, levels.get(level, ()))
            for level, of_level in rows.items()
            for metric in REFERENCE_METRICS
            if any(metric in row for row in of_level)
        ]
        differing = _differing(reference.settings, records)
        note = f"Source of the values of {label}: {reference.source}."
        if all(row["verdict"] == _NO_EPOCH for row in table):
            epochs = {str(row["epoch"]): None for of_level in rows.values() for row in of_level}
            note = f"No run has the published epochs ({some(list(epochs))}). {note}"
            table = []
        if differing:
            note += f" Settings that differ: {'; '.join(differing)}."
        return cls(label, rows, table, note)

    def until(self, epoch: int) -> dict[Value, list[dict[str, Any]]]:
        """Return the values up to an epoch, by level."""
        return {
            level: [row for row in rows if row["epoch"] <= epoch]
            for level, rows in self.rows.items()
        }


def _compared(
    metric: str, label: str, rows: Sequence[Mapping[str, Any]], records: Sequence[Record]
) -> dict[str, str]:
    column, so_far = REFERENCE_METRICS[metric], metric.endswith(SO_FAR)
    measure = MEASURES[f"final_{column.key}"]
    published = {row["epoch"]: row[metric] for row in rows if metric in row}
    # an epoch of a run that is not complete is as good as that of any other
    curves = [_curve(record, column.key, so_far) for record in records]
    ours = _values_by_epoch(curves, published)
    last = max(ours or published)
    cells = {
        "metric": f"best {column.label} so far" if so_far else column.label,
        "epoch": str(last),
        label: measure.text(published[last]),
    }
    if not ours:
        verdict = "not measured" if records else "not trained"
        if any(curves):
            verdict = _NO_EPOCH
        return cells | {"ours": "", "difference": "", "verdict": verdict}
    values = ours[last]
    diverged = sum(record.status == "diverged" for record in records)
    within = [_is_within(published[epoch], v) for epoch, v in ours.items() if len(v) > 1]
    return cells | {
        "ours": _ours_text(measure, values, diverged),
        "difference": measure.difference(mean(values) - published[last]),
        "verdict": verdict_of(published[last], values),
        "epochs within": f"{sum(within)} of {len(within)}" if within else "",
    }


def _values_by_epoch(
    curves: Sequence[Mapping[int, float]], epochs: Iterable[int]
) -> dict[int, list[float]]:
    values = {epoch: [curve[epoch] for curve in curves if epoch in curve] for epoch in epochs}
    return {epoch: of_epoch for epoch, of_epoch in values.items() if of_epoch}


def _ours_text(measure: Measure, values: Sequence[float], diverged: int) -> str:
    """Return for example "71.2 % ± 2.5 % (n = 3, 1 diverged)"."""
    interval = f" ± {measure.text(prediction_half_width(values))}" if len(values) > 1 else ""
    count = f"n = {len(values)}" + (f", {diverged} diverged" if diverged else "")
    return f"{measure.text(mean(values))}{interval} ({count})"


def verdict_of(published: float, values: Sequence[float]) -> str:
    """Judge whether a published value could be one further run.

    Args:
        published: the value.
        values: of our runs, one per seed.
    """
    if len(values) < 2:
        return "not enough seeds"
    within = _is_within(published, values)
    return "reproduced within the spread of seeds" if within else "not reproduced"


def _is_within(published: float, values: Sequence[float]) -> bool:
    return abs(published - mean(values)) <= prediction_half_width(values)


def _curve(record: Record, key: str, so_far: bool) -> dict[int, float]:
    """Return the finite values of a run by epoch, or their running maximum."""
    curve, best = {}, -math.inf
    for row in record.rows:
        if (value := row.get(key)) is not None:
            best = max(best, value) if so_far else value
            curve[row["epoch"]] = best
    return curve


def _differing(expected: Mapping[str, Any], records: Sequence[Record], only: str = "") -> list[str]:
    """Return the settings of the published runs that some runs do not have, all or one of them."""
    flat = [all_settings(record.config) for record in records]
    texts = []
    for key, value in expected.items():
        full = SHORT_NAMES.get(key, key)
        others = dict.fromkeys(str(f.get(full)) for f in flat if f.get(full) != value)
        if others and only in ("", full):
            texts.append(f"{short(full)} is {' or '.join(others)}, published {value}")
    return texts
