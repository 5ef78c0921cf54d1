"""Helpers for figures: size, colours, labels, axes and file formats."""

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TILE = 4.0  # inches, the width of a figure; two are side by side in the report
SMALL = 9  # pt; other text has 10 pt, the default of Matplotlib
# The `bbox` of text that is drawn over lines.
TEXT_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
# Colour-blind safe; without yellow, which is hard to see on white. Source: Okabe and Ito, 2008.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
# Colour-blind safe; the ends, which are hard to see on black and on white, are left out.
COLOUR_SCALE = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.25, 0.88, 48)))
MOST_COLOURS = 12  # number of levels up to which each has a colour and an entry in the legend
# The CSS variables of report.html by the colours that they replace.
_VARIABLES = {
    **dict(zip(map(str.lower, COLOURS), ("blue", "orange", "green", "pink"), strict=False)),
    "#000000": "ink",
    "#ffffff": "paper",
}
# Smallest ranges of axes by unit, so that noise does not look like an effect.
_SMALLEST_SPANS = {"%": 0.1, "nats": 0.2}
_RELATIVE_SPAN = 0.25  # of the largest value, for other units
_ROTATED_DISTANCE = 15  # pt, between rotated labels
_LARGEST_SCALE = 1.4  # CSS pixels per point, so that text is not larger than that of the page
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_TITLE = "title:"
_NOT_IN_XML = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def as_files(figure: Figure, name: str = "") -> dict[str, bytes]:
    """Render a figure as SVG and PNG; equal figures give equal bytes.

    Args:
        figure: any figure.
        name: part of the ids in the SVG, which differ between the figures of a page.

    Returns:
        The content of the files by suffix, ".svg" and ".png".
    """
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"cifar_exp {name}"}
    svg, png = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # characters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        lay_out(figure)
        figure.savefig(svg, format="svg", transparent=True)
        figure.savefig(png, format="png", dpi=150)
    return {".svg": _with_titles(svg.getvalue()), ".png": png.getvalue()}


def lay_out(figure: Figure) -> None:
    """Place the axes of a figure for good.

    With a layout engine, each `savefig` would draw twice and move the axes slightly.
    """
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)  # "none" is an engine, too


def _with_titles(svg: str) -> bytes:
    """Add the titles that `hover` has set, and remove the metadata and the ids of groups."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(re.sub(_NOT_IN_XML, "?", svg))
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for group in root.iter(f"{{{_SVG}}}g"):
        title = group.attrib.pop("id", "")
        if title.startswith(_TITLE):
            element = ElementTree.Element(f"{{{_SVG}}}title")
            element.text = title.removeprefix(_TITLE)
            group.insert(0, element)
    return ElementTree.tostring(root, encoding="unicode").encode()


def inline_svg(file: bytes, label: str) -> str:
    """Return an SVG file as part of a page, with the width, the font and the colours of the page.

    Figures that are wider than `TILE` have the class "broad".

    Args:
        file: as `as_files` returns it.
        label: description for screen readers, escaped.
    """
    svg = file.decode()
    head, _, body = svg[svg.index("<svg") :].partition(">")
    size = re.search(r' width="([\d.]+)pt"', head)
    points = float(size[1]) if size else 72 * TILE
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    broad = ' class="broad"' if points > 72 * TILE else ""
    head += f'{broad} style="max-width: {_LARGEST_SCALE * points:.0f}px"'
    body = re.sub(r"<style.*?</style>", "", body, count=1)
    body = re.sub(r"font-family: [^;\"]*(?:; )?", "", body)
    body = re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _page_colour, body)
    return f'{head} role="img" aria-label="{label}">{body}'


def _page_colour(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match[2])
    return f"{match[1]}: var(--{name})" if name else match[0]


def hover(artist: Artist, text: str) -> None:
    """Set the text that browsers show when the mouse is over an artist."""
    artist.set_gid(_TITLE + text)


def new_figure(height: float, title: str = "", width: float = TILE) -> Figure:
    """Create a figure.

    Args:
        height: in inches.
        title: of the figure.
        width: in inches; the report shows figures that are wider than `TILE` in a row of their own.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    if title:
        text = wrapped_text(title[0].upper() + title[1:], round(11 * width))
        figure.suptitle(text, fontsize=10, fontweight="bold")
    return figure


def smallest_range(low: float, high: float, unit: str) -> tuple[float, float]:
    """Widen the range of an axis to the smallest span of its unit.

    Args:
        low: smallest value, a fraction if the unit is "%".
        high: largest value.
        unit: of the values.
    """
    span = _SMALLEST_SPANS.get(unit, _RELATIVE_SPAN * max(abs(low), abs(high)))
    bottom, top = (-0.01, 1.01) if unit == "%" else (0.0 if low >= 0 else -math.inf, math.inf)
    missing = max(0.0, span - (high - low)) / 2
    return (
        max(bottom, min(low - missing, top - span)),
        min(top, max(high + missing, bottom + span)),
    )


def value_text(value: float, unit: str) -> str:
    """Format a value with its unit; those in percent are fractions."""
    return f"{100 * value:.1f} %" if unit == "%" else f"{short_number(value)} {unit}".rstrip()


def tidy(axes: Axes) -> None:
    """Draw a light grid, and no spines at the top and right."""
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def percent_axis(axes: Axes) -> None:
    """Label the vertical axis of a fraction in percent, with round numbers."""
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")


def plain_text(text: str, longest: int = 30) -> str:
    """Shorten a long name, and escape dollar signs, which would start math text."""
    if len(text) > longest:
        text = f"{text[: longest // 2 + 1]}…{text[2 - longest // 2 :]}"
    return text.replace("$", r"\$")


def short_number(number: float) -> str:
    """Format a number with about three digits."""
    return f"{number:.0f}" if 100 <= abs(number) < 1e6 else f"{number:.3g}"


def metric_label(metric: str, unit: str) -> str:
    """Return the axis label of a metric, such as "final test accuracy (%)"."""
    return wrapped_text(f"{metric} ({unit})" if unit else metric, 40)


def wrapped_text(text: str, width: int = 75) -> str:
    """Break a long text into lines of `width` characters, and escape dollar signs."""
    return textwrap.fill(text, width).replace("$", r"\$")


def shortened(text: str, longest: int) -> str:
    """Cut off the end of a text that has more than `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def axis_coordinates(positions: Sequence[float | None]) -> tuple[list[float], str]:
    """Place the levels of a setting on an axis, logarithmic if they span more than a factor of 8.

    Args:
        positions: the levels; None for those that are not numbers.

    Returns:
        The coordinates, and a suffix for the axis label: " (log scale)" or "".
    """
    numbers = [position for position in positions if position is not None]
    if len(numbers) < len(positions):
        return [float(number) for number in range(len(positions))], ""
    positive = sorted(number for number in numbers if number > 0)
    if not positive or min(numbers) < 0:
        return numbers, ""
    # with a zero, which has no logarithm, the levels must span more than a factor of 32
    factor, remark = (32, ", 0 not to scale") if 0 in numbers else (8, "")
    if positive[-1] <= factor * positive[0]:
        return numbers, ""
    zero = math.log10(positive[0]) - 1
    return [math.log10(number) if number else zero for number in numbers], f" (log scale{remark})"


def label_ticks(axes: Axes, coordinates: Sequence[float], names: Sequence[str]) -> None:
    """Label the horizontal axis, and rotate the labels if they would overlap.

    Args:
        axes: to label.
        coordinates: of the ticks.
        names: of the ticks.
    """
    labels = dict(zip(coordinates, map(plain_text, names), strict=True))
    if not would_overlap(axes, coordinates, [6.2 * len(label) for label in labels.values()]):
        axes.set_xticks([*labels], [*labels.values()])
        return
    shown = far_apart(coordinates, _ROTATED_DISTANCE / _points_per_unit(axes, coordinates))
    style: Any = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(shown, [labels[x] for x in shown], **style)


def far_apart(coordinates: Iterable[float], distance: float) -> list[float]:
    """Return the coordinates in ascending order, without those too close to the one before."""
    shown: list[float] = []
    for coordinate in sorted(coordinates):
        if not shown or coordinate - shown[-1] >= distance:
            shown.append(coordinate)
    return shown


def would_overlap(axes: Axes, coordinates: Sequence[float], widths: Sequence[float]) -> bool:
    """Return whether texts would overlap on the horizontal axis.

    Args:
        axes: of the texts.
        coordinates: centers of the texts in data units.
        widths: of the texts, in points.
    """
    texts = sorted(zip(coordinates, widths, strict=True))
    points = _points_per_unit(axes, coordinates)
    return any((b - a) * points < (v + w) / 2 + 5 for (a, v), (b, w) in pairwise(texts))


def _points_per_unit(axes: Axes, coordinates: Sequence[float]) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    width = 72 * figure.get_figwidth() - 80  # without labels and margins
    return width / (max(coordinates) - min(coordinates) or 1)
