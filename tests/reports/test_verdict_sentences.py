"""What a verdict says: numbers, units and what is missing."""

import math
import re
from typing import get_args

import numpy as np
import pytest

from cifar_exp.reports.sequential import Looks
from cifar_exp.reports.verdicts import ClaimResult, judge_claims
from tests.claims import (
    BASE,
    CASES,
    DIVERGED,
    MUCH,
    UP,
    claimed,
    found,
    made,
    plus,
    run,
)


def test_the_sentence_on_two_levels() -> None:
    result = found(claimed("higher", matters_from=0.1), {0.01: BASE, 0.1: plus(0.49, 0.5, 0.51)})
    # t = 0.5 / (0.01 / sqrt(3)) = 86.6
    assert result.sentence == (
        "0.1 has 0.500 nats more than 0.01 (0.475 to 0.525; 3 seeds; p = 0.00013 for this "
        "comparison). Final training loss: 1.10 nats at 0.01; 1.60 nats at 0.1."
    )


def test_a_difference_that_may_be_chance_beats_nothing() -> None:
    claim = claimed("higher", metric="final_test_accuracy")
    result = found(claim, {0.01: (0.5, 0.6, 0.7), 0.1: (0.7, 0.5, 0.4)})
    # the level with the higher mean comes first, whatever the claim expects
    assert result.sentence.startswith("0.01 has 6.7 points more than 0.1 (-")
    assert found(claim, {0.01: (0.5,), 0.1: (0.9,)}).effects == (
        "0.1 has 40.0 points more than 0.01 (1 seed)",
    )


def test_the_sentence_on_same_names_the_margin() -> None:
    claim = claimed("same", metric="final_test_accuracy", matters_from=0.02)
    result = found(claim, {0.01: (0.5, 0.6, 0.7), 0.1: (0.501, 0.6, 0.701)})
    assert re.search(r"p [=<] [\d.]+ for a difference below 2.0 points\)", result.sentence)
    assert "beats" not in result.sentence


def test_the_sentence_on_lower_subtracts_the_lower_level() -> None:
    claim = claimed("lower", metric="final_test_accuracy")
    result = found(claim, {0.01: (0.8, 0.82, 0.84), 0.1: (0.7, 0.72, 0.75)})
    # differences 0.1, 0.1, 0.09: standard deviation 0.00577
    assert result.sentence == (
        "0.01 beats 0.1 by 9.7 points (8.1 to 11.2; 3 seeds; p = 0.0012 for this comparison). "
        "Final test accuracy: 82.0 % at 0.01; 72.3 % at 0.1."
    )


def test_the_sentence_on_epochs_names_the_accuracy() -> None:
    claim = claimed("higher", metric="epochs_to_train_accuracy", reached=0.8)
    reached = {"train_accuracy": 0.9}
    levels = {
        level: [run(seed, "final_train_loss", 1.0, **reached) for seed in range(2)]
        for level in (0.01, 0.1)
    }
    (result,) = judge_claims([claim], levels)
    assert (
        "Epochs to a training accuracy of 0.8: 1 epochs at 0.01; 1 epochs at 0.1."
        in result.sentence
    )


def test_the_sentence_on_best_inside_names_the_best_level() -> None:
    claim = claimed("best_inside", metric="final_test_accuracy")
    inside = found(claim, {1: (0.5, 0.5), 2: (0.7, 0.7), 3: (0.6, 0.6)})
    assert "Best at 2. " in inside.sentence
    assert inside.effects == (
        "2 beats 1 by 20.0 points (19.2 to 20.8; 2 seeds; p < 0.0001 for this comparison)",
        "2 beats 3 by 10.0 points (9.4 to 10.6; 2 seeds; p < 0.0001 for this comparison)",
    )
    assert inside.sentence.endswith("p < 0.0001 for the claim, corrected.")
    end = found(claim, {1: (0.5, 0.5), 2: (0.7, 0.7), 3: (0.8, 0.8)})
    assert "Best at 3, the last level. " in end.sentence
    assert (end.verdict, end.claim) == ("contradicted", claim)


def test_the_sentence_on_the_best_loss_subtracts_the_lower_from_the_higher() -> None:
    result = found(claimed("best_inside"), {1: (1.5, 1.5), 2: (1.0, 1.0), 3: (1.25, 1.25)})
    assert result.verdict == "supported"
    # the differences follow from the means
    assert "1.50 nats at 1; 1.00 nats at 2; 1.25 nats at 3." in result.sentence
    assert "1 has 0.500 nats more than 2" in result.sentence
    assert "3 has 0.250 nats more than 2" in result.sentence


def test_the_sentence_shows_a_level_that_the_study_formats_differently() -> None:
    # `than: 0` in the study, 0.0 in the settings of the run
    result = found(claimed("higher", at=0.5, than=0), {0.0: BASE, 0.5: plus(*UP)})
    assert result.verdict == "supported"
    assert re.search(r"1.10 nats at 0(\.0)?; 1.60 nats at 0.5\.", result.sentence)


def test_best_inside_is_not_measured_with_two_levels() -> None:
    assert found(claimed("best_inside"), {1: BASE, 2: plus(*UP)}).verdict == "not measured"


@pytest.mark.parametrize(
    ("expects", "mean", "deviation", "matters_from"),
    [
        ("higher", 0.15, 0.5, 0.0),
        ("higher", 0.15, 0.5, 0.1),
        ("higher", -0.05, 0.5, 0.0),
        ("higher", -0.05, 0.5, 0.1),
        ("higher", 0.02, 0.1, 0.1),
        ("higher", 0.09, 0.1, 0.1),
        ("same", 0.0, 0.1, 0.1),
        ("same", 0.08, 0.1, 0.1),
        ("same", 0.15, 0.1, 0.1),
    ],
)
def test_the_number_of_seeds_needed_is_enough_for_a_verdict(
    expects: str, mean: float, deviation: float, matters_from: float
) -> None:
    def with_seeds(n: int) -> ClaimResult:
        steps = np.arange(n) - (n - 1) / 2
        differences = mean + deviation * steps / steps.std(ddof=1)
        claim = claimed(expects, matters_from=matters_from)
        return found(claim, {0.01: [1.0] * n, 0.1: (1.0 + differences).tolist()})

    few = with_seeds(3)
    assert few.verdict == "inconclusive"
    needed = re.search(r"About (\d+) seeds would be needed for a verdict\.", few.sentence)
    assert needed is not None
    assert with_seeds(int(needed[1])).verdict != "inconclusive"


def test_the_noisier_of_two_differences_determines_the_number_of_seeds_needed() -> None:
    # 2 is clearly better than 1, and perhaps better than 3
    levels = {1: plus(*UP), 2: BASE, 3: plus(*MUCH)}
    result = found(claimed("best_inside"), levels)
    assert result.verdict == "inconclusive"
    # t * 0.4822 / sqrt(n) is at most the mean of 0.15 from n = 43 on
    assert "About 43 seeds would be needed for a verdict." in result.sentence


def test_no_sentence_contains_nan_or_inf() -> None:
    for expects in CASES:
        for levels in (
            {0.01: BASE, 0.1: [DIVERGED] * 3, 1.0: BASE},
            {0.01: [DIVERGED] * 3, 0.1: BASE, 1.0: [DIVERGED, 1.0, 1.1]},
            {0.01: [1.0], 0.1: [1.0], 1.0: [1.0]},
        ):
            result = found(claimed(expects, matters_from=0.1), levels)
            assert not re.search(r"\b(nan|inf)\b", result.sentence)
            assert result.p is None or math.isfinite(result.p)
            assert result.verdict in get_args(ClaimResult.__annotations__["verdict"])


def test_the_sentence_on_best_inside_mentions_that_three_levels_are_needed() -> None:
    claim = claimed("best_inside", metric="final_test_accuracy")
    outcomes = {0.02: [0.5, 0.6], 0.03: [0.7, 0.85]}
    inside, best = judge_claims([claim], made(outcomes, "final_test_accuracy"))
    assert inside.sentence == "Expected runs at three levels or more, got 2."
    assert best.n == 2


def test_at_the_limit_no_seeds_follow_even_if_one_diverged_at_both_levels() -> None:
    noise = (0.3, -0.2, 0.1, -0.3)
    levels = {0.01: (*BASE, 1.0, DIVERGED), 0.1: (*plus(*noise[:3]), 1.0 + noise[3], DIVERGED)}
    for last, end in ((5, "Not settled with the limit of 5 seeds."), (6, "Seeds follow.")):
        (result,) = judge_claims([claimed("higher")], made(levels), Looks(3, last))
        assert result.verdict == "inconclusive"
        assert result.sentence.endswith(end)
