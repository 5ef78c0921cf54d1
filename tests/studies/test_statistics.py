"""Means and intervals against values computed by hand and by SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from cifar_exp.studies.statistics import estimate


def test_three_seeds_against_the_table_of_student() -> None:
    # mean 2, deviation 1, and t = 4.303 for 2 degrees of freedom: 4.303 / sqrt(3)
    result = estimate([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(2.4841, abs=1e-4)
    assert result.n == 3


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_equals_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(0.7, 0.05, n).tolist()
    result = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    assert (result.mean - result.half_width, result.mean + result.half_width) == pytest.approx(
        (low, high)
    )


def test_one_seed_has_a_value_and_no_interval() -> None:
    result = estimate([0.5])
    assert (result.mean, result.n) == (0.5, 1)
    assert math.isnan(result.half_width)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        result = estimate(generator.normal(0, 1, 3).tolist())
        covered += abs(result.mean) <= result.half_width
    # 0.95 and four standard deviations of 2000 draws
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
