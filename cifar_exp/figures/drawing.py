"""What the figures of a report share: size, colours, text on axes, and how they become files."""

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

_WIDTH = 7.5  # inches, which are the 720 px of the page's column: so 9 pt are 12 px there
SMALL = 9  # pt; all other text has matplotlib's 10
# Colour-blind safe, without the yellow, which is faint on white. Source: Okabe and Ito, 2008.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def as_files(figure: Figure) -> dict[str, bytes]:
    """Return a figure as the content of files: equal figures give equal bytes.

    Args:
        figure: any.

    Returns:
        The content by the ending of the file's name, ".svg" and ".png".
    """
    # Text as paths: the page looks the same where the font is missing, and nothing overlaps.
    settings: Any = {"svg.fonttype": "path", "svg.hashsalt": "cifar_exp"}
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # a name in a script that the font lacks shows as boxes; that is all
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # which would move things a little at each drawing
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=150)
    return {".svg": svg.getvalue(), ".png": png.getvalue()}


def new_figure(height: float, title: str = "") -> Figure:
    """Return a figure as wide as the page. Args: height: in inches. title: above it."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    if title:
        figure.suptitle(wrapped_text(title), fontsize=11)
    return figure


def tidy(axes: Axes) -> None:
    """Give axes a faint grid and no box."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plain_text(text: str) -> str:
    """Take a name as it is: dollar signs are not mathematics, and long ones are shortened."""
    text = text if len(text) <= 30 else f"{text[:16]}…{text[-13:]}"
    return text.replace("$", r"\$")


def short_number(number: float) -> str:
    """Return a number in a few digits."""
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.3g}"


def metric_label(metric: str, percent: bool) -> str:
    """Return what stands at the axis of a metric."""
    text = metric + (" (%)" if percent else "")
    return textwrap.fill(text, 40).replace("$", r"\$")


def wrapped_text(text: str) -> str:
    """Break a long text into lines."""
    return textwrap.fill(text, 75).replace("$", r"\$")


def legible() -> dict[str, Any]:
    """Make text legible where it lies on lines."""
    return {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}


def axis_places(positions: Sequence[float | None]) -> tuple[list[float], str]:
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


def label_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Label the horizontal axis, slanted where the names would not fit side by side."""
    labels = [plain_text(name) for name in names]
    axes.set_xticks(places, labels)
    if are_crowded(places, [6.2 * len(label) for label in labels]):
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def are_crowded(places: Sequence[float], widths: Sequence[float]) -> bool:
    """Tell whether texts, with their widths in points, would touch on the horizontal axis."""
    order = sorted(zip(places, widths, strict=True))
    points = 410 / (max(places) - min(places) or 1)  # a unit, where the outermost are shown
    return any((b - a) * points < (v + w) / 2 + 5 for (a, v), (b, w) in pairwise(order))
