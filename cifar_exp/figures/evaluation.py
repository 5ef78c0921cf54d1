"""How a network fares on test images: confusion matrix and calibration."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from cifar_exp.figures.drawing import COLOURS, SMALL, new_figure, plain_text, tidy

_MOST_NUMBERS = 20  # classes up to which every cell has its number
_MOST_NAMES = 60  # classes up to which each has its name


def draw_confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw how many images of each class were taken for which.

    Args:
        matrix: images by true class (row) and predicted class (column).
        classes: names.

    Returns:
        The figure, to be saved.

    Shape:
        matrix `(classes, classes)`.
    """
    figure = new_figure(6.6)
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    mesh = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.8)
    bar.set_label("share of the true class (%)")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    if len(classes) <= _MOST_NUMBERS:
        _write_numbers(axes, matrix, shares)
    if len(classes) <= _MOST_NAMES:
        names = [plain_text(name) for name in classes]
        size = SMALL if len(classes) <= _MOST_NUMBERS else 5
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def _write_numbers(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        if number:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)


def draw_reliability(
    edges: Sequence[float],
    images: Sequence[int],
    confidence: Sequence[float],
    accuracy: Sequence[float],
    calibration_error: float,
) -> Figure:
    """Draw accuracy against the probability of the predicted class, and how often it is given.

    Args:
        edges: of the bins of the probability, one more than there are bins.
        images: in each bin.
        confidence: mean probability in each bin.
        accuracy: fraction of each bin that is right.
        calibration_error: expected calibration error, in [0, 1].

    Returns:
        The figure, to be saved.
    """
    figure = new_figure(6.2, f"Expected calibration error {calibration_error:.3f}")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfectly calibrated")
    filled = [place for place, number in enumerate(images) if number]
    for place in filled:
        gap = _draw_bin(upper, edges[place], edges[place + 1], confidence[place], accuracy[place])
    gap.set_label("difference from the mean probability")
    upper.plot(
        [confidence[place] for place in filled],
        [accuracy[place] for place in filled],
        "o",
        color=COLOURS[0],
        label="accuracy at mean probability",
    )
    upper.set(ylabel="accuracy (%)", ylim=(0, 1.02))
    upper.legend(frameon=False, loc="upper left")
    upper.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    widths = np.diff(edges)
    lower.bar(edges[:-1], images, width=widths, align="edge", color=COLOURS[0], edgecolor="white")
    lower.set(xlabel="probability of the predicted class (%)", ylabel="images", xlim=(0, 1))
    lower.xaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    for axes in (upper, lower):
        tidy(axes)
    figure.align_ylabels()
    return figure


def _draw_bin(axes: Axes, low: float, high: float, confidence: float, accuracy: float) -> Patch:
    """Draw a bin as a bar. Returns: its upper part, which lies between accuracy and probability."""
    bottom, top = sorted((accuracy, confidence))
    width = high - low
    axes.add_patch(Rectangle((low, 0), width, bottom, color=COLOURS[0], alpha=0.25, lw=0))
    return axes.add_patch(
        Rectangle((low, bottom), width, top - bottom, color=COLOURS[1], alpha=0.4, lw=0)
    )
