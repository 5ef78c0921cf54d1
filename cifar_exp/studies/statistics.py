"""Means over seeds, with honest intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.special import stdtrit

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half_width: of the 95 % interval around it; NaN for one value, which has none.
        n: how many values there are.
    """

    mean: float
    half_width: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its Student t interval.

    A bootstrap interval is not used: with three seeds it covers the truth in 75 % of cases only.

    Args:
        values: one a seed, at least one.

    Source: Student, 1908; Gosset's t with n - 1 degrees of freedom.
    """
    n = len(values)
    if n == 1:
        return Estimate(values[0], math.nan, 1)
    quantile = float(stdtrit(n - 1, (1 + _CONFIDENCE) / 2))
    return Estimate(mean(values), quantile * stdev(values) / math.sqrt(n), n)
