"""How far the probabilities of a network can be believed."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from cifar_exp.figures.drawing import COLOURS, new_figure, tidy


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
