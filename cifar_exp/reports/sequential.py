"""The t test after each further seed: the probability that chance alone reaches a p value.

Judged at 0.05 after every seed from 3 to 10, an effect that does not exist is found in 17 % of
studies. Under no effect the t statistics after n, n + 1, ... seeds form a Markov chain whose law
depends on nothing unknown, so that the probability can be computed instead of bounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from cifar_exp.config.study import Study

_NEGLIGIBLE = 1e-9
_GRID = 401  # points at which the probability of a later crossing is known
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Looks:
    """The looks of a study whose seeds are added until its claims are settled.

    Attributes:
        first: seeds at the first look, at least 2; there is a look after every further seed.
        last: seeds at the last look.
    """

    first: int
    last: int

    def corrected(self, p: float, one_sided: bool = False) -> float:
        """Return the p value of one look corrected for all of them; see `chance_p`."""
        return chance_p(p, self.first, self.last, one_sided)

    @property
    def tail(self) -> float:
        """Probability on each side of an interval that covers 95 % at all looks together."""
        return level_of_each_look(self.first, self.last) / 2


@cache
def chance_p(p: float, first: int, last: int, one_sided: bool = False) -> float:
    """Return the p value corrected for looking after every seed from the first look to the last.

    Args:
        p: of the t test at one look, in (0, 1).
        first: seeds at the first look, at least 2.
        last: seeds at the last look, planned before the first.
        one_sided: whether p counts one tail only, as in tests of equivalence.

    Returns:
        The probability, under no effect, that p or less is reached at any look, in [p, 1].
    """
    looks = last - first + 1
    if looks * p < _NEGLIGIBLE:  # where the integration would round
        return looks * p
    return min(1.0, crossing_probability([p] * looks, first, one_sided))


@cache
def level_of_each_look(first: int, last: int, overall: float = 0.05) -> float:
    """Return the constant p value that, under no effect, is reached at any look with `overall`.

    Args:
        first: seeds at the first look, at least 2.
        last: seeds at the last look.
        overall: probability of a false positive in the whole study, in (0, 1).
    """
    looks = last - first + 1
    if looks == 1:
        return overall
    from scipy.optimize import brentq  # takes half a second to import

    return float(
        brentq(lambda p: chance_p(p, first, last) - overall, overall / looks, overall, rtol=1e-6)
    )


def crossing_probability(levels: Sequence[float], first: int, one_sided: bool = False) -> float:
    """Return the probability, under no effect, that some look has a p value at its level or below.

    u = sum(x) / sqrt(n sum(x^2)) is a function of t and a Markov chain: with T of Student's
    distribution with n degrees of freedom and tan(phi) = T / sqrt(n), independent of the past,
    u becomes (sqrt(n) u cos(phi) + sin(phi)) / sqrt(n + 1). The probability is integrated backwards
    from the last look.

    Args:
        levels: of the looks after `first`, `first` + 1, ... values; each in (0, 1).
        first: values at the first look, at least 2.
        one_sided: whether only a positive mean counts.

    Source: Armitage, McPherson and Rowe, 1969, for the integration over looks.
    """
    bounds = [_bound(level, first + i, one_sided) for i, level in enumerate(levels)]
    later, grid = np.zeros(2), np.array([-1.0, 1.0])
    for n, (bound, next_bound) in reversed(list(enumerate(pairwise(bounds), first))):
        lowest = -1.0 if one_sided else -bound
        here = lowest + (bound - lowest) * (1 - np.cos(np.linspace(0, math.pi, _GRID))) / 2
        later = _crosses_later(here, n, next_bound, one_sided, later, grid)
        grid = here
    start, end = (-math.pi / 2 if one_sided else -math.asin(bounds[0])), math.asin(bounds[0])
    angles = (start + end) / 2 + (end - start) / 2 * _NODES
    density = _normalizer(first - 1) * np.cos(angles) ** (first - 2)
    weights = (end - start) / 2 * _WEIGHTS
    return levels[0] + float(weights @ (density * np.interp(np.sin(angles), grid, later)))


def _bound(level: float, n: int, one_sided: bool) -> float:
    """Return u at which the p value is `level`."""
    t = -float(stdtrit(n - 1, level if one_sided else level / 2))
    return t / math.sqrt(n - 1 + t * t)


def _crosses_later(
    u: Array, n: int, bound: float, one_sided: bool, later: Array, grid: Array
) -> Array:
    """Return the probability of a crossing after look n, given u at look n.

    Args:
        u: values within the bounds of look n.
        n: values seen.
        bound: on u at look n + 1.
        one_sided: whether there is no lower bound.
        later: probability of a crossing after look n + 1, at `grid`.
        grid: values of u at look n + 1.
    """
    # u at the next look is radius * sin(phi + shift)
    radius, shift = np.sqrt((n * u**2 + 1) / (n + 1)), np.arctan(math.sqrt(n) * u)
    highest = np.arcsin(np.minimum(bound / radius, 1))
    lowest = np.full_like(highest, -math.pi / 2) if one_sided else -highest
    stays, crosses = np.zeros_like(u), np.zeros_like(u)
    # the angles phi + shift at which the next look is within its bounds
    for start, end in (
        (lowest, highest),
        (math.pi - highest, math.pi - lowest),
        (-math.pi - highest, -math.pi - lowest),
    ):
        a, b = (np.clip(x - shift, -math.pi / 2, math.pi / 2) for x in (start, end))
        stays += _distribution(b, n) - _distribution(a, n)
        phi = ((a + b) / 2)[:, None] + ((b - a) / 2)[:, None] * _NODES
        density = _normalizer(n) * np.cos(phi) ** (n - 1)
        reached = np.interp(radius[:, None] * np.sin(phi + shift[:, None]), grid, later)
        crosses += (density * reached) @ _WEIGHTS * (b - a) / 2
    return np.asarray(1 - stays + crosses)


def _distribution(phi: Array, n: int) -> Array:
    return np.asarray(stdtr(n, np.tan(phi) * math.sqrt(n)))


def _normalizer(n: int) -> float:
    """Return what makes cos(phi)^(n - 1) a density on (-pi/2, pi/2)."""
    return math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)


def looks_of(*studies: Study) -> Looks | None:
    """Return the times at which the results are tested; None if the seeds are fixed.

    Args:
        studies: the parts of a study, whose seeds may be added.
    """
    adding = [study for study in studies if study.add_seeds]
    if not adding:
        return None
    first = min(len(study.seeds) for study in adding)
    return Looks(first, max(study.max_seeds for study in adding))
