"""Curves and metrics for the levels of a setting, over several seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from cifar_exp.figures.drawing import (
    COLOURS,
    SMALL,
    axis_coordinates,
    label_ticks,
    metric_label,
    new_figure,
    plain_text,
    tidy,
    would_overlap,
)

_STYLES = ["-", "--", ":", "-."]  # distinguish levels in grey print
_FEW_EPOCHS = 12  # up to this number, epochs have markers
_PUBLISHED: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 1, "marker": "D"} | {
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
        values: finite, one per seed, without diverged runs.
        mean: of the values; None if there are none.
        half_width: of the 95 % interval of the mean; NaN for a single seed.
        diverged: number of diverged runs.
    """

    label: str
    position: float | None
    values: list[float]
    mean: float | None
    half_width: float
    diverged: int


def draw_level_curves(
    levels: Sequence[Level], title: str, evaluated: str = "test", published: str = ""
) -> Figure:
    """Draw loss and accuracy on the training and the evaluated split, one colour per level.

    Args:
        levels: in the order of the legend.
        title: of the figure.
        evaluated: prefix of the columns of the evaluated split, "test" or "val".
        published: label of the published values.
    """
    figure = new_figure(6.4, title)
    names = {"train": "training", "val": "validation", "test": "test"}
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    top, is_cut = _loss_limit(levels, evaluated)
    any_diverged = False
    for axes, split in zip(panels[0], ("train", evaluated), strict=True):
        axes.set_title(f"{names[split]} set", fontsize=10)
        axes.set_ylim(0, top)
        for number, level in enumerate(levels):
            _draw_level(axes, level, number, f"{split}_loss", highest=10 * top)
            ends = [rows[-1]["epoch"] for rows in level.seeds if _has_diverged(rows, evaluated)]
            if ends:
                any_diverged = True
                cross = _style(number) | {"marker": "x", "linestyle": "", "clip_on": False}
                axes.plot(ends, [top] * len(ends), zorder=4, **cross)
    for axes, split in zip(panels[1], ("train", evaluated), strict=True):
        for number, level in enumerate(levels):
            _draw_level(axes, level, number, f"{split}_accuracy", highest=1)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    for axes in panels.flat:
        tidy(axes)
    figure.align_ylabels()
    panels[0, 0].set_ylabel(f"loss (nats){f', cut at {top:.2g}' if is_cut else ''}")
    panels[1, 0].set_ylabel("accuracy (%)")
    notes = []
    if any(len(level.seeds) > 1 for level in levels):
        notes.append("thick: mean over seeds    thin: seeds    band: range of the seeds")
    if any_diverged:
        notes.append("cross at the upper edge: diverged run")
    labels = [plain_text(level.label) for level in levels]
    handles = [Line2D([], [], linewidth=2, **_style(number)) for number in range(len(levels))]
    if any(level.published for level in levels):
        handles.append(Line2D([], [], color="0.4", **_PUBLISHED))
        labels.append(plain_text(published))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(6, 540 // (50 + 6 * max(map(len, labels), default=1)))),
        title="\n".join(notes) or None,
        title_fontsize=SMALL,
        frameon=False,
    )
    return figure


def draw_effect(points: Sequence[Point], setting: str, metric: str, percent: bool) -> Figure:
    """Draw a metric against the levels of a setting: seeds, and their mean with its interval.

    Args:
        points: the levels; those that are not numbers keep this order.
        setting: name of the setting.
        metric: label of the metric.
        percent: whether it is a fraction shown in percent.
    """
    figure = new_figure(4)
    axes = figure.subplots()
    tidy(axes)
    axes.margins(x=0.08)
    coordinates, scale = axis_coordinates([point.position for point in points])
    label_ticks(axes, coordinates, [point.label for point in points])
    axes.set_xlabel(plain_text(setting) + scale)
    axes.set_ylabel(metric_label(metric, percent))
    located = [*zip(coordinates, points, strict=True)]
    seeds = [(x, value) for x, point in located for value in point.values]
    means = [(x, point.mean) for x, point in located if point.mean is not None]
    half_widths = [p.half_width for p in points if p.mean is not None]
    if means and all(point.position is not None for point in points):
        axes.plot(*zip(*sorted(means), strict=True), color=COLOURS[0], linewidth=1, alpha=0.5)
    if means:
        several = not all(map(math.isnan, half_widths))
        axes.errorbar(
            [x for x, _ in means],
            [mean for _, mean in means],
            half_widths if several else None,
            fmt="o",
            capsize=4,
            color=COLOURS[0],
            label="mean over seeds, 95 % interval" if several else "one run per level",
        )
    if len(seeds) > len(means):
        axes.plot(*zip(*seeds, strict=True), ".", color=COLOURS[1], zorder=3, label="seeds")
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.01), min(high, 1.01))  # the interval of two seeds is wide
    _mark_diverged(axes, points, coordinates)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def _style(number: int) -> dict[str, Any]:
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
    runs = [rows for level in levels for rows in level.seeds if rows]
    keys = ("train_loss", f"{evaluated}_loss")
    largest = sorted(
        filter(None, (max(row.get(k) or 0.0 for row in rows for k in keys) for rows in runs))
    )
    kept = [loss for loss in largest if loss <= 4 * largest[len(largest) // 4]]
    return 1.05 * max(kept, default=0.0) or 1.0, len(kept) < len(largest)


def _draw_level(axes: Axes, level: Level, number: int, key: str, highest: float) -> None:
    epochs = sorted({row["epoch"] for rows in level.seeds for row in rows})
    values: NDArray[np.float64] = np.full((len(level.seeds), len(epochs)), np.nan)
    for seed, rows in enumerate(level.seeds):
        for row in rows:
            if row.get(key) is not None:
                values[seed, epochs.index(row["epoch"])] = row[key]
    style = _style(number)
    if len(values) > 1:
        # browsers do not draw huge coordinates, so the values are clipped outside of the axes
        bounded = np.minimum(values, highest)
        axes.plot(epochs, bounded.T, linewidth=0.7, alpha=0.6, **style)
        # NaN where a seed has ended, so the band covers only epochs of all seeds
        axes.fill_between(
            epochs, bounded.min(0), bounded.max(0), color=style["color"], alpha=0.15, linewidth=0
        )
    mean = np.minimum((values / max(1, len(values))).sum(0), highest)
    few = len(epochs) <= _FEW_EPOCHS
    axes.plot(epochs, mean, linewidth=2, marker="o" if few else None, markersize=4, **style)
    # of accuracies, often only the best so far is published
    values_by_epoch = {
        row["epoch"]: min(row[name], highest)
        for row in level.published
        for name in (f"best_{key}_so_far", key)
        if name in row
    }
    if values_by_epoch:
        distance = max(1, len(values_by_epoch) // _FEW_EPOCHS)
        coordinates = zip(*values_by_epoch.items(), strict=True)
        axes.plot(*coordinates, color=style["color"], markevery=distance, **_PUBLISHED)


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
    crowded = would_overlap(coordinates, [42 if point.diverged else 0 for point in points])
    for x, point in marked:
        text = f"{point.diverged} of {point.diverged + len(point.values)}"
        text += "" if crowded else "\ndiverged"
        axes.text(x, 0.07, text, fontsize=SMALL, ha="center", **at_edge)
