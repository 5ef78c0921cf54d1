"""Grids of images with their classes."""

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cifar_exp.figures.drawing import COLOURS, shortened

_COLUMNS = 10
_MISTAKE_COLOUR = COLOURS[1]
_LONGEST_TITLE = 14  # characters that fit above an image


def draw_predictions(
    images: NDArray[np.uint8],
    labels: Sequence[int],
    predicted: Sequence[int],
    classes: Sequence[str],
    split: str,
) -> Figure:
    """Draw images with their true classes; misclassified images have a frame and both classes.

    Args:
        images: RGB.
        labels: indices of the true classes.
        predicted: indices of the predicted classes.
        classes: names of the classes.
        split: of the images, "test" or "validation".

    Shape:
        images `(N, H, W, 3)`.
    """
    classes = [shortened(name, _LONGEST_TITLE) for name in classes]
    pairs = [*zip(labels, predicted, strict=True)]
    titles = [
        f"{classes[guess]}\nnot {classes[truth]}" if truth != guess else f"\n{classes[truth]}"
        for truth, guess in pairs
    ]
    wrong = {number for number, (truth, guess) in enumerate(pairs) if truth != guess}
    correct = len(pairs) - len(wrong)
    shares = f"{correct} of {len(labels)} {split} images correct"
    headline = f"{shares}; framed: predicted, not true class"
    return _draw_sheet(images, titles, headline, framed=wrong)


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
        f"{shortened(classes[guess], 10)} {100 * probability:.0f} %\n"
        f"not {shortened(classes[truth], _LONGEST_TITLE)}"
        for truth, guess, probability in zip(labels, predicted, probabilities, strict=True)
    ]
    return _draw_sheet(images, titles, "The most confident mistakes: predicted, not true class")


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
    return _draw_sheet(images[order], titles, columns=len(classes))


def _draw_sheet(
    images: NDArray[np.uint8],
    titles: Sequence[str],
    headline: str = "",
    framed: Collection[int] = (),
    columns: int | None = None,
) -> Figure:
    """Draw all images on one Axes, where each column has width 1; many Axes would take seconds."""
    columns = columns or min(_COLUMNS, max(5, len(images)))  # the headline needs the width of five
    rows = -(-len(images) // columns)
    title_height = 0.32 if any("\n" in title for title in titles) else 0.05
    height = rows * (1 + title_height) + 0.25
    figure = Figure(figsize=(columns, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(height, 0), frame_on=False)
    axes.set_axis_off()
    axes.text(columns / 2, 0.14, headline, fontsize=11, ha="center", va="center")
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(number, columns)
        left, top = column + 0.04, row * (1 + title_height) + title_height + 0.25
        right, bottom = left + 0.92, top + 0.92
        axes.imshow(image, extent=(left, right, bottom, top), interpolation="nearest")
        axes.text(
            left + 0.46,
            top - 0.04,
            title,
            fontsize=8,
            color=_MISTAKE_COLOUR if number in framed else "black",
            ha="center",
            va="bottom",
            parse_math=False,  # class names may contain dollar signs
        )
        if number in framed:
            frame = Rectangle((left, top), 0.92, 0.92, fill=False, color=_MISTAKE_COLOUR, lw=3)
            axes.add_patch(frame)
    axes.set(xlim=(0, columns), ylim=(height, 0), aspect="auto")  # imshow has changed them
    return figure
