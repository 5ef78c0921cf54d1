"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifar_exp.figures.drawing import plain_text

_MOST_NUMBERS = 20  # classes, with which a number still fits into a cell
_MOST_NAMES = 60  # classes, with which each still has room for its name


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix: each row is a true class, shaded by the shares of its images.

    Args:
        counts: test images by their true and predicted class.
        classes: names.

    Returns:
        The figure, to be saved.

    Shape:
        counts `(classes, classes)`.
    """
    size = min(14.0, 2.2 + 0.32 * len(classes))
    figure = Figure(figsize=(size, size), layout="constrained", facecolor="white")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{right} of {total} test images right", fontsize=11)
    if len(classes) <= _MOST_NAMES:
        names = [plain_text(name) for name in classes]
        fontsize = 10 if len(classes) <= _MOST_NUMBERS else 5
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=fontsize)
        axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= _MOST_NUMBERS:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = axes.text(column, row, f"{counts[row, column]}", color=colour, fontsize=8)
            number.set(ha="center", va="center", in_layout=False)  # the cell has its size anyway
    return figure
