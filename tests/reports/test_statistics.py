"""Means, intervals and p values against SciPy and values computed by hand."""

import importlib
import math
from typing import Any

import numpy as np
import pytest

from cifar_exp.reports.statistics import (
    equivalence_p_value,
    estimate,
    holm,
    p_value,
    prediction_half_width,
    seeds_needed,
)


@pytest.fixture
def stats() -> Any:
    """`scipy.stats`, whose import takes a second."""
    return importlib.import_module("scipy.stats")


def test_three_seeds_against_a_table_of_students_t() -> None:
    # mean 2, deviation 1, and t = 4.303 for 2 degrees of freedom: 4.303 / sqrt(3)
    result = estimate([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.half_width == pytest.approx(2.4841, abs=1e-4)
    assert result.n == 3


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_equals_scipys(stats: Any, n: int) -> None:
    values = np.random.default_rng(n).normal(0.7, 0.05, n).tolist()
    result = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    assert (result.mean - result.half_width, result.mean + result.half_width) == pytest.approx(
        (low, high)
    )


def test_the_prediction_interval_covers_one_further_value_in_95_percent_of_cases() -> None:
    assert prediction_half_width([1.0, 2.0, 3.0]) == pytest.approx(4.3027 * (4 / 3) ** 0.5, 1e-4)
    drawn = np.random.default_rng(0).normal(size=(4000, 4))
    covered = [abs(r[3] - r[:3].mean()) <= prediction_half_width(r[:3].tolist()) for r in drawn]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.014)  # four standard deviations


def test_one_seed_has_a_value_and_no_interval() -> None:
    result = estimate([0.5])
    assert (result.mean, result.n) == (0.5, 1)
    assert math.isnan(result.half_width)


def test_the_interval_covers_the_true_mean_in_95_percent_of_cases() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        result = estimate(generator.normal(0, 1, 3).tolist())
        covered += abs(result.mean) <= result.half_width
    # 0.95 and four standard deviations of 2000 draws
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_equal_values_have_an_interval_of_width_zero() -> None:
    assert estimate([0.25, 0.25]).half_width == 0.0


def test_two_values_against_a_table_of_students_t() -> None:
    # deviation sqrt(2) over sqrt(2) values is 1, and t = 12.706 for 1 degree of freedom
    assert estimate([1.0, 3.0]).half_width == pytest.approx(12.706, abs=1e-3)


@pytest.mark.parametrize("n", [2, 3, 30])
@pytest.mark.parametrize("against", [0.0, 0.3, -1.0])
def test_the_p_value_equals_scipys(stats: Any, n: int, against: float) -> None:
    values = np.random.default_rng(n).normal(0.2, 0.5, n).tolist()
    assert p_value(values, against) == pytest.approx(stats.ttest_1samp(values, against).pvalue)


def test_paired_differences_give_the_p_value_of_the_paired_test(stats: Any) -> None:
    generator = np.random.default_rng(0)
    seeds = generator.normal(0.8, 0.1, 5)  # effects of the seeds
    one, other = seeds + generator.normal(0, 0.01, 5), seeds + generator.normal(0.02, 0.01, 5)
    expected = stats.ttest_rel(one, other).pvalue
    assert p_value((one - other).tolist()) == pytest.approx(expected)


def test_the_p_value_of_two_values_by_hand() -> None:
    # t = 2 / 1 with 1 degree of freedom, a Cauchy distribution: 1 - 2 / pi * atan(2)
    assert p_value([1.0, 3.0]) == pytest.approx(0.29517, abs=1e-5)


def test_equal_values_have_a_tiny_p_value_above_zero() -> None:
    assert 0 < p_value([0.5, 0.5, 0.5]) < 1e-300
    assert p_value([0.5, 0.5, 0.5], against=0.5) == 1.0
    assert p_value([0.0, 0.0]) == 1.0


@pytest.mark.parametrize("mean", [0.0, 0.004, -0.004, 0.011, -0.03])
@pytest.mark.parametrize("n", [2, 3, 30])
def test_equivalence_is_the_larger_of_scipys_one_sided_tests(
    stats: Any, mean: float, n: int
) -> None:
    values = np.random.default_rng(n).normal(mean, 0.002, n).tolist()
    above = stats.ttest_1samp(values, -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.01, alternative="less").pvalue
    assert equivalence_p_value(values, 0.01) == pytest.approx(max(above, below))


def test_equal_values_at_the_margin_or_beyond_are_not_equivalent() -> None:
    assert equivalence_p_value([0.01, 0.01], margin=0.01) == 1.0
    assert equivalence_p_value([0.02, 0.02], margin=0.01) == 1.0


def test_equal_values_within_the_margin_have_a_tiny_p_value_above_zero() -> None:
    assert 0 < equivalence_p_value([0.0, 0.0], margin=0.01) < 1e-300
    assert 0 < equivalence_p_value([-0.009, -0.009, -0.009], margin=0.01) < 1e-300


def test_equal_accuracies_have_the_interval_of_their_images() -> None:
    # 59 of 100, by hand: (59 + 2) / 104 = 0.5865, 1.96 * sqrt(0.5865 * 0.4135 / 104)
    assert estimate([0.59, 0.59], images=100).half_width == pytest.approx(0.0946, abs=1e-4)
    for share in (0.0, 1.0):
        assert 0.02 < estimate([share, share], images=100).half_width < 0.04
    few, many = (estimate([0.58, 0.60], images=n).half_width for n in (100, 10_000))
    assert few > many > estimate([0.58, 0.60]).half_width


def test_the_interval_of_an_accuracy_covers_the_true_value_in_95_percent_of_cases() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(1000):  # three equal seeds, evaluated on the same 200 images
        right = generator.random(200) < 0.8
        found = estimate([float(right.mean())] * 3, images=200)
        covered += abs(found.mean - 0.8) <= found.half_width
    assert 930 <= covered <= 970


def test_two_of_a_hundred_images_are_not_significant() -> None:
    assert p_value([0.02, 0.02], images=100) > 0.2
    assert p_value([0.02, 0.02], images=1_000_000) < 0.01
    assert equivalence_p_value([0.0, 0.0], margin=0.05, images=100) > 1e-5


def test_p_is_below_5_percent_exactly_where_the_95_percent_interval_excludes_zero() -> None:
    generator, excluded = np.random.default_rng(0), 0
    for _ in range(300):
        n, images = int(generator.integers(2, 8)), int(generator.integers(50, 5000))
        values = generator.normal(0.03, 0.02, n).tolist()
        found = estimate(values, images)
        excludes_zero = found.half_width < abs(found.mean)
        excluded += excludes_zero
        assert (p_value(values, images=images) < 0.05) == excludes_zero
        # two one-sided tests at 2.5 % each: the interval lies inside the margin
        inside = abs(found.mean) + found.half_width < 0.06
        assert (equivalence_p_value(values, 0.06, images) < 0.025) == inside
    assert 50 < excluded < 250  # both cases occur


@pytest.mark.parametrize("n", [3, 10])
def test_equally_good_models_rarely_differ_significantly(n: int) -> None:
    generator, found = np.random.default_rng(n), 0
    of_images = math.sqrt(0.05 * 0.95 / 400)  # 5 % of 400 images are classified differently
    for _ in range(400):
        shared = generator.normal(0, of_images)  # all seeds are evaluated on the same images
        seeds = generator.normal(0, of_images * math.sqrt(n), n)
        values = np.clip(0.05 + shared + seeds, -1, 1).tolist()
        found += p_value(values, against=0.05, images=400) < 0.05
    assert found <= 33  # 5 %, and three standard deviations of 400 draws


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        # 3 * 0.01; 2 * 0.02; 1 * 0.04, in the original order
        ([0.04, 0.01, 0.02], [0.04, 0.03, 0.04]),
        # 3 * 0.03; the others may not be smaller
        ([0.03, 0.03, 0.031], [0.09, 0.09, 0.09]),
        ([0.5, 0.8], [1.0, 1.0]),
        ([0.0, 1.0], [0.0, 1.0]),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


@pytest.mark.parametrize("difference", [2.0, 1.0, 0.3, 0.1])
def test_seeds_needed_is_the_smallest_number_that_is_enough(stats: Any, difference: float) -> None:
    n = seeds_needed([-1.0, 0.0, 1.0], difference)  # deviation 1

    def half_width(seeds: int) -> float:
        return float(stats.t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)

    assert half_width(n) <= difference < half_width(n - 1)


def test_seeds_needed_by_hand() -> None:
    # deviation 1: 2.776 / sqrt(5) = 1.24, and 2.571 / sqrt(6) = 1.05
    assert seeds_needed([-1.0, 0.0, 1.0], 1.2) == 6
    assert seeds_needed([0.3, 0.3], 0.001) == 2  # no deviation
    assert seeds_needed([-1.0, 0.0, 1.0], 1e-6) == 1000  # the limit
    # with 100 images their part of the half-width is 1.96 * sqrt(0.02 * 0.98 / 104) = 0.027
    assert seeds_needed([-0.02, 0.0, 0.02], 0.03) == 5  # 2.776 * 0.02 / sqrt(5) = 0.025
    assert seeds_needed([-0.02, 0.0, 0.02], 0.03, images=100) > 10
