"""Sheets of images with their classes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

_COLUMNS = 10
_MISTAKE_COLOUR = "#D55E00"
_LONGEST_TITLE = 14  # characters that fit above an image


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
    classes = [_fitting(name) for name in classes]
    titles, frames = [], []
    for truth, guess in zip(labels, predicted, strict=True):
        wrong = truth != guess
        titles.append(f"{classes[guess]}\nnot {classes[truth]}" if wrong else f"\n{classes[truth]}")
        frames.append(_MISTAKE_COLOUR if wrong else None)
    right = sum(frame is None for frame in frames)
    headline = f"{right} of {len(labels)} test images right; framed: predicted, not true class"
    columns = min(_COLUMNS, max(5, len(images)))  # five are as wide as the headline
    return _draw_sheet(images, titles, frames, headline, columns)


def draw_mistakes(
    images: NDArray[np.uint8],
    labels: Sequence[int],
    predicted: Sequence[int],
    probabilities: Sequence[float],
    classes: Sequence[str],
) -> Figure:
    """Draw images that were taken for another class, with how sure the network was.

    Args:
        images: RGB, at least one.
        labels: the true classes, numbers into `classes`.
        predicted: the predicted ones.
        probabilities: of the predicted classes.
        classes: names.

    Returns:
        The figure, to be saved.

    Shape:
        images `(N, H, W, 3)`.
    """
    titles = [
        f"{_fitting(classes[guess], 10)} {probability:.0%}\nnot {_fitting(classes[truth])}"
        for truth, guess, probability in zip(labels, predicted, probabilities, strict=True)
    ]
    columns = min(_COLUMNS, max(5, len(images)))
    headline = "The most confident mistakes: predicted, not true class"
    return _draw_sheet(images, titles, [None] * len(titles), headline, columns)


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


def _fitting(name: str, longest: int = _LONGEST_TITLE) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _draw_sheet(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    frames: Sequence[str | None],
    headline: str,
    columns: int,
) -> Figure:
    """Lay the images out on one pair of axes, a unit a cell: forty pairs would take seconds."""
    rows = -(-len(images) // columns)
    title_height = 0.32 if any("\n" in title for title in titles) else 0.05
    height = rows * (1 + title_height) + 0.25
    figure = Figure(figsize=(columns, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(height, 0), frame_on=False)
    axes.set_axis_off()
    axes.text(columns / 2, 0.14, headline, fontsize=11, ha="center", va="center")
    for number, (image, title, frame) in enumerate(zip(images, titles, frames, strict=True)):
        row, column = divmod(number, columns)
        left, top = column + 0.04, row * (1 + title_height) + title_height + 0.25
        right, bottom = left + 0.92, top + 0.92
        axes.imshow(image, extent=(left, right, bottom, top), interpolation="nearest")
        axes.text(
            left + 0.46,
            top - 0.04,
            title,
            fontsize=8,
            color=frame or "black",
            ha="center",
            va="bottom",
            parse_math=False,  # class names may hold a dollar sign
        )
        if frame:
            axes.add_patch(Rectangle((left, top), 0.92, 0.92, fill=False, color=frame, lw=3))
    axes.set(xlim=(0, columns), ylim=(height, 0), aspect="auto")  # imshow changes them
    return figure
