"""Helpers for figures: size, colours, labels, axes and file formats."""

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH = 7.5  # inches, 720 px in the report, where 9 pt are 12 px
SMALL = 9  # pt; other text has 10 pt, the default of Matplotlib
# Colour-blind safe; without yellow, which is hard to see on white. Source: Okabe and Ito, 2008.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def as_files(figure: Figure) -> dict[str, bytes]:
    """Render a figure as SVG and PNG; equal figures give equal bytes.

    Args:
        figure: any figure.

    Returns:
        The content of the files by suffix, ".svg" and ".png".
    """
    # text as paths does not depend on the installed fonts
    settings: Any = {"svg.fonttype": "path", "svg.hashsalt": "cifar_exp"}
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # characters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # else each rendering moves the axes slightly
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=150)
    return {".svg": svg.getvalue(), ".png": png.getvalue()}


def new_figure(height: float, title: str = "") -> Figure:
    """Create a figure as wide as the report.

    Args:
        height: in inches.
        title: of the figure.
    """
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(wrapped_text(title), fontsize=11)
    return figure


def tidy(axes: Axes) -> None:
    """Draw a light grid, and no spines at the top and right."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_text(text: str) -> str:
    """Shorten a long name, and escape dollar signs, which would start math text."""
    text = text if len(text) <= 30 else f"{text[:16]}…{text[-13:]}"
    return text.replace("$", r"\$")


def short_number(number: float) -> str:
    """Format a number with about three digits."""
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.3g}"


def metric_label(metric: str, percent: bool) -> str:
    """Return the axis label of a metric.

    Args:
        metric: its label.
        percent: whether it is a fraction shown in percent.
    """
    text = metric + (" (%)" if percent else "")
    return textwrap.fill(text, 40).replace("$", r"\$")


def wrapped_text(text: str) -> str:
    """Break a long text into lines, and escape dollar signs."""
    return textwrap.fill(text, 75).replace("$", r"\$")


def text_background() -> dict[str, Any]:
    """Return the `bbox` of text that is drawn over lines."""
    return {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}


def axis_coordinates(positions: Sequence[float | None]) -> tuple[list[float], str]:
    """Place the levels of a setting on an axis, logarithmic if they span more than a factor of 8.

    Args:
        positions: the levels; None for those that are not numbers.

    Returns:
        The coordinates, and a suffix for the axis label: " (log scale)" or "".
    """
    numbers = [position for position in positions if position is not None]
    if len(numbers) < len(positions) or not numbers:
        return [float(number) for number in range(len(positions))], ""
    positive = [number for number in numbers if number > 0]
    lowest = min(positive, default=1.0)
    has_zero = min(numbers) == 0
    # with a zero, which has no logarithm, the levels must span more than a factor of 32
    if min(numbers) < 0 or max(positive, default=1.0) <= (32 if has_zero else 8) * lowest:
        return numbers, ""
    zero = math.log10(lowest) - 1
    coordinates = [math.log10(number) if number else zero for number in numbers]
    return coordinates, f" (log scale{', 0 not to scale' if has_zero else ''})"


def label_ticks(axes: Axes, coordinates: Sequence[float], names: Sequence[str]) -> None:
    """Label the horizontal axis, and rotate the labels if they would overlap.

    Args:
        axes: to label.
        coordinates: of the ticks.
        names: of the ticks.
    """
    labels = [plain_text(name) for name in names]
    axes.set_xticks(coordinates, labels)
    if would_overlap(coordinates, [6.2 * len(label) for label in labels]):
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def would_overlap(coordinates: Sequence[float], widths: Sequence[float]) -> bool:
    """Return whether texts would overlap on the horizontal axis.

    Args:
        coordinates: centers of the texts in data units.
        widths: of the texts, in points.
    """
    texts = sorted(zip(coordinates, widths, strict=True))
    points = 410 / (max(coordinates) - min(coordinates) or 1)  # per data unit
    return any((b - a) * points < (v + w) / 2 + 5 for (a, v), (b, w) in pairwise(texts))
