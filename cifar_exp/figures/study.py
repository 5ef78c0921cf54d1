"""Figures of a hyperparameter study: what the levels of a setting do, over several seeds."""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

_WIDTH = 7.5  # inches, which are the 720 px of the page's column: so 9 pt are 12 px there
_SMALL = 9  # pt; all other text has matplotlib's 10
# Colour-blind safe, without the yellow, which is faint on white. Source: Okabe and Ito, 2008.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_STYLES = ["-", "--", ":", "-."]  # so that levels differ in grey print as well
# Colour-blind safe as well; its end, again a yellow, is left out.
_MAP = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256)))
_FEW_EPOCHS = 12  # are drawn with markers


@dataclass(frozen=True)
class Level:
    """The runs with one level of a setting.

    Attributes:
        label: the level.
        position: its number; None where it is a word.
        seeds: for each seed the lines of metrics.jsonl; None stands for what was not finite.
    """

    label: str
    position: float | None
    seeds: list[list[dict[str, Any]]]


@dataclass(frozen=True)
class Point:
    """What one level of a setting came to.

    Attributes:
        label: the level.
        position: its number; None where it is a word.
        values: of the runs that did not diverge, one a seed, finite.
        mean: of the values; None when there are none.
        half_width: of the 95 % interval of the mean; NaN for one seed.
        diverged: how many runs diverged, besides those with values.
    """

    label: str
    position: float | None
    values: list[float]
    mean: float | None
    half_width: float
    diverged: int


def draw_level_curves(levels: Sequence[Level], title: str) -> Figure:
    """Draw loss and accuracy on both sets against the epoch, a colour a level.

    Args:
        levels: in the order of the legend.
        title: above the curves.

    Returns:
        The figure, to be saved.
    """
    figure = _new_figure(6.4, title)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    top, is_cut = _loss_limit(levels)
    any_diverged = False
    for axes, split, name in zip(panels[0], ("train", "test"), ("training", "test"), strict=True):
        axes.set_title(f"{name} set", fontsize=10)
        axes.set_ylim(0, top)
        for number, level in enumerate(levels):
            _draw_level(axes, level, number, f"{split}_loss", highest=10 * top)
            ends = [rows[-1]["epoch"] for rows in level.seeds if _has_diverged(rows)]
            if ends:
                any_diverged = True
                cross = _look(number) | {"marker": "x", "linestyle": "", "clip_on": False}
                axes.plot(ends, [top] * len(ends), zorder=4, **cross)
    for axes, split in zip(panels[1], ("train", "test"), strict=True):
        for number, level in enumerate(levels):
            _draw_level(axes, level, number, f"{split}_accuracy", highest=1)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    for axes in panels.flat:
        _tidy(axes)
    figure.align_ylabels()
    panels[0, 0].set_ylabel(f"loss (nats){f', cut at {top:.2g}' if is_cut else ''}")
    panels[1, 0].set_ylabel("accuracy (%)")
    notes = []
    if any(len(level.seeds) > 1 for level in levels):
        notes.append("thick: mean over seeds    thin: a seed    band: from lowest to highest seed")
    if any_diverged:
        notes.append("cross at the upper edge: a run diverged")
    labels = [_plain(level.label) for level in levels]
    figure.legend(
        [Line2D([], [], linewidth=2, **_look(number)) for number in range(len(levels))],
        labels,
        loc="outside lower center",
        ncols=max(1, min(6, 540 // (50 + 6 * max(map(len, labels), default=1)))),
        title="\n".join(notes) or None,
        title_fontsize=_SMALL,
        frameon=False,
    )
    return figure


def draw_effect(points: Sequence[Point], setting: str, metric: str, percent: bool) -> Figure:
    """Draw a metric against the levels of a setting: each seed, and the mean with its interval.

    The axis is logarithmic where numbers span more than a factor of eight.

    Args:
        points: the levels; words keep this order.
        setting: its name.
        metric: its name.
        percent: whether it is a fraction, to be shown in percent.

    Returns:
        The figure, to be saved.
    """
    figure = _new_figure(4)
    axes = figure.subplots()
    _tidy(axes)
    axes.margins(x=0.08)
    places, scale = _places([point.position for point in points])
    _label_ticks(axes, places, [point.label for point in points])
    axes.set_xlabel(_plain(setting) + scale)
    axes.set_ylabel(_label(metric, percent))
    seeds = [(place, v) for place, p in zip(places, points, strict=True) for v in p.values]
    means = [(place, p.mean) for place, p in zip(places, points, strict=True) if p.mean is not None]
    half_widths = [p.half_width for p in points if p.mean is not None]
    if means and all(point.position is not None for point in points):
        axes.plot(*zip(*sorted(means), strict=True), color=_COLOURS[0], linewidth=1, alpha=0.5)
    if means:
        several = not all(map(math.isnan, half_widths))
        axes.errorbar(
            [place for place, _ in means],
            [mean for _, mean in means],
            half_widths if several else None,
            fmt="o",
            capsize=4,
            color=_COLOURS[0],
            label="mean over seeds, 95 % interval" if several else "one run a level",
        )
    if len(seeds) > len(means):
        axes.plot(*zip(*seeds, strict=True), ".", color=_COLOURS[1], zorder=3, label="a seed")
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.01), min(high, 1.01))  # an interval of two seeds reaches far
    _mark_diverged(axes, points, places)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=_SMALL)
    return figure


def draw_heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    means: Sequence[Sequence[float | None]],
    row_setting: str,
    column_setting: str,
    metric: str,
    percent: bool,
) -> Figure:
    """Draw a metric for each combination of two settings, a cell each.

    Args:
        rows: the levels of the first setting, from top to bottom.
        columns: the levels of the second, from left to right.
        means: for each row the numbers of its cells; None where there is none.
        row_setting: name of the first setting.
        column_setting: name of the second.
        metric: its name.
        percent: whether it is a fraction, to be shown in percent.

    Returns:
        The figure, to be saved.
    """
    figure = _new_figure(1.6 + 0.5 * len(rows))
    axes = figure.subplots()
    values = np.array(means, dtype=float).reshape(len(rows), len(columns)) * (100 if percent else 1)
    finite = values[np.isfinite(values)]
    norm = Normalize(*((finite.min(), finite.max()) if len(finite) else (0, 1)))
    image = axes.imshow(np.ma.masked_invalid(values), _MAP, norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _SMALL}
        if math.isfinite(value):
            red, green, blue, _ = _MAP(norm(value))
            bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
            number = f"{value:.1f}" if percent else _short(value)
            axes.text(column, row, number, color="black" if bright else "white", **text)
        else:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#999999"))
            axes.text(column, row, "no\nvalue", bbox=_behind(), linespacing=0.9, **text)
    _label_ticks(axes, range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), [_plain(row) for row in rows])
    axes.tick_params(length=0)
    axes.set_xlabel(_plain(column_setting))
    axes.set_ylabel(_plain(row_setting))
    if len(finite):
        bar = figure.colorbar(image, label=_label(metric, percent))
        bar.outline.set_visible(False)
    return figure


def draw_parallel_coordinates(
    settings: Sequence[str],
    runs: Sequence[tuple[Sequence[str | float], float]],
    metric: str,
    percent: bool,
) -> Figure:
    """Draw each run as a line through its settings, coloured by the metric it came to.

    Args:
        settings: their names, an axis each.
        runs: for each run its levels, in the order of the settings, and its metric. A run
            whose metric is not finite is left out.
        metric: its name; the last axis.
        percent: whether it is a fraction, to be shown in percent.

    Returns:
        The figure, to be saved.
    """
    figure = _new_figure(4.5)
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set(xlim=(-0.05, len(settings) + 0.05), ylim=(-0.05, 1.05))
    runs = [run for run in runs if math.isfinite(run[1])]
    heights = []
    for number in range(len(settings)):
        levels = [levels[number] for levels, _ in runs]
        places = _coordinates(levels)
        names = [level if isinstance(level, str) else _short(level) for level in places]
        _draw_coordinate(axes, number, dict(zip(places.values(), names, strict=True)))
        heights.append([places[level] for level in levels])
    results = [result for _, result in runs]
    ticks = MaxNLocator(6).tick_values(min(results, default=0), max(results, default=1))
    scale = Normalize(ticks[0], ticks[-1])
    marks = {float(scale(tick)): f"{100 * tick if percent else tick:.4g}" for tick in ticks}
    _draw_coordinate(axes, len(settings), marks)
    heights.append([float(scale(result)) for result in results])
    lines = [list(enumerate(line)) for line in zip(*heights, strict=True)]
    axes.add_collection(LineCollection(lines, array=results, cmap=_MAP, linewidth=1.2, alpha=0.8))
    _label_ticks(axes, range(len(heights)), [*settings, metric + (" (%)" if percent else "")])
    return figure


def draw_importance(shares: Mapping[str, float], metric: str) -> Figure:
    """Draw how much of the variance of a metric each setting explains, the largest on top.

    Args:
        shares: of the variance, by setting, each in [0, 1].
        metric: its name.

    Returns:
        The figure, to be saved.
    """
    figure = _new_figure(1.1 + 0.36 * len(shares))
    axes = figure.subplots()
    _tidy(axes)
    ranked = sorted(shares.items(), key=lambda item: item[1])
    bars = axes.barh(
        [_plain(name) for name, _ in ranked], [share for _, share in ranked], color=_COLOURS[0]
    )
    axes.bar_label(bars, [f"{share:.0%}" for _, share in ranked], padding=4)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.06)  # room for "100%"
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(_wrapped(f"share of the variance of {metric} explained by each setting"))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as SVG and as PNG, equal figures as equal bytes.

    Args:
        figure: any.
        path: without ending; `.svg` and `.png` are appended.
    """
    # Text as paths: the page looks the same where the font is missing, and nothing overlaps.
    settings: Any = {"svg.fonttype": "path", "svg.hashsalt": "cifar_exp"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # a name in a script that the font lacks shows as boxes; that is all
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # which would move things a little at each drawing
        figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
        figure.savefig(path.with_name(f"{path.name}.png"), dpi=150)


def _new_figure(height: float, title: str = "") -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(_wrapped(title), fontsize=11)
    return figure


def _plain(text: str) -> str:
    """Take a name as it is: dollar signs are not mathematics, and long ones are shortened."""
    text = text if len(text) <= 30 else f"{text[:16]}…{text[-13:]}"
    return text.replace("$", r"\$")


def _short(number: float) -> str:
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.3g}"


def _label(metric: str, percent: bool) -> str:
    text = metric + (" (%)" if percent else "")
    return textwrap.fill(text, 40).replace("$", r"\$")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 75).replace("$", r"\$")


def _behind() -> dict[str, Any]:
    """Make text legible where it lies on lines."""
    return {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _STYLES[number % len(_STYLES)],
    }


def _has_diverged(rows: Sequence[dict[str, Any]]) -> bool:
    return bool(rows) and rows[-1]["test_loss"] is None


def _loss_limit(levels: Sequence[Level]) -> tuple[float, bool]:
    """Find where the loss axis ends and whether that cuts a run off.

    Most runs have their largest loss in the first epoch, a little less than that of guessing.
    One that exploded is orders of magnitude above, and neither an axis up to there nor a
    logarithmic one leaves the others apart. So the axis ends with the largest loss of the runs
    whose largest is at most four times that of the run a quarter from below.
    """
    runs = [rows for level in levels for rows in level.seeds if rows]
    keys = ("train_loss", "test_loss")
    largest = sorted(
        filter(None, (max(row[k] or 0.0 for row in rows for k in keys) for rows in runs))
    )
    kept = [loss for loss in largest if loss <= 4 * largest[len(largest) // 4]]
    return 1.05 * max(kept, default=0.0) or 1.0, len(kept) < len(largest)


def _draw_level(axes: Axes, level: Level, number: int, key: str, highest: float) -> None:
    epochs = sorted({row["epoch"] for rows in level.seeds for row in rows})
    values: NDArray[np.float64] = np.full((len(level.seeds), len(epochs)), np.nan)
    for seed, rows in enumerate(level.seeds):
        for row in rows:
            if row[key] is not None:
                values[seed, epochs.index(row["epoch"])] = row[key]
    look = _look(number)
    if len(values) > 1:
        # not beyond `highest`, far outside of the axes, as browsers draw no huge coordinates
        bounded = np.minimum(values, highest)
        axes.plot(epochs, bounded.T, linewidth=0.7, alpha=0.6, **look)
        # of the epochs that all seeds have: what remains when one ends is no band of all
        axes.fill_between(
            epochs, bounded.min(0), bounded.max(0), color=look["color"], alpha=0.15, linewidth=0
        )
    mean = np.minimum((values / max(1, len(values))).sum(0), highest)
    few = len(epochs) <= _FEW_EPOCHS
    axes.plot(epochs, mean, linewidth=2, marker="o" if few else None, markersize=4, **look)


def _places(positions: Sequence[float | None]) -> tuple[list[float], str]:
    """Say where levels lie on an axis, and how the axis is to be called if it is special."""
    numbers = [position for position in positions if position is not None]
    if len(numbers) < len(positions) or not numbers:
        return [float(number) for number in range(len(positions))], ""
    positive = [number for number in numbers if number > 0]
    lowest = min(positive, default=1.0)
    has_zero = min(numbers) == 0
    # a zero has no logarithm, so with one the levels must be further apart to be worth it
    if min(numbers) < 0 or max(positive, default=1.0) <= (32 if has_zero else 8) * lowest:
        return numbers, ""
    zero = math.log10(lowest) - 1
    places = [math.log10(number) if number else zero for number in numbers]
    return places, f" (log scale{', 0 set apart' if has_zero else ''})"


def _are_crowded(places: Sequence[float], widths: Sequence[float]) -> bool:
    """Tell whether texts, with their widths in points, would touch on the horizontal axis."""
    order = sorted(zip(places, widths, strict=True))
    points = 410 / (max(places) - min(places) or 1)  # a unit, where the outermost are shown
    return any((b - a) * points < (v + w) / 2 + 5 for (a, v), (b, w) in pairwise(order))


def _label_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Label the horizontal axis, slanted where the names would not fit side by side."""
    labels = [_plain(name) for name in names]
    axes.set_xticks(places, labels)
    if _are_crowded(places, [6.2 * len(label) for label in labels]):
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _mark_diverged(axes: Axes, points: Sequence[Point], places: Sequence[float]) -> None:
    """Mark at the lower edge which levels had runs that diverged, and how many."""
    marked = [(place, point) for place, point in zip(places, points, strict=True) if point.diverged]
    if not marked:
        return
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low - 0.25 * (high - low), high)  # room below the values
    at_edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": "black"}
    crosses = [place for place, _ in marked]
    axes.plot(crosses, [0.03] * len(crosses), "x", label="diverged", **at_edge)
    crowded = _are_crowded(places, [42 if point.diverged else 0 for point in points])
    for place, point in marked:
        text = f"{point.diverged} of {point.diverged + len(point.values)}"
        text += "" if crowded else "\ndiverged"
        axes.text(place, 0.07, text, fontsize=_SMALL, ha="center", **at_edge)


def _coordinates(levels: Sequence[str | float]) -> dict[str | float, float]:
    """Place the levels of a setting in [0, 1]: numbers by size, words as they come."""
    distinct = list(dict.fromkeys(levels))
    numbers = [None if isinstance(level, str) else level for level in distinct]
    places, _ = _places(numbers)
    low, high = min(places, default=0), max(places, default=0)
    return {
        level: (place - low) / (high - low) if high > low else 0.5
        for level, place in zip(distinct, places, strict=True)
    }


def _draw_coordinate(axes: Axes, number: int, marks: Mapping[float, str]) -> None:
    """Draw one of the parallel axes, with as many labels as fit."""
    shown: list[float] = []
    for place in sorted(marks):
        if not shown or place - shown[-1] > 0.06:
            shown.append(place)
            axes.annotate(
                _plain(marks[place]),
                (number, place),
                xytext=(-6, 0),
                textcoords="offset points",
                fontsize=_SMALL,
                ha="right",
                va="center",
                bbox=_behind(),
            )
    axes.vlines(number, 0, 1, color="#444444", linewidth=1, zorder=3)
    axes.plot([number] * len(shown), shown, "_", color="#444444", zorder=3)
