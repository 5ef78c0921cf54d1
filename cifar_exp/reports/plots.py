"""The figures of a report."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any

from cifar_exp.config.keys import short_names
from cifar_exp.config.metrics import SPLITS, evaluated_split
from cifar_exp.config.reference import SO_FAR
from cifar_exp.config.study import MetricOfRun, Value
from cifar_exp.figures.drawing import MOST_COLOURS
from cifar_exp.figures.levels import Level, Point, draw_effect, draw_level_curves
from cifar_exp.figures.settings import (
    Cell,
    draw_heat_map,
    draw_importance,
    draw_parallel_coordinates,
)
from cifar_exp.reports.comparisons import Levels
from cifar_exp.reports.levels import level_of
from cifar_exp.reports.metrics import MEASURES, images_behind, main_metric, measured
from cifar_exp.reports.reference import Published
from cifar_exp.reports.statistics import Estimate, estimate
from cifar_exp.reports.table import ranked
from cifar_exp.runs.folder import ENDED
from cifar_exp.runs.record import Record

_MOST_COMBINATIONS = 6  # of the levels of several settings, whose curves are drawn
_Measured = tuple[Record, float]  # a run and its value of a metric


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a report.

    Attributes:
        name: of its files, without suffix.
        caption: one sentence.
        draw: returns the Matplotlib figure.
    """

    name: str
    caption: str
    draw: Callable[[], Any]


def report_figures(
    records: Sequence[Record],
    levels: Mapping[str, Levels],
    metrics: Sequence[MetricOfRun],
    prefix: str = "",
    published: Published | None = None,
) -> list[ReportFigure]:
    """Return the figures of a study or sweep.

    Args:
        records: the runs.
        levels: the runs at each level, by dotted key of the settings that vary.
        metrics: plotted against the levels.
        prefix: of the file names.
        published: values to draw with the curves.
    """
    if len(levels) > 1:
        return _of_several_settings(records, levels, prefix)
    if not levels:
        return []
    if not any(record.rows for record in records):
        return []
    ((key, runs),) = levels.items()
    (name,) = short_names([key])
    figures = []
    if len(runs) > 1 or (published and published.rows):
        # a colour scale replaces the legend of many levels, which are then in ascending order
        shown = runs if len(runs) > MOST_COLOURS else best_first(runs)
        figures += _curves(shown, name, f"each value of {name}", prefix, published)
    if len(runs) > 1:
        figures += filter(None, (_effect(runs, name, metric, prefix) for metric in metrics))
    return figures


def best_first(runs: Levels) -> Levels:
    """Return levels in the order of the tables, the best first."""
    groups = ranked([record for records in runs.values() for record in records])
    ranks = {r.folder: rank for rank, group in enumerate(groups) for r in group.records}
    return dict(sorted(runs.items(), key=lambda level: min(ranks[r.folder] for r in level[1])))


def _spoken(name: str) -> str:
    """Return the name of a setting in words, for titles."""
    return "learning rate" if name == "lr" else name.replace("_", " ")


def _curves(
    runs: Levels, name: str, of: str, prefix: str, published: Published | None = None
) -> list[ReportFigure]:
    last = max((row["epoch"] for of in runs.values() for r in of for row in r.rows), default=0)
    values = published.until(last) if published else {}
    levels = [
        Level(
            str(level), _position(level), [r.rows for r in records if r.rows], values.get(level, [])
        )
        for level, records in runs.items()
    ]
    label = published.label if published else ""
    evaluated_on = min(record.evaluated_on for records in runs.values() for record in records)
    evaluated = evaluated_split(evaluated_on)
    marks = _marks(levels, label)
    return [
        ReportFigure(
            f"{prefix}curves-{split}",
            f"Loss and accuracy on {SPLITS[split]} images for {of}.{marks}",
            partial(draw_level_curves, levels, _spoken(name), split, evaluated, label),
        )
        for split in ("train", evaluated)
    ]


def _marks(levels: Sequence[Level], published: str) -> str:
    """Return what the lines of `draw_level_curves` mean."""
    text = ""
    if len(levels) > MOST_COLOURS:
        text = " Each line is the mean over the seeds."
    elif any(len(level.seeds) > 1 for level in levels):
        text = " Thin lines are seeds, thick lines their mean, bands the range of the seeds."
    if published:
        keys = [key for level in levels for row in level.published for key in row]
        so_far = any(key.endswith(SO_FAR) for key in keys)
        text += f" Dashed lines with diamonds: {published}"
        text += f"{', with its best test accuracy so far' * so_far}."
    return text


def _position(level: Value) -> float | None:
    return float(level) if isinstance(level, int | float) and not isinstance(level, bool) else None


def _effect(runs: Levels, name: str, metric: MetricOfRun, prefix: str) -> ReportFigure | None:
    measure = MEASURES[metric]
    factor, unit = (1e-6, "MB") if measure.unit == "bytes" else (1.0, measure.unit)
    points = [_point(level, records, metric, factor) for level, records in runs.items()]
    if not any(point.values for point in points):
        return None
    caption = f"{measure.label[0].upper()}{measure.label[1:]} for each value of {name}"
    if any(len(point.values) > 1 for point in points):
        caption += ". Small dots are seeds, large dots their mean with its 95 % interval"
    draw = partial(draw_effect, points, _spoken(name), measure.label, unit)
    file = f"{prefix}{name}-{metric}".replace(".", "-").replace("_", "-")
    return ReportFigure(file, f"{caption}.", draw)


def _point(level: Value, records: Sequence[Record], metric: MetricOfRun, factor: float) -> Point:
    values = [measured(record, metric) for record in records]
    finite = [factor * v for v in values if v is not None and math.isfinite(v)]
    found = Estimate(math.nan, math.nan, 0)
    if finite:
        found = estimate(finite, images_behind(records, metric))
    diverged = sum(record.status == "diverged" for record in records)
    ended = sum(record.status in ENDED for record in records)
    return Point(
        str(level), _position(level), finite, found.mean, found.half_width, diverged, ended
    )


def _of_several_settings(
    records: Sequence[Record], levels: Mapping[str, Levels], prefix: str
) -> list[ReportFigure]:
    metric = main_metric(records)
    groups = ranked(records)
    # of equal runs, figures mark the last as the best
    ordered = [record for group in reversed(groups) for record in group.records]
    values = [(record, measured(record, metric)) for record in ordered]
    complete = [(r, v) for r, v in values if r.status == "complete" and v is not None]
    if len(complete) < 2:
        return []
    label = MEASURES[metric].label
    names = dict(zip(levels, short_names(list(levels)), strict=True))
    best: Levels = {
        ", ".join(str(level_of(group.records[0], key)) for key in levels): group.records
        for group in groups[:_MOST_COMBINATIONS]
    }
    name = ", ".join(names.values())
    shares = {key: _share_of_variance(complete, key) for key in levels}
    first, second, *_ = sorted(levels, key=lambda key: -shares[key])
    return [
        *_curves(best, name, f"the {len(best)} best combinations of {name}", prefix),
        _heat_map(complete, levels, names, (first, second), label, prefix),
        _parallel_coordinates(complete, names, label, prefix),
        _importance({_spoken(names[key]): share for key, share in shares.items()}, label, prefix),
    ]


def _parallel_coordinates(
    runs: Sequence[_Measured], names: Mapping[str, str], label: str, prefix: str
) -> ReportFigure:
    lines = [
        ([_axis_value(level_of(record, key)) for key in names], value) for record, value in runs
    ]
    settings = [_spoken(name) for name in names.values()]
    draw = partial(draw_parallel_coordinates, settings, lines, label, "%")
    caption = (
        f"Each line is a run: its settings and, on the last axis, its {label}. The best has labels."
    )
    return ReportFigure(f"{prefix}parallel", caption, draw)


def _importance(shares: Mapping[str, float], label: str, prefix: str) -> ReportFigure:
    caption = f"Share of the variance of the {label} between runs that each setting alone explains."
    draw = partial(draw_importance, shares, f"share of the variance of the {label}")
    return ReportFigure(f"{prefix}importance", caption, draw)


def _heat_map(
    runs: Sequence[_Measured],
    levels: Mapping[str, Levels],
    names: Mapping[str, str],
    pair: tuple[str, str],
    label: str,
    prefix: str,
) -> ReportFigure:
    # the columns are those with fewer levels, so that the figure fits a narrow page
    pair = (pair[1], pair[0]) if len(levels[pair[0]]) < len(levels[pair[1]]) else pair
    rows, columns = (list(levels[key]) for key in pair)
    of_cell: dict[tuple[Value, ...], list[_Measured]] = defaultdict(list)
    for record, value in runs:
        of_cell[tuple(level_of(record, key) for key in pair)].append((record, value))
    cells = [[_cell(of_cell[row, column]) for column in columns] for row in rows]
    first, second = (names[key] for key in pair)
    draw = partial(
        draw_heat_map,
        list(map(str, rows)),
        list(map(str, columns)),
        cells,
        _spoken(first),
        _spoken(second),
        label,
        "%",
    )
    caption = f"Mean {label} for each {first} and {second}, with its 95 % interval."
    return ReportFigure(f"{prefix}heat-map", caption, draw)


def _cell(runs: Sequence[_Measured]) -> Cell | None:
    if not runs:
        return None
    records = [record for record, _ in runs]
    images = images_behind(records, main_metric(records))
    found = estimate([value for _, value in runs], images)
    return found.mean, found.half_width


def _axis_value(level: Value) -> str | float:
    position = _position(level)
    return str(level) if position is None else position


def _share_of_variance(runs: Sequence[_Measured], key: str) -> float:
    """Return the variance between the means of the levels over the total (eta squared)."""
    values = [value for _, value in runs]
    center = mean(values)
    total = sum((value - center) ** 2 for value in values)
    groups: dict[Value, list[float]] = defaultdict(list)
    for record, value in runs:
        groups[level_of(record, key)].append(value)
    between = sum(len(group) * (mean(group) - center) ** 2 for group in groups.values())
    return between / total if total else 0.0
