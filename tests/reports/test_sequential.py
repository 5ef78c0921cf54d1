"""The t test after each further seed."""

import numpy as np
import pytest

from cifar_exp.reports.sequential import chance_p, crossing_probability, level_of_each_look


@pytest.mark.parametrize(
    ("last", "false_positives"),
    # of 400,000 simulated series of paired differences, judged at 0.05 after every seed from 3
    [(6, 0.119), (10, 0.167), (12, 0.184)],
)
def test_judging_at_005_after_every_seed_finds_what_is_not_there(
    last: int, false_positives: float
) -> None:
    assert chance_p(0.05, 3, last) == pytest.approx(false_positives, abs=0.001)


@pytest.mark.parametrize(
    ("last", "level"),
    [(6, 0.0189), (8, 0.0143), (10, 0.0120), (12, 0.0104)],  # simulated as above
)
def test_the_level_of_each_look_gives_5_percent_overall(last: int, level: float) -> None:
    found = level_of_each_look(3, last)
    assert found == pytest.approx(level, abs=2e-4)
    assert chance_p(found, 3, last) == pytest.approx(0.05, abs=1e-5)


def test_one_look_is_the_t_test() -> None:
    assert chance_p(0.03, 5, 5) == pytest.approx(0.03)
    assert level_of_each_look(5, 5) == pytest.approx(0.05)


def test_different_levels_of_the_looks_are_those_of_simulated_series() -> None:
    from scipy.stats import ttest_1samp  # takes a second

    levels = [0.001, 0.02, 0.01, 0.04]
    values = np.random.default_rng(0).normal(size=(100_000, 6))
    p = np.stack([ttest_1samp(values[:, :n], 0, axis=1).pvalue for n in range(3, 7)], axis=1)
    crossed = (p <= levels).any(1).mean()
    # four standard errors of a share of 100,000
    assert crossing_probability(levels, 3) == pytest.approx(crossed, abs=0.003)


def test_one_sided_looks_count_one_tail() -> None:
    # both tails are crossed by one series in thousands only
    assert chance_p(0.006, 3, 10, one_sided=True) == pytest.approx(chance_p(0.012, 3, 10) / 2, 0.01)


@pytest.mark.parametrize("p", [1e-300, 1e-12, 1e-6, 0.01, 0.5, 0.999999])
def test_it_is_between_p_and_the_sum_over_the_looks(p: float) -> None:
    assert p <= chance_p(p, 3, 20) <= min(1.0, 18 * p) * (1 + 1e-6)


def test_it_rises_with_p() -> None:
    found = [chance_p(p, 3, 10) for p in np.geomspace(1e-12, 0.9, 30)]
    assert found == sorted(found)
