"""Figures of several settings: heat map, parallel coordinates, importance."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_exp.figures.drawing import (
    COLOUR_SCALE,
    COLOURS,
    SMALL,
    TEXT_BACKGROUND,
    TILE,
    axis_coordinates,
    far_apart,
    hover,
    label_ticks,
    metric_label,
    new_figure,
    plain_text,
    short_number,
    smallest_range,
    tidy,
    value_text,
    wrapped_text,
)

_MOST_LEVELS = 6  # number of numeric levels up to which parallel axes have a tick at each
_ON_BRIGHT, _ON_DARK = "#111111", "#fefefe"  # text in cells, the same on dark pages

Cell = tuple[float, float]
"""Mean, and half-width of its 95 % interval, which is NaN for a single run."""
Marks = Mapping[float, str]
"""Labels of a parallel axis by height, in [0, 1]."""


def draw_heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    row_setting: str,
    column_setting: str,
    metric: str,
    unit: str,
) -> Figure:
    """Draw a metric with its interval for each combination of the levels of two settings.

    Args:
        rows: levels of the first setting, from top to bottom.
        columns: levels of the second setting, from left to right.
        cells: values of the metric; None for missing values.
        row_setting: name of the first setting.
        column_setting: name of the second setting.
        metric: label of the metric.
        unit: of the metric, which is a fraction if it is "%".

    Shape:
        cells `(rows, columns)`.
    """
    title = f"{metric_label(metric, unit)} by {row_setting} and {column_setting}"
    width = max(TILE, 1.1 + 0.85 * len(columns))
    figure = new_figure(1.3 + 0.5 * len(rows), title.replace("\n", " "), width)
    axes = figure.subplots()
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    means = [cell[0] for line in cells for cell in line if cell and math.isfinite(cell[0])]
    norm = Normalize(*smallest_range(min(means, default=0), max(means, default=1), unit))
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            patch = Rectangle((column - 0.5, row - 0.5), 1, 1, edgecolor="white")
            axes.add_patch(patch)
            if cell and math.isfinite(cell[0]):
                _fill_cell(axes, patch, cell, COLOUR_SCALE(norm(cell[0])), unit)
                names = f"{row_setting} {rows[row]}, {column_setting} {columns[column]}"
                hover(patch, f"{names}: {value_text(cell[0], unit)}")
            else:
                patch.set(facecolor="none", hatch="///", edgecolor="#999999")
                text: Any = {"ha": "center", "va": "center", "fontsize": SMALL}
                axes.text(column, row, "no value", bbox=TEXT_BACKGROUND, **text)
    label_ticks(axes, range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), [plain_text(row) for row in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(plain_text(column_setting))
    axes.set_ylabel(plain_text(row_setting))
    return figure


def _fill_cell(
    axes: Axes, patch: Rectangle, cell: Cell, colour: tuple[float, float, float, float], unit: str
) -> None:
    """Write the mean and, below it, the interval into a cell."""
    mean, half_width = cell
    patch.set_facecolor(colour)
    red, green, blue, _ = colour
    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
    text: dict[str, Any] = {"ha": "center", "color": _ON_BRIGHT if bright else _ON_DARK}
    x, y = (patch.get_x() + 0.5, patch.get_y() + 0.5)

    def number(value: float) -> str:
        return f"{100 * value:.1f}" if unit == "%" else short_number(value)

    is_single = math.isnan(half_width)
    place: Any = {"xytext": (0, 0 if is_single else 1), "textcoords": "offset points"}
    va = "center" if is_single else "bottom"
    axes.annotate(number(mean), (x, y), va=va, fontsize=10, **place, **text)
    if is_single:
        return
    low, high = mean - half_width, mean + half_width
    if unit == "%":
        low, high = max(0.0, low), min(1.0, high)
    axes.annotate(f"{number(low)} to {number(high)}", (x, y), va="top", fontsize=8, **text)


def draw_parallel_coordinates(
    settings: Sequence[str],
    runs: Sequence[tuple[Sequence[str | float], float]],
    metric: str,
    unit: str,
    higher: bool = True,
) -> Figure:
    """Draw each run as a line through its levels, coloured by a metric; the best has labels.

    Args:
        settings: names of the settings, one axis each.
        runs: the levels, in the order of the settings, and the metric of each run. Runs with a
            non-finite metric are left out.
        metric: label of the metric, which is the last axis.
        unit: of the metric, which is a fraction if it is "%".
        higher: whether higher values are better.
    """
    title = f"{metric} by {', '.join(settings)}"
    figure = new_figure(3.8, title, max(TILE, 1.2 + 0.95 * len(settings)))
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set(xlim=(-0.05, len(settings) + 0.05), ylim=(-0.05, 1.05))
    runs = sorted((run for run in runs if math.isfinite(run[1])), key=lambda run: run[1])
    runs = runs if higher else runs[::-1]  # the best is drawn last
    results = [result for _, result in runs]
    columns = [_axis([levels[number] for levels, _ in runs]) for number in range(len(settings))]
    columns.append(_metric_axis(results, unit))
    for number, (_, marks) in enumerate(columns):
        _draw_coordinate(axes, number, marks)
    lines = [list(enumerate(line)) for line in zip(*(at for at, _ in columns), strict=True)]
    axes.add_collection(
        LineCollection(lines, array=results, cmap=COLOUR_SCALE, linewidth=1, alpha=0.6)
    )
    if lines:
        levels, result = runs[-1]
        texts = [*map(_level_text, levels), value_text(result, unit)]
        _draw_best(axes, settings, texts, lines[-1], [marks for _, marks in columns])
    names = [*map(plain_text, settings), metric_label(metric, unit)]
    labels = [textwrap.fill(name, 12, break_long_words=False) for name in names]
    axes.set_xticks(range(len(columns)), labels, fontsize=SMALL)
    return figure


def _draw_best(
    axes: Axes,
    settings: Sequence[str],
    texts: Sequence[str],
    line: Sequence[tuple[int, float]],
    marks: Sequence[Marks],
) -> None:
    """Draw the line of the best run with its result, and its levels where they are no marks."""
    *levels, result = texts
    (best,) = axes.plot(*zip(*line, strict=True), "o-", color=COLOURS[1], lw=2.5, zorder=5)
    pairs = ", ".join(f"{name} {level}" for name, level in zip(settings, levels, strict=True))
    hover(best, f"best: {result} with {pairs}")
    for (x, y), text in zip(line, texts, strict=True):
        if x < len(settings) and text in marks[x].values():
            continue
        axes.annotate(
            plain_text(text),
            (x, y),
            xytext=(7, 0),
            textcoords="offset points",
            color=COLOURS[1],
            fontweight="bold",
            fontsize=SMALL,
            va="center",
            bbox=TEXT_BACKGROUND,
            zorder=6,
        )


def draw_importance(shares: Mapping[str, float], label: str) -> Figure:
    """Draw the importance of settings as bars, the most important on top.

    Args:
        shares: by name of the setting, in [0, 1].
        label: of the horizontal axis.
    """
    figure = new_figure(1.3 + 0.36 * len(shares), "importance of the settings")
    axes = figure.subplots()
    tidy(axes)
    ranked = sorted(shares.items(), key=lambda item: item[1])
    values = [share for _, share in ranked]
    bars = axes.barh([plain_text(name) for name, _ in ranked], values, color=COLOURS[0])
    for bar, (name, share) in zip(bars, ranked, strict=True):
        hover(bar, f"{name}: {share:.1%}")
    axes.bar_label(bars, [f"{100 * share:.0f} %" for share in values], padding=4)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.12)  # room for "100%"
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.set_xlabel(wrapped_text(label, 40))
    return figure


def _axis(levels: Sequence[str | float]) -> tuple[list[float], Marks]:
    """Place the levels of a setting on a parallel axis; return their heights and the marks."""
    distinct = list(dict.fromkeys(levels))
    numbers = [level for level in distinct if not isinstance(level, str)]
    heights: Mapping[str | float, float]
    if len(numbers) == len(distinct) > _MOST_LEVELS:
        heights, marks = _with_round_marks(numbers)
    else:
        heights = _heights(distinct)
        marks = {height: _level_text(level) for level, height in heights.items()}
    return [heights[level] for level in levels], marks


def _heights(levels: Sequence[str | float]) -> dict[str | float, float]:
    numbers = [None if isinstance(level, str) else level for level in levels]
    coordinates, _ = axis_coordinates(numbers)
    low, high = min(coordinates, default=0), max(coordinates, default=0)
    return {
        level: (coordinate - low) / (high - low) if high > low else 0.5
        for level, coordinate in zip(levels, coordinates, strict=True)
    }


def _with_round_marks(numbers: Sequence[float]) -> tuple[dict[str | float, float], Marks]:
    low, high = min(numbers), max(numbers)
    # values that were drawn on a linear scale have their median in the middle of the range
    is_log = low > 0 and high > 8 * low and median(numbers) < (low + high) / 4
    scale = LogNorm(low, high) if is_log else Normalize(low, high)
    ticks = _decades(low, high) if is_log else _round_numbers(low, high, most=5)
    marks = {float(scale(tick)): short_number(tick) for tick in ticks if low <= tick <= high}
    return {number: float(scale(number)) for number in numbers}, marks


def _level_text(level: str | float) -> str:
    return level if isinstance(level, str) else short_number(level)


def _metric_axis(results: Sequence[float], unit: str) -> tuple[list[float], Marks]:
    low, high = smallest_range(min(results, default=0), max(results, default=1), unit)
    ticks = _round_numbers(low, high, most=6)
    scale = Normalize(ticks[0], ticks[-1])
    factor = 100 if unit == "%" else 1
    marks = {float(scale(tick)): f"{factor * tick:.4g}" for tick in ticks}
    return [float(scale(result)) for result in results], marks


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    ticks = MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks]


def _decades(low: float, high: float) -> list[float]:
    """Return the powers of ten in a range, with their doubles and fivefolds if they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**power for power in powers]
    if sum(low <= ten <= high for ten in tens) >= 3:
        return tens
    return [factor * ten for ten in tens for factor in (1, 2, 5)]


def _draw_coordinate(axes: Axes, number: int, marks: Marks) -> None:
    """Draw one of the parallel axes with as many marks as fit."""
    shown = far_apart(marks, 0.06)
    for height in shown:
        axes.annotate(
            plain_text(marks[height]),
            (number, height),
            xytext=(-6, 0),
            textcoords="offset points",
            fontsize=SMALL,
            ha="right",
            va="center",
            bbox=TEXT_BACKGROUND,
            zorder=6,  # above the line of the best run
        )
    axes.vlines(number, 0, 1, color="#444444", linewidth=1, zorder=3)
    axes.plot([number] * len(shown), shown, "_", color="#444444", zorder=3)
