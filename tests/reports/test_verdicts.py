"""Verdicts on claims."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Claim
from cifar_exp.data.settings import Cifar10
from cifar_exp.reports.verdicts import Levels, judge_claims
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record
from tests.claims import (
    BASE,
    CASES,
    DIVERGED,
    LITTLE,
    MATTERS,
    MUCH,
    POINT_03,
    POINT_5,
    UP,
    claimed,
    found,
    made,
    outcomes,
    plus,
    run,
)


@pytest.mark.parametrize("expects", CASES)
def test_a_clear_effect_supports_the_claim_that_predicts_it(expects: str) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    result = found(claim, outcomes(*CASES[expects]["supported"]))
    assert result.verdict == "supported"
    assert (result.n, result.missing) == (3, ())
    assert result.p is not None
    assert result.p < 0.05


@pytest.mark.parametrize("expects", CASES)
def test_the_opposite_effect_contradicts_the_claim(expects: str) -> None:
    result = found(claimed(expects, matters_from=MATTERS), outcomes(*CASES[expects]["opposite"]))
    assert (result.verdict, result.n) == ("contradicted", 3)


@pytest.mark.parametrize("expects", sorted(CASES.keys() - {"same"}))
def test_a_difference_too_small_to_matter_contradicts_the_claim(expects: str) -> None:
    # mean 0.05, interval from 0.0376 to 0.0624: significant, but too small
    step = [0.05 + d for d in LITTLE]
    steps = {"lower": ([-s for s in step],) * 2, "falls": (LITTLE, [-s for s in step])}
    steps["best_inside"] = ([-s for s in step], LITTLE)
    result = found(
        claimed(expects, matters_from=MATTERS), outcomes(*steps.get(expects, (step, step)))
    )
    assert result.verdict == "contradicted"
    assert found(claimed(expects), outcomes(LITTLE, LITTLE[::-1])).verdict != "supported"


@pytest.mark.parametrize("expects", CASES)
def test_noise_is_inconclusive_and_the_sentence_names_the_number_of_seeds_needed(
    expects: str,
) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    both = (MUCH, [2 * d for d in MUCH]) if expects != "best_inside" else (MUCH, LITTLE)
    result = found(claim, outcomes(*both))
    assert (result.verdict, result.n) == ("inconclusive", 3)
    assert re.search(r"p = \d.* About \d+ seeds would be needed for a verdict\.$", result.sentence)


@pytest.mark.parametrize("expects", CASES)
def test_one_seed_is_observed_and_not_tested(expects: str) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    result = found(claim, {0.01: [1.0], 0.1: [2.0], 1.0: [3.0]})
    assert result.verdict == "one seed: observed, not tested"
    assert (result.n, result.p) == (1, None)
    assert re.search(r"\(1 seed[;)]", result.sentence)
    assert " to " not in result.sentence.replace("to all levels", "")
    assert "p =" not in result.sentence


def test_one_diverged_seed_is_not_tested() -> None:
    result = found(claimed("higher"), {0.01: [1.0], 0.1: [DIVERGED]})
    assert result.verdict == "one seed: observed, not tested"


@pytest.mark.parametrize(("matters_from", "verdict"), [(0.5, "supported"), (0.6, "contradicted")])
def test_a_significant_difference_must_be_large_enough_to_matter(
    matters_from: float, verdict: str
) -> None:
    claim = claimed("higher", matters_from=matters_from)
    shift = [0.53125, 0.5, 0.53125]  # mean 0.5208, half-width 0.0448
    assert found(claim, {0.01: BASE, 0.1: plus(*shift)}).verdict == verdict


def test_a_difference_that_may_or_may_not_matter_is_inconclusive() -> None:
    claim = claimed("higher", matters_from=0.51)
    shift = [0.46, 0.5, 0.54]  # interval from 0.4 to 0.6
    assert found(claim, {0.01: BASE, 0.1: plus(*shift)}).verdict == "inconclusive"


def test_same_needs_the_whole_interval_within_the_margin() -> None:
    # one-sided: t = (0.1 - 0.05) / (0.02 / sqrt(3)) = 4.33, so p is half of 0.0494
    close = {0.01: BASE, 0.1: plus(0.03, 0.05, 0.07)}
    result = found(claimed("same", matters_from=0.1), close)
    assert result.verdict == "supported"
    assert result.p == pytest.approx(0.0247, abs=1e-4)
    # mean 0, but the difference may be as large as 0.15
    vague = {0.01: BASE, 0.1: plus(-0.06, 0.0, 0.06)}
    assert found(claimed("same", matters_from=0.1), vague).verdict == "inconclusive"


def test_a_claim_on_two_levels_ignores_the_others() -> None:
    result = found(claimed("higher"), {0.01: BASE, 0.1: plus(*UP), 1.0: plus(*MUCH)})
    assert result == found(claimed("higher"), {0.01: BASE, 0.1: plus(*UP)})


def test_rises_is_the_change_along_a_line_fitted_for_each_seed() -> None:
    # 0, 0, 3 has the slope 1.5, so a change of 3; 0, 3, 0 has no change
    levels = {1: [0.0, 0.0], 2: [0.0, 3.0], 3: [3.0, 0.0]}
    result = found(claimed("rises"), levels)
    # mean 1.5, standard deviation 3 / sqrt(2), half-width 12.706 * 1.5
    assert result.sentence.startswith(
        "3 has 1.50 nats more than 1 (-17.56 to 20.56; 2 seeds; along a line fitted to all levels; "
    )


def test_rises_uses_the_order_of_the_levels_not_their_size() -> None:
    levels = {"none": BASE, "flip": plus(*UP)}
    assert found(claimed("rises"), levels).verdict == "supported"
    assert found(claimed("falls"), levels).verdict == "contradicted"


def test_a_count_that_is_equal_for_all_seeds_has_a_tiny_p_value() -> None:
    def of_160_images(batch_size: int, seed: int) -> Record:
        config = RunConfig(seed=seed, data=Cifar10(batch_size=batch_size))
        rows = [{"images_per_second": 160.0, "train_seconds": 1.0}]
        return Record(config, RunFolder(Path("runs") / "x"), "complete", {}, rows)

    levels = {size: [of_160_images(size, seed) for seed in range(3)] for size in (16, 64)}
    claim = Claim(says="S.", metric="steps_per_epoch", expects="falls")
    (result,) = judge_claims([claim], levels)
    assert result.verdict == "supported"
    assert result.sentence == (
        "16 has 7 steps more than 64 (7 to 7; 3 seeds; along a line fitted to all levels; "
        "p < 0.0001 for this comparison). Steps per epoch: 10 steps at 16; 3 steps at 64."
    )


# Several levels.


def test_levels_differ_if_two_of_them_do() -> None:
    clear = {1: BASE, 2: plus(*UP), 3: plus(*[1.1 * d for d in UP])}
    assert found(claimed("differs", matters_from=0.1), clear).verdict == "supported"
    # on average 3 is farther from 1 than 2, but noisy; 2 is not
    noisy = {1: BASE, 2: plus(*UP), 3: plus(2.5, -1.0, 1.0)}
    assert found(claimed("differs", matters_from=0.1), noisy).verdict == "supported"
    # a diverged run at 3 does not affect 1 and 2
    diverged = {1: BASE, 2: plus(*UP), 3: [1.3, DIVERGED, 1.2]}
    assert found(claimed("differs", matters_from=0.1), diverged).verdict == "supported"


def test_differs_is_inconclusive_while_two_levels_may_differ() -> None:
    # 2 is above 1 by 0.02, clearly less than 0.1; 3 is by 0.01, but may be by 0.6
    levels = {1: BASE, 2: plus(0.018, 0.02, 0.022), 3: plus(0.25, -0.23, 0.01)}
    assert found(claimed("differs", matters_from=0.1), levels).verdict == "inconclusive"


def test_differs_is_corrected_for_the_number_of_pairs() -> None:
    two = {1: BASE, 2: plus(*POINT_03)}
    assert found(claimed("differs"), two).p == pytest.approx(0.03, abs=1e-4)
    three = two | {3: BASE}  # three pairs, two of them with 0.03 and one with 1
    assert found(claimed("differs"), three).p == pytest.approx(0.09, abs=3e-4)


def test_diverged_seeds_do_not_hide_a_clear_difference() -> None:
    # the differences between 1 and 2 are inf and -inf
    levels = {1: [DIVERGED, 1.0, 1.0], 2: [1.0, DIVERGED, 1.0], 3: [9.0, 9.0, 9.0], 4: [1.0] * 3}
    assert found(claimed("differs"), levels).verdict == "supported"


# Several claims.


def three_metrics(first: Sequence[float]) -> Levels:
    """Runs whose training loss differs by `first`, and test loss and accuracy with p = 0.5."""

    def at(level: float, seed: int) -> Record:
        more, noise = (first[seed], POINT_5[seed]) if level == 0.1 else (0.0, 0.0)
        others = {"test_loss": 1 + noise, "test_accuracy": 0.5 + noise}
        return run(seed, "final_train_loss", BASE[seed] + more, **others)

    return {level: [at(level, seed) for seed in range(3)] for level in (0.01, 0.1)}


OTHERS = [
    claimed("higher", metric="final_test_loss"),
    claimed("higher", metric="final_test_accuracy"),
]


def test_p_is_corrected_for_the_number_of_claims() -> None:
    levels = three_metrics(POINT_03)
    (alone,) = judge_claims([claimed("higher")], levels)
    assert alone.p == pytest.approx(0.03, abs=1e-4)
    assert alone.verdict == "supported"
    first, *others = judge_claims([claimed("higher"), *OTHERS], levels)
    assert first.p == pytest.approx(0.09, abs=3e-4)
    assert first.verdict == "inconclusive"
    assert "p = 0.03 for this comparison, corrected p = 0.09)." in first.sentence
    assert [other.p for other in others] == pytest.approx([1.0, 1.0], abs=1e-4)


def test_an_opposite_difference_must_be_significant_after_the_correction() -> None:
    levels = three_metrics([-d for d in POINT_03])
    (alone,) = judge_claims([claimed("higher")], levels)
    assert alone.verdict == "contradicted"
    first, *_ = judge_claims([claimed("higher"), *OTHERS], levels)
    assert first.p == pytest.approx(0.09, abs=3e-4)
    assert first.verdict == "inconclusive"


def test_claims_that_are_not_tested_do_not_count_in_the_correction() -> None:
    levels = three_metrics(POINT_03)
    not_measured = claimed("higher", than=7)
    first, second, third = judge_claims([not_measured, claimed("higher"), not_measured], levels)
    assert second.p == pytest.approx(0.03, abs=1e-4)
    assert first == third
    assert first.verdict == "not measured"


def test_results_have_the_order_of_the_claims() -> None:
    claims = [*OTHERS, claimed("higher")]
    assert [result.claim for result in judge_claims(claims, three_metrics(POINT_03))] == claims
    assert judge_claims([], three_metrics(POINT_03)) == []


def test_the_best_two_levels_are_compared_if_no_claim_is_about_some_levels() -> None:
    named = claimed("higher", metric="final_test_accuracy")  # 0.1 than 0.01
    outcomes = {0.02: [0.5, 0.6, 0.7], 0.03: [0.61, 0.7, 0.79], 0.04: [0.1, 0.2, 0.3]}
    claim, best = judge_claims([named], made(outcomes, "final_test_accuracy"))
    assert claim.verdict == "not measured"
    assert best.claim.says == "0.03, the best level, is better than 0.02, the second best."
    assert (best.verdict, best.n) == ("supported", 3)
    # corrected for three pairs
    t = 0.1 * math.sqrt(3) / 0.01
    # the number of images changes p by less than one percent
    assert best.p == pytest.approx(3 * (1 - t / math.sqrt(t**2 + 2)), rel=0.01)
    assert "0.03 beats 0.02 by 10.0 points" in best.sentence


def test_the_best_two_levels_are_not_compared_if_claims_are_about_all_levels() -> None:
    outcomes = {0.01: [0.5, 0.6], 0.1: [0.7, 0.8]}
    claim = claimed("higher", metric="final_test_accuracy")
    assert len(judge_claims([claim], made(outcomes, "final_test_accuracy"))) == 1
