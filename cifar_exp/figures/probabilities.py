"""Images with their most probable classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cifar_exp.figures.drawing import COLOURS, SMALL, shortened

_COLUMNS = 2
_WIDTH, _HEIGHT = 3.7, 1.5  # of a cell with an image and its bars, in inches
_BAR_LEFT, _BAR_LENGTH = 2.45, 0.75
_LONGEST_FILE, _LONGEST_CLASS = 40, 13  # characters


def draw_probabilities(
    images: NDArray[np.uint8],
    names: Sequence[str],
    best: Sequence[Sequence[tuple[str, float]]],
) -> Figure:
    """Draw images with bars for the probabilities of their most probable classes.

    Args:
        images: RGB, preprocessed for the network.
        names: of the image files.
        best: up to five classes of each image with their probabilities, the most probable first.

    Shape:
        images `(N, H, W, 3)`.
    """
    columns = min(_COLUMNS, len(images))
    width, height = columns * _WIDTH, -(-len(images) // columns) * _HEIGHT
    figure = Figure(figsize=(width, height), facecolor="white")
    # a single Axes, whose unit is an inch; one per image would take seconds
    axes = figure.add_axes((0, 0, 1, 1), frame_on=False)
    axes.set_axis_off()
    for number, (image, name, classes) in enumerate(zip(images, names, best, strict=True)):
        row, column = divmod(number, columns)
        _draw_cell(axes, column * _WIDTH, row * _HEIGHT, image, name, classes)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")  # imshow has changed them
    return figure


def _draw_cell(
    axes: Axes,
    left: float,
    top: float,
    image: NDArray[np.uint8],
    name: str,
    classes: Sequence[tuple[str, float]],
) -> None:
    extent = (left + 0.1, left + 1.2, top + 1.4, top + 0.3)
    axes.imshow(image, extent=extent, interpolation="nearest")
    title = name if len(name) <= _LONGEST_FILE else "…" + name[-_LONGEST_FILE + 1 :]
    # names may contain dollar signs
    text: Any = {"va": "center", "fontsize": SMALL, "parse_math": False}
    axes.text(left + 0.1, top + 0.17, title, **text)
    for rank, (label, probability) in enumerate(classes):
        middle = top + 0.41 + 0.22 * rank
        bar, length = left + _BAR_LEFT, _BAR_LENGTH * probability
        axes.text(bar - 0.08, middle, shortened(label, _LONGEST_CLASS), ha="right", **text)
        colour = COLOURS[0] if rank == 0 else "#9DB7C7"
        axes.add_patch(Rectangle((bar, middle - 0.07), length, 0.14, color=colour, lw=0))
        axes.text(bar + length + 0.05, middle, f"{100 * probability:.0f} %", **text)
