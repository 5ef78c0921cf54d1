"""Confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cifar_exp.figures.drawing import plain_text

_FEW_CLASSES = 6  # number of classes up to which counts are large
_MOST_NUMBERS = 20  # number of classes up to which counts fit into the cells
_MOST_NAMES = 60  # number of classes up to which their names fit, and a matrix is drawn
_SHOWN_PAIRS = 30


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], split: str) -> Figure:
    """Draw a confusion matrix, shaded by the share of the images of the true class.

    Of more than 60 classes, only the pairs with the most mistakes are drawn.

    Args:
        counts: number of images by true class (rows) and predicted class.
        classes: names of the classes.
        split: of the images, "test" or "validation".

    Shape:
        counts `(classes, classes)`.
    """
    correct, total = int(np.trace(counts)), int(counts.sum())
    title = f"{correct} of {total} {split} images correct"
    if len(classes) > _MOST_NAMES:
        return _draw_pairs(counts, classes, title, split)
    size = min(14.0, max(4.8, 2.2 + 0.32 * len(classes)))  # room for the title
    figure = Figure(figsize=(size, size), layout="constrained", facecolor="white")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title, fontsize=11)
    names = [plain_text(name) for name in classes]
    fontsize = 10 if len(classes) <= _MOST_NUMBERS else 5
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=fontsize)
    axes.set_yticks(range(len(names)), names, fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= _MOST_NUMBERS:
        number_size = 8 if len(classes) > _FEW_CLASSES else 12
        for row, column in np.argwhere(counts):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                color="white" if shares[row, column] > 0.5 else "black",
                fontsize=number_size,
                ha="center",
                va="center",
                in_layout=False,  # the layout does not depend on it
            )
    return figure


def _draw_pairs(
    counts: NDArray[np.int64], classes: Sequence[str], title: str, split: str
) -> Figure:
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_SHOWN_PAIRS]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True)]
    pairs = [pair for pair in pairs if mistakes[pair]]
    figure = Figure(figsize=(8, 1.2 + 0.24 * max(1, len(pairs))), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(pairs)), [int(mistakes[pair]) for pair in pairs])
    axes.bar_label(bars, padding=3)
    names = [f"{plain_text(classes[i])}, predicted {plain_text(classes[j])}" for i, j in pairs]
    axes.set_yticks(range(len(pairs)), names)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=f"{split} images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{title}; the most confused pairs", fontsize=11)
    return figure
