"""Curves and metrics for the levels of a setting, over several seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cifar_exp.figures.drawing import (
    COLOUR_SCALE,
    COLOURS,
    MOST_COLOURS,
    SMALL,
    TEXT_BACKGROUND,
    axis_coordinates,
    hover,
    label_ticks,
    metric_label,
    new_figure,
    percent_axis,
    plain_text,
    smallest_range,
    tidy,
    value_text,
    would_overlap,
)

_STYLES = ["-", "--", ":", "-."]  # distinguish levels in grey print
_FEW_EPOCHS = 12  # up to this number, epochs have markers
_PUBLISHED: dict[str, Any] = {
    "linestyle": (0, (4, 3)),
    "linewidth": 1,
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
}


@dataclass(frozen=True)
class Level:
    """The runs with one level of a setting.

    Attributes:
        label: the level.
        position: its value; None if it is not a number.
        seeds: lines of metrics.jsonl for each seed; None for non-finite values.
        published: published values like lines of metrics.jsonl, which may lack metrics.
    """

    label: str
    position: float | None
    seeds: list[list[dict[str, Any]]]
    published: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Point:
    """A metric at one level of a setting.

    Attributes:
        label: the level.
        position: its value; None if it is not a number.
        values: finite, one per seed; a diverged run has one of speed and memory only.
        mean: of the values; NaN if there are none.
        half_width: of the 95 % interval of the mean; NaN for a single seed.
        diverged: number of diverged runs.
        ended: number of runs that are complete or diverged.
    """

    label: str
    position: float | None
    values: list[float]
    mean: float
    half_width: float
    diverged: int
    ended: int


def draw_level_curves(
    levels: Sequence[Level],
    setting: str,
    split: str,
    evaluated: str = "test",
    published: str = "",
) -> Figure:
    """Draw loss and accuracy of a split, one colour per level.

    The axes are the same for both splits. Above `MOST_COLOURS` levels a colour scale replaces the
    legend, only the means are drawn, and the best and the worst level have a label.

    Args:
        levels: in the order of the legend.
        setting: name of the setting.
        split: prefix of the columns to draw, "train", "test" or "val".
        evaluated: prefix of the columns of the evaluated split, "test" or "val".
        published: label of the published values.
    """
    names = {"train": "training", "val": "validation", "test": "test"}
    figure = new_figure(5.4, f"{names[split]} loss and accuracy by {setting}")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    top, is_cut = _loss_limit(levels, evaluated)
    loss.set_ylim(0, top)
    only_means = len(levels) > MOST_COLOURS
    title = plain_text(setting)
    for number, level in enumerate(levels):
        style = _style(number, len(levels))
        for axes, metric, highest in ((loss, "loss", 10 * top), (accuracy, "accuracy", 1)):
            _draw_level(axes, level, style, f"{split}_{metric}", highest, setting, only_means)
            _draw_published(axes, level, style, f"{split}_{metric}", highest)
        ends = [rows[-1]["epoch"] for rows in level.seeds if _has_diverged(rows, evaluated)]
        if ends:
            title = f"{plain_text(setting)}\ncross at the upper edge: diverged"
            cross = style | {"marker": "x", "linestyle": "", "clip_on": False}
            loss.plot(ends, [top] * len(ends), zorder=4, **cross)
    accuracy.set_ylim(_accuracy_limits(levels, evaluated))
    accuracy.set_xlabel("epoch")
    accuracy.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    percent_axis(accuracy)
    loss.set_ylabel(f"loss (nats){f', cut at {top:.2g}' if is_cut else ''}")
    accuracy.set_ylabel("accuracy (%)")
    for axes in (loss, accuracy):
        tidy(axes)
    figure.align_ylabels()
    if only_means:
        _label_best_and_worst(accuracy, levels, f"{split}_accuracy")
        _add_colour_scale(figure, levels, title)
    else:
        _add_legend(figure, levels, title, published)
    return figure


def _add_colour_scale(figure: Figure, levels: Sequence[Level], title: str) -> None:
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, len(levels) - 1), COLOUR_SCALE),
        ax=figure.axes,
        location="bottom",
        aspect=40,
        label=title,
    )
    shown = sorted({round(i * (len(levels) - 1) / 4) for i in range(5)})
    bar.set_ticks(shown, labels=[plain_text(levels[number].label) for number in shown])
    bar.outline.set_visible(False)


def _add_legend(figure: Figure, levels: Sequence[Level], title: str, published: str) -> None:
    labels = [plain_text(level.label) for level in levels]
    handles = [Line2D([], [], linewidth=2, **_style(i, len(levels))) for i in range(len(levels))]
    if any(level.published for level in levels):
        handles.append(Line2D([], [], color="0.5", **_PUBLISHED))
        labels.append(plain_text(published))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(6, int(280 / (36 + 5.5 * max(map(len, labels), default=1))))),
        title=title,
        title_fontsize=SMALL,
        fontsize=SMALL,
        handlelength=1.8,
        columnspacing=1.2,
        frameon=False,
    )


def draw_effect(points: Sequence[Point], setting: str, metric: str, unit: str) -> Figure:
    """Draw a metric against the levels of a setting: seeds, and their mean with its interval.

    Args:
        points: the levels; those that are not numbers keep this order.
        setting: name of the setting.
        metric: label of the metric.
        unit: of the metric, which is a fraction if it is "%".
    """
    figure = new_figure(3.2, f"{metric} by {setting}")
    axes = figure.subplots()
    tidy(axes)
    axes.margins(x=0.08)
    coordinates, scale = axis_coordinates([point.position for point in points])
    label_ticks(axes, coordinates, [point.label for point in points])
    axes.set_xlabel(plain_text(setting) + scale)
    axes.set_ylabel(metric_label(metric, unit))
    has_seeds = any(len(point.values) > 1 for point in points)
    measured = [(x, point) for x, point in zip(coordinates, points, strict=True) if point.values]
    if measured and all(point.position is not None for point in points):
        line = sorted((x, point.mean) for x, point in measured)
        axes.plot(*zip(*line, strict=True), color=COLOURS[0], linewidth=1, alpha=0.5)
    for x, point in measured:
        _draw_mean(axes, x, point, setting, unit)
        if has_seeds:
            _draw_seeds(axes, x, point, setting, unit)
    if unit == "%":
        percent_axis(axes)
    low, high = smallest_range(*axes.get_ylim(), unit)
    lowest = min((value for point in points for value in point.values), default=low)
    if lowest >= 0 > low:  # an interval may extend below 0, the values cannot
        low = -0.02 * high
    axes.set_ylim(low, high)
    axes.errorbar([], [], [], fmt="o", capsize=4, color=COLOURS[0]).set_label(
        "mean, 95 % interval" if has_seeds else "one run per level"
    )
    if has_seeds:
        axes.plot([], [], ".", color=COLOURS[1], label="seeds")
    _mark_diverged(axes, points, coordinates)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def _draw_mean(axes: Axes, x: float, point: Point, setting: str, unit: str) -> None:
    text = f"{setting} {point.label}: {value_text(point.mean, unit)}"
    half_width = None
    if not math.isnan(point.half_width):
        half_width = point.half_width
        low, high = (value_text(point.mean + end, unit) for end in (-half_width, half_width))
        text += f" ({low} to {high}; {len(point.values)} seeds)"
    bar = axes.errorbar(x, point.mean, half_width, fmt="o", capsize=4, color=COLOURS[0])
    for artist in bar.get_children():
        hover(artist, text)


def _draw_seeds(axes: Axes, x: float, point: Point, setting: str, unit: str) -> None:
    for value in point.values:
        (dot,) = axes.plot(x, value, ".", color=COLOURS[1], zorder=3)
        hover(dot, f"{setting} {point.label}: a seed with {value_text(value, unit)}")


def _style(number: int, levels: int) -> dict[str, Any]:
    if levels > MOST_COLOURS:
        return {"color": COLOUR_SCALE(number / (levels - 1)), "linestyle": "-"}
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _STYLES[number % len(_STYLES)],
    }


def _has_diverged(rows: Sequence[dict[str, Any]], evaluated: str) -> bool:
    return bool(rows) and rows[-1].get(f"{evaluated}_loss", 0.0) is None


def _loss_limit(levels: Sequence[Level], evaluated: str) -> tuple[float, bool]:
    """Return the limit of the loss axis, and whether it cuts off a run.

    Most runs have their largest loss in the first epoch, slightly less than that of guessing. The
    loss of an exploded run is orders of magnitude larger. The limit is therefore the largest loss
    of the runs whose largest loss is at most four times the first quartile.
    """
    keys = ("train_loss", f"{evaluated}_loss")
    runs = [
        [row[key] for row in rows for key in keys if row.get(key)]
        for level in levels
        for rows in level.seeds
    ]
    largest = sorted(max(losses) for losses in runs if losses)
    if not largest:
        return 1.0, False
    kept = [loss for loss in largest if loss <= 4 * largest[len(largest) // 4]]
    return 1.05 * kept[-1], len(kept) < len(largest)


def _accuracy_limits(levels: Sequence[Level], evaluated: str) -> tuple[float, float]:
    keys = ("train_accuracy", f"{evaluated}_accuracy")
    rows = [row for level in levels for part in (*level.seeds, level.published) for row in part]
    values = [row[key] for row in rows for key in keys if row.get(key) is not None]
    low, high = smallest_range(min(values, default=0), max(values, default=1), "%")
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _values_of_seeds(level: Level, key: str) -> tuple[list[int], NDArray[np.float64]]:
    """Return the epochs, and the values of the seeds; NaN where a seed has none."""
    epochs = sorted({row["epoch"] for rows in level.seeds for row in rows})
    column = {epoch: at for at, epoch in enumerate(epochs)}
    values: NDArray[np.float64] = np.full((len(level.seeds), len(epochs)), np.nan)
    for seed, rows in enumerate(level.seeds):
        for row in rows:
            if row.get(key) is not None:
                values[seed, column[row["epoch"]]] = row[key]
    return epochs, values


def _draw_level(
    axes: Axes,
    level: Level,
    style: dict[str, Any],
    key: str,
    highest: float,
    setting: str,
    only_mean: bool,
) -> None:
    epochs, values = _values_of_seeds(level, key)
    if len(values) > 1 and not only_mean:
        # browsers do not draw huge coordinates, so the values are clipped outside of the axes
        bounded = np.minimum(values, highest)
        axes.plot(epochs, bounded.T, linewidth=0.7, alpha=0.6, **style)
        # NaN where a seed has ended, so the band covers only epochs of all seeds
        axes.fill_between(
            epochs, bounded.min(0), bounded.max(0), color=style["color"], alpha=0.15, linewidth=0
        )
    mean = np.minimum((values / max(1, len(values))).sum(0), highest)
    few = len(epochs) <= _FEW_EPOCHS and not only_mean
    width = 1.2 if only_mean else 2
    lines = axes.plot(
        epochs, mean, linewidth=width, marker="o" if few else None, markersize=4, **style
    )
    if len(mean) and math.isfinite(mean[-1]):
        value = value_text(float(mean[-1]), "%" if key.endswith("accuracy") else "nats")
        hover(lines[0], f"{setting} {level.label}: {value} after epoch {epochs[-1]}")


def _draw_published(
    axes: Axes, level: Level, style: Mapping[str, Any], key: str, highest: float
) -> None:
    # of accuracies, often only the best so far is published
    values = {
        row["epoch"]: min(row[name], highest)
        for row in level.published
        for name in (f"best_{key}_so_far", key)
        if name in row
    }
    if values:
        distance = max(1, len(values) // _FEW_EPOCHS)
        coordinates = zip(*values.items(), strict=True)
        axes.plot(*coordinates, color=style["color"], markevery=distance, **_PUBLISHED)


def _label_best_and_worst(axes: Axes, levels: Sequence[Level], key: str) -> None:
    """Label the ends of the curves with the highest and the lowest mean."""
    ends = []
    for level in levels:
        epochs, values = _values_of_seeds(level, key)
        mean = values.mean(0) if values.size else values
        if mean.size and math.isfinite(mean[-1]):
            ends.append((float(mean[-1]), epochs[-1], level.label))
    if len(ends) < 2:
        return
    best, worst = ("best", max(ends), 3, "bottom"), ("worst", min(ends), -3, "top")
    for word, (value, epoch, label), offset, va in (best, worst):
        axes.annotate(
            f"{word}: {plain_text(label)}",
            (epoch, value),
            xytext=(0, offset),
            textcoords="offset points",
            ha="right",
            va=va,
            fontsize=SMALL,
            bbox=TEXT_BACKGROUND,
        )


def _mark_diverged(axes: Axes, points: Sequence[Point], coordinates: Sequence[float]) -> None:
    """Mark the levels with diverged runs and their number at the lower edge."""
    marked = [(x, point) for x, point in zip(coordinates, points, strict=True) if point.diverged]
    if not marked:
        return
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low - 0.25 * (high - low), high)  # room below the values
    at_edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": "black"}
    crosses = [x for x, _ in marked]
    axes.plot(crosses, [0.03] * len(crosses), "x", label="diverged", **at_edge)
    crowded = would_overlap(axes, coordinates, [42 if point.diverged else 0 for point in points])
    for x, point in marked:
        text = f"{point.diverged} of {point.ended}"
        label = text if crowded else f"{text}\ndiverged"
        axes.text(x, 0.07, label, fontsize=SMALL, ha="center", **at_edge)
