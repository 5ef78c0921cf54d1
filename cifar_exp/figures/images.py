"""Grids of images with their classes."""

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
    """Draw images with their true classes; misclassified images have a frame and both classes.

    Args:
        images: RGB.
        labels: indices of the true classes.
        predicted: indices of the predicted classes.
        classes: names of the classes.

    Shape:
        images `(N, H, W, 3)`.
    """
    classes = [_shortened(name) for name in classes]
    titles, frames = [], []
    for truth, guess in zip(labels, predicted, strict=True):
        wrong = truth != guess
        titles.append(f"{classes[guess]}\nnot {classes[truth]}" if wrong else f"\n{classes[truth]}")
        frames.append(_MISTAKE_COLOUR if wrong else None)
    correct = sum(frame is None for frame in frames)
    headline = f"{correct} of {len(labels)} test images correct; framed: predicted, not true class"
    columns = min(_COLUMNS, max(5, len(images)))  # the headline needs the width of five
    return _draw_sheet(images, titles, frames, headline, columns)


def draw_mistakes(
    images: NDArray[np.uint8],
    labels: Sequence[int],
    predicted: Sequence[int],
    probabilities: Sequence[float],
    classes: Sequence[str],
) -> Figure:
    """Draw misclassified images with the probabilities of the predicted classes.

    Args:
        images: RGB, at least one.
        labels: indices of the true classes.
        predicted: indices of the predicted classes.
        probabilities: of the predicted classes, in [0, 1].
        classes: names of the classes.

    Shape:
        images `(N, H, W, 3)`.
    """
    titles = [
        f"{_shortened(classes[guess], 10)} {100 * probability:.0f} %\n"
        f"not {_shortened(classes[truth])}"
        for truth, guess, probability in zip(labels, predicted, probabilities, strict=True)
    ]
    columns = min(_COLUMNS, max(5, len(images)))
    headline = "The most confident mistakes: predicted, not true class"
    return _draw_sheet(images, titles, [None] * len(titles), headline, columns)


def draw_contact_sheet(
    images: NDArray[np.uint8], labels: Sequence[int], classes: Sequence[str]
) -> Figure:
    """Draw the first images of each class, one column per class.

    Args:
        images: RGB.
        labels: indices of the classes.
        classes: names of the classes.

    Shape:
        images `(N, H, W, 3)`.
    """
    indices = np.asarray(labels)
    rows = min(6, *(int((indices == label).sum()) for label in range(len(classes))))
    order = [
        int(np.flatnonzero(indices == label)[row])
        for row in range(rows)
        for label in range(len(classes))
    ]
    titles = [name if row == 0 else "" for row in range(rows) for name in classes]
    return _draw_sheet(images[order], titles, [None] * len(order), "", columns=len(classes))


def _shortened(name: str, longest: int = _LONGEST_TITLE) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _draw_sheet(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    frames: Sequence[str | None],
    headline: str,
    columns: int,
) -> Figure:
    """Draw all images on one Axes, where each column has width 1; many Axes would take seconds."""
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
            parse_math=False,  # class names may contain dollar signs
        )
        if frame:
            axes.add_patch(Rectangle((left, top), 0.92, 0.92, fill=False, color=frame, lw=3))
    axes.set(xlim=(0, columns), ylim=(height, 0), aspect="auto")  # imshow has changed them
    return figure
