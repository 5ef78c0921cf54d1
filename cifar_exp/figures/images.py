"""Sheets of images with their classes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_COLUMNS = 10
_MISTAKE_COLOUR = "#D55E00"


def draw_predictions(
    images: NDArray[np.uint8],
    labels: Sequence[int],
    predicted: Sequence[int],
    classes: Sequence[str],
) -> Figure:
    """Draw images with what they show; a mistake is framed and says what was taken for what.

    Args:
        images: RGB.
        labels: the true classes, numbers into `classes`.
        predicted: the predicted ones.
        classes: names.

    Returns:
        The figure, to be saved.

    Shape:
        images `(N, H, W, 3)`.
    """
    titles, frames = [], []
    for truth, guess in zip(labels, predicted, strict=True):
        wrong = truth != guess
        titles.append(f"{classes[guess]}\nnot {classes[truth]}" if wrong else f"\n{classes[truth]}")
        frames.append(_MISTAKE_COLOUR if wrong else None)
    right = sum(frame is None for frame in frames)
    headline = f"{right} of {len(labels)} test images right; framed: predicted, not true class"
    return _draw_sheet(images, titles, frames, headline)


def draw_contact_sheet(
    images: NDArray[np.uint8], labels: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Draw images, a column a class.

    Args:
        images: RGB; the first few of each class are shown.
        labels: numbers into `classes`.
        classes: names.

    Returns:
        The figure, to be saved.

    Shape:
        images `(N, H, W, 3)`.
    """
    numbers = np.asarray(labels)
    rows = min(6, *(int((numbers == label).sum()) for label in range(len(classes))))
    order = [
        int(np.flatnonzero(numbers == label)[row])
        for row in range(rows)
        for label in range(len(classes))
    ]
    titles = [name if row == 0 else "" for row in range(rows) for name in classes]
    return _draw_sheet(images[order], titles, [None] * len(order), "", columns=len(classes))


def _draw_sheet(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    frames: Sequence[str | None],
    headline: str,
    columns: int = _COLUMNS,
) -> Figure:
    rows = -(-len(images) // columns)
    has_titles = sum(map(bool, titles)) > columns
    height = 1.35 if has_titles else 1.02
    figure = Figure(figsize=(columns, rows * height + 0.4), layout="constrained")
    figure.suptitle(headline, fontsize=11)
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for cell in cells:
        cell.set_axis_off()
    for cell, image, title, frame in zip(cells, images, titles, frames, strict=False):
        cell.set_axis_on()
        cell.imshow(image, interpolation="nearest")
        cell.set_xticks([])
        cell.set_yticks([])
        cell.set_title(title, fontsize=8, color=frame or "black", pad=3)
        for side in cell.spines.values():
            side.set_visible(frame is not None)
            side.set_color(frame or "black")
            side.set_linewidth(3)
    return figure
