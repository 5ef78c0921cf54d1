"""Compare the predicted probabilities of a network with its accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15  # Source: Guo et al., 2017


@dataclass(frozen=True)
class Bin:
    """The images whose predicted class has a probability in (low, high].

    Attributes:
        low: lower bound of the probability.
        high: upper bound of the probability.
        images: number of images.
        confidence: mean probability of the predicted class; 0 if the bin is empty.
        accuracy: fraction of correct predictions; 0 if the bin is empty.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def calibration(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], count: int = BINS
) -> list[Bin]:
    """Group predictions into bins of equal width.

    Args:
        confidence: probabilities of the predicted classes, in (0, 1].
        correct: whether the predictions are correct.
        count: number of bins.

    Shape:
        confidence and correct `(N,)`.
    """
    indices = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    images = np.bincount(indices, minlength=count)
    confidences, accuracies = (
        np.bincount(indices, weights=values, minlength=count) / np.maximum(images, 1)
        for values in (confidence, correct.astype(float))
    )
    return [
        Bin(index / count, (index + 1) / count, int(n), float(mean), float(accuracy))
        for index, (n, mean, accuracy) in enumerate(
            zip(images, confidences, accuracies, strict=True)
        )
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error, in [0, 1], where 0 is best.

    Source: Naeini et al., 2015; Guo et al., 2017, equation 3.
    """
    gaps = [b.images * abs(b.accuracy - b.confidence) for b in bins]
    return sum(gaps) / sum(b.images for b in bins)
