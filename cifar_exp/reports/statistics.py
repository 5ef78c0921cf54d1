"""Means over seeds, confidence intervals and tests."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.special import ndtri, stdtrit

TAIL = 0.025  # on each side of a 95 % interval
_BISECTIONS = 60  # p no longer changes after these
MAX_SEEDS = 1000  # limit of `seeds_needed`


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half_width: of the 95 % confidence interval of the mean; NaN for a single value.
        n: number of values.
    """

    mean: float
    half_width: float
    n: int

    @property
    def bounds(self) -> tuple[float, float]:
        """Both ends of the interval."""
        return self.mean - self.half_width, self.mean + self.half_width


def estimate(values: Sequence[float], images: int | None = None, tail: float = TAIL) -> Estimate:
    """Estimate the mean over seeds with its 95 % confidence interval.

    The interval combines Student's t over seeds with, for accuracies, the binomial error of the
    number of images: all seeds are evaluated on the same images, so more seeds do not reduce it.
    A bootstrap interval over three seeds would cover the true mean in only 75 % of cases.

    Args:
        values: one per seed, at least one.
        images: number of images if the values are accuracies, or differences of accuracies; None
            otherwise.
        tail: probability on each side of the interval.

    Source: Student, 1908; Agresti and Coull, 1998.
    """
    if len(values) == 1:
        return Estimate(values[0], math.nan, 1)
    half_width = _half_width(len(values), *_standard_errors(values, images), tail)
    return Estimate(mean(values), half_width, len(values))


def prediction_half_width(values: Sequence[float]) -> float:
    """Return the half-width of the 95 % prediction interval of one further value.

    Args:
        values: one per seed, at least two, finite.
    """
    n = len(values)
    return -float(stdtrit(n - 1, TAIL)) * stdev(values) * math.sqrt(1 + 1 / n)


def _standard_errors(values: Sequence[float], images: int | None) -> tuple[float, float]:
    """Return the standard errors of the mean due to the seeds and due to the images.

    For a difference of accuracies the second is a lower bound: each image counts +1, 0 or -1, and
    those that cancel out are ignored.
    """
    of_seeds, of_images = stdev(values) / math.sqrt(len(values)), 0.0
    if images is not None:
        # two additional successes and failures: an accuracy of 0 or 1 is not certain either
        share = (abs(mean(values)) * images + 2) / (images + 4)
        of_images = math.sqrt(share * (1 - share) / (images + 4))
    return of_seeds, of_images


def _half_width(n: int, of_seeds: float, of_images: float, tail: float) -> float:
    """Return the half-width of the interval that leaves a probability of `tail` on each side."""
    t = -float(stdtrit(n - 1, tail)) if of_seeds else 0.0  # t may be infinite
    return math.hypot(t * of_seeds, float(ndtri(tail)) * of_images)


def _tail(distance: float, values: Sequence[float], images: int | None) -> float:
    """Return the tail probability of the interval with this half-width, found by bisection.

    Thus p is below 0.05 exactly if the 95 % interval excludes the null hypothesis. The smallest
    value returned is the smallest positive float.
    """
    n, (of_seeds, of_images) = len(values), _standard_errors(values, images)
    low, high = math.log(sys.float_info.min), math.log(0.5)
    if _half_width(n, of_seeds, of_images, math.exp(low)) < distance:
        return sys.float_info.min
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _half_width(n, of_seeds, of_images, math.exp(middle)) > distance:
            low = middle
        else:
            high = middle
    return math.exp(high)


def p_value(values: Sequence[float], against: float = 0.0, images: int | None = None) -> float:
    """Return the two-sided p value of Student's t test that the mean is `against`.

    Args:
        values: at least two, finite.
        against: mean under the null hypothesis.
        images: see `estimate`.
    """
    distance = abs(mean(values) - against)
    if distance == 0:
        return 1.0
    return 2 * _tail(distance, values, images)


def equivalence_p_value(values: Sequence[float], margin: float, images: int | None = None) -> float:
    """Return the p value of two one-sided t tests that the mean lies within ±margin.

    Args:
        values: at least two, finite.
        margin: the largest difference that does not matter, above 0.
        images: see `estimate`.

    Source: Schuirmann, 1987.
    """
    distance = margin - abs(mean(values))
    p = _tail(abs(distance), values, images)
    return p if distance > 0 else 1 - p


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for multiple comparisons; the order is kept.

    Source: Holm, 1979.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def seeds_needed(values: Sequence[float], difference: float, images: int | None = None) -> int:
    """Return the number of seeds for a 95 % interval with at most this half-width.

    Args:
        values: the differences so far, at least two; their standard deviation is assumed.
        difference: the half-width, above 0.
        images: see `estimate`.

    Returns:
        At most `MAX_SEEDS`, which is returned also if the images alone make the interval wider.
    """
    deviation, (_, of_images) = stdev(values), _standard_errors(values, images)
    for n in range(2, MAX_SEEDS):
        if _half_width(n, deviation / math.sqrt(n), of_images, TAIL) <= difference:
            return n
    return MAX_SEEDS
