"""Reliability diagram of predicted probabilities."""

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
    """Draw a reliability diagram: accuracy against confidence, and a histogram of the confidence.

    The confidence is the probability of the predicted class.

    Args:
        edges: of the bins of the confidence, in [0, 1].
        images: number of images in each bin.
        confidence: mean confidence in each bin, in [0, 1].
        accuracy: accuracy in each bin, in [0, 1].
        calibration_error: expected calibration error, in [0, 1].

    Shape:
        edges `(bins + 1,)`; images, confidence and accuracy `(bins,)`.
    """
    figure = new_figure(6.2, f"Expected calibration error {calibration_error:.3f}", width=6.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfectly calibrated")
    filled = [index for index, count in enumerate(images) if count]
    for i in filled:
        gap = _draw_bin(upper, edges[i], edges[i + 1], confidence[i], accuracy[i])
    gap.set_label("difference from the mean probability")
    upper.plot(
        [confidence[i] for i in filled],
        [accuracy[i] for i in filled],
        "o",
        color=COLOURS[0],
        clip_on=False,  # whole dots at 0 and 100 %
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
    """Draw a bin as a bar; return its part between accuracy and confidence."""
    bottom, top = sorted((accuracy, confidence))
    width = high - low
    axes.add_patch(Rectangle((low, 0), width, bottom, color=COLOURS[0], alpha=0.25, lw=0))
    return axes.add_patch(
        Rectangle((low, bottom), width, top - bottom, color=COLOURS[1], alpha=0.4, lw=0)
    )
