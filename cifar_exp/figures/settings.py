"""Figures of several settings: heat map, parallel coordinates, importance."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_exp.figures.drawing import (
    COLOURS,
    SMALL,
    axis_coordinates,
    label_ticks,
    metric_label,
    new_figure,
    plain_text,
    short_number,
    text_background,
    tidy,
    wrapped_text,
)

# Colour-blind safe; the yellow end is left out.
_MAP = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256)))


def draw_heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    means: Sequence[Sequence[float | None]],
    row_setting: str,
    column_setting: str,
    metric: str,
    percent: bool,
) -> Figure:
    """Draw a metric for each combination of the levels of two settings.

    Args:
        rows: levels of the first setting, from top to bottom.
        columns: levels of the second setting, from left to right.
        means: values of the metric; None for missing values.
        row_setting: name of the first setting.
        column_setting: name of the second setting.
        metric: label of the metric.
        percent: whether it is a fraction shown in percent.

    Shape:
        means `(rows, columns)`.
    """
    figure = new_figure(1.6 + 0.5 * len(rows))
    axes = figure.subplots()
    values = np.array(means, dtype=float).reshape(len(rows), len(columns)) * (100 if percent else 1)
    finite = values[np.isfinite(values)]
    norm = Normalize(*((finite.min(), finite.max()) if len(finite) else (0, 1)))
    image = axes.imshow(np.ma.masked_invalid(values), _MAP, norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
        if math.isfinite(value):
            red, green, blue, _ = _MAP(norm(value))
            bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
            number = f"{value:.1f}" if percent else short_number(value)
            axes.text(column, row, number, color="black" if bright else "white", **text)
        else:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#999999"))
            axes.text(column, row, "no\nvalue", bbox=text_background(), linespacing=0.9, **text)
    label_ticks(axes, range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), [plain_text(row) for row in rows])
    axes.tick_params(length=0)
    axes.set_xlabel(plain_text(column_setting))
    axes.set_ylabel(plain_text(row_setting))
    if len(finite):
        bar = figure.colorbar(image, label=metric_label(metric, percent))
        bar.outline.set_visible(False)
    return figure


def draw_parallel_coordinates(
    settings: Sequence[str],
    runs: Sequence[tuple[Sequence[str | float], float]],
    metric: str,
    percent: bool,
) -> Figure:
    """Draw each run as a line through its levels, coloured by a metric.

    Args:
        settings: names of the settings, one axis each.
        runs: the levels, in the order of the settings, and the metric of each run. Runs with a
            non-finite metric are left out.
        metric: label of the metric, which is the last axis.
        percent: whether it is a fraction shown in percent.
    """
    figure = new_figure(4.5)
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set(xlim=(-0.05, len(settings) + 0.05), ylim=(-0.05, 1.05))
    runs = [run for run in runs if math.isfinite(run[1])]
    heights = []
    for number in range(len(settings)):
        levels = [levels[number] for levels, _ in runs]
        coordinates = _coordinates(levels)
        names = [lv if isinstance(lv, str) else short_number(lv) for lv in coordinates]
        _draw_coordinate(axes, number, dict(zip(coordinates.values(), names, strict=True)))
        heights.append([coordinates[level] for level in levels])
    results = [result for _, result in runs]
    ticks = MaxNLocator(6).tick_values(min(results, default=0), max(results, default=1))
    scale = Normalize(ticks[0], ticks[-1])
    marks = {float(scale(tick)): f"{100 * tick if percent else tick:.4g}" for tick in ticks}
    _draw_coordinate(axes, len(settings), marks)
    heights.append([float(scale(result)) for result in results])
    lines = [list(enumerate(line)) for line in zip(*heights, strict=True)]
    axes.add_collection(LineCollection(lines, array=results, cmap=_MAP, linewidth=1.2, alpha=0.8))
    label_ticks(axes, range(len(heights)), [*settings, metric + (" (%)" if percent else "")])
    return figure


def draw_importance(shares: Mapping[str, float], label: str) -> Figure:
    """Draw the importance of settings as bars, the most important on top.

    Args:
        shares: by name of the setting, in [0, 1].
        label: of the horizontal axis.
    """
    figure = new_figure(1.1 + 0.36 * len(shares))
    axes = figure.subplots()
    tidy(axes)
    ranked = sorted(shares.items(), key=lambda item: item[1])
    bars = axes.barh(
        [plain_text(name) for name, _ in ranked], [share for _, share in ranked], color=COLOURS[0]
    )
    axes.bar_label(bars, [f"{share:.0%}" for _, share in ranked], padding=4)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.06)  # room for "100%"
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(wrapped_text(label))
    return figure


def _coordinates(levels: Sequence[str | float]) -> dict[str | float, float]:
    """Map the levels of a setting to [0, 1]: numbers by size, others in order of appearance."""
    distinct = list(dict.fromkeys(levels))
    numbers = [None if isinstance(level, str) else level for level in distinct]
    coordinates, _ = axis_coordinates(numbers)
    low, high = min(coordinates, default=0), max(coordinates, default=0)
    return {
        level: (coordinate - low) / (high - low) if high > low else 0.5
        for level, coordinate in zip(distinct, coordinates, strict=True)
    }


def _draw_coordinate(axes: Axes, number: int, marks: Mapping[float, str]) -> None:
    """Draw one of the parallel axes with as many labels as fit."""
    shown: list[float] = []
    for height in sorted(marks):
        if not shown or height - shown[-1] > 0.06:
            shown.append(height)
            axes.annotate(
                plain_text(marks[height]),
                (number, height),
                xytext=(-6, 0),
                textcoords="offset points",
                fontsize=SMALL,
                ha="right",
                va="center",
                bbox=text_background(),
            )
    axes.vlines(number, 0, 1, color="#444444", linewidth=1, zorder=3)
    axes.plot([number] * len(shown), shown, "_", color="#444444", zorder=3)
