"""Whether a network is right as often as its probabilities say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Source: Guo et al., 2017, which most compare with


@dataclass(frozen=True)
class Bin:
    """The images whose predicted class got about the same probability.

    Attributes:
        low: lower bound of the probability, not included.
        high: upper bound, included.
        images: how many there are.
        confidence: their mean probability; 0 where there are none.
        accuracy: fraction of them that is right; 0 where there are none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def calibration(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], count: int = BINS
) -> list[Bin]:
    """Sort predictions into bins of equal width.

    Args:
        confidence: probability of the predicted class, in (0, 1].
        right: whether it is the true one.
        count: of the bins.

    Shape:
        confidence and right `(N,)`.
    """
    places = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    images = np.bincount(places, minlength=count)
    confidences, accuracies = (
        np.bincount(places, weights=values, minlength=count) / np.maximum(images, 1)
        for values in (confidence, right.astype(float))
    )
    return [
        Bin(place / count, (place + 1) / count, int(n), float(mean), float(accuracy))
        for place, (n, mean, accuracy) in enumerate(
            zip(images, confidences, accuracies, strict=True)
        )
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance of confidence and accuracy over the images: 0 is perfect, 1 worst.

    Source: Naeini et al., 2015; Guo et al., 2017, equation 3.
    """
    distances = [b.images * abs(b.accuracy - b.confidence) for b in bins]
    return sum(distances) / sum(b.images for b in bins)
