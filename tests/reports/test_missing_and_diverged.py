"""Verdicts on claims about runs that are missing or diverged, or never reach an accuracy."""

import re
from collections.abc import Sequence

import pytest

from cifar_exp.config.study import MetricOfRun
from cifar_exp.reports.verdicts import ClaimResult, judge_claims
from tests.claims import (
    BASE,
    CASES,
    DIVERGED,
    FAILED,
    POINT_03,
    UP,
    Outcomes,
    claimed,
    found,
    made,
    plus,
    run,
)

# Missing seeds.


def test_unpaired_seeds_are_left_out() -> None:
    levels = {0.01: [1.0, 1.1, FAILED, 1.3], 0.1: [1.49, 1.6, 1.7]}
    result = found(claimed("higher"), levels)
    assert result.n == 2
    assert "; 2 seeds; " in result.sentence
    assert result.missing == ("0.01 with seed 2 (failed)",)


def test_seeds_are_paired_by_number_not_by_order() -> None:
    levels = made({0.01: BASE, 0.1: plus(*UP)})
    shuffled = {level: sorted(runs, key=lambda r: -r.config.seed) for level, runs in levels.items()}
    mixed = {0.01: levels[0.01], 0.1: shuffled[0.1]}
    assert judge_claims([claimed("higher")], mixed) == judge_claims([claimed("higher")], levels)


@pytest.mark.parametrize("status", ["failed", "pending", "interrupted", "running"])
def test_a_run_that_has_not_ended_is_listed_as_missing(status: str) -> None:
    result = found(claimed("rises"), {0.01: BASE, 0.1: [1.5, 1.6, status]})
    assert result.missing == (f"0.1 with seed 2 ({status})",)
    assert result.n == 2


def test_levels_with_two_runs_of_a_seed_are_not_measured() -> None:
    levels = made({0.01: BASE, 0.1: plus(*UP)})
    twice = {level: [*runs, *runs] for level, runs in levels.items()}
    (result,) = judge_claims([claimed("higher")], twice)
    assert result.verdict == "not measured"
    assert result.missing[0] == "0.01 with seed 0 (2 runs)"
    assert len(result.missing) == 6


def test_rises_leaves_out_a_seed_of_which_an_inner_level_diverged() -> None:
    levels = {0.01: BASE, 0.1: [1.5, DIVERGED, 1.7], 1.0: plus(*UP)}
    result = found(claimed("rises"), levels)
    assert (result.n, result.missing) == (2, ("0.1 with seed 1 (diverged)",))
    all_diverged = found(claimed("rises"), levels | {0.1: [DIVERGED] * 3})
    assert all_diverged.verdict == "not measured"


def test_runs_at_other_levels_are_not_missing() -> None:
    levels = {0.01: BASE, 0.1: plus(*UP), 1.0: [FAILED] * 3}
    assert found(claimed("higher"), levels).missing == ()
    assert len(found(claimed("rises"), levels).missing) == 3


@pytest.mark.parametrize("expects", ["higher", "lower", "same"])
def test_a_claim_on_an_untrained_level_is_not_measured(expects: str) -> None:
    result = found(claimed(expects, matters_from=0.1), {0.01: BASE, 1.0: plus(*UP)})
    assert result.verdict == "not measured"
    assert (result.n, result.p) == (0, None)
    assert result.sentence == "There are no runs to compare."


@pytest.mark.parametrize("expects", CASES)
def test_a_claim_without_runs_is_not_measured(expects: str) -> None:
    claim = claimed(expects, matters_from=0.1)
    assert found(claim, {}).verdict == "not measured"
    failed = found(claim, {0.01: [FAILED], 0.1: [FAILED], 1.0: [FAILED]})
    assert (failed.verdict, failed.n) == ("not measured", 0)
    assert "0.1 with seed 0 (failed)" in failed.missing


def test_a_claim_without_common_seeds_is_not_measured() -> None:
    assert found(claimed("higher"), {0.01: [1.0], 0.1: [FAILED, 2.0]}).verdict == "not measured"


def test_rises_ignores_a_level_without_results() -> None:
    levels = {1: [FAILED] * 3, 2: BASE, 3: plus(*UP)}
    result = found(claimed("rises"), levels)
    assert result.verdict == "supported"
    assert len(result.missing) == 3
    assert "3 has 0.500 nats more than 2" in result.sentence


# Diverged runs.


def test_a_level_that_always_diverges_is_worse_without_a_test() -> None:
    levels = {0.01: BASE, 0.1: [DIVERGED] * 3}
    result = found(claimed("higher", matters_from=0.1), levels)
    assert (result.verdict, result.n, result.p) == ("supported", 3, None)
    assert result.missing == ()
    assert result.sentence == (
        "0.1 has a higher value than 0.01 with 3 of 3 seeds, counting divergence. "
        "Final training loss: 1.10 nats at 0.01; diverged (3 of 3 runs) at 0.1."
    )
    assert found(claimed("lower"), levels).verdict == "contradicted"
    assert found(claimed("same", matters_from=0.1), levels).verdict == "contradicted"
    assert found(claimed("rises"), levels).verdict == "supported"
    assert found(claimed("differs"), levels).verdict == "supported"


def test_a_level_that_always_diverges_is_less_accurate() -> None:
    claim = claimed("lower", metric="final_test_accuracy", matters_from=0.01)
    levels = {0.01: (0.7, 0.8), 0.1: [DIVERGED] * 2}
    assert found(claim, levels).verdict == "supported"


def test_one_diverged_run_of_three_counts_as_worse() -> None:
    levels = {0.01: BASE, 0.1: [1.5, DIVERGED, 1.7]}
    result = found(claimed("higher", matters_from=0.1), levels)
    assert (result.verdict, result.n, result.p) == ("supported", 3, None)
    assert "1.60 nats (1 of 3 diverged) at 0.1." in result.sentence


@pytest.mark.parametrize("others", [(0.5, 0.6), (1.05, 1.25)])  # better, or not enough worse
def test_one_diverged_run_of_three_is_inconclusive(others: tuple[float, float]) -> None:
    levels = {0.01: BASE, 0.1: [others[0], DIVERGED, others[1]]}
    result = found(claimed("higher", matters_from=0.1), levels)
    assert (result.verdict, result.n) == ("inconclusive", 3)
    assert re.search(
        r"higher value .* with \d of 3 seeds.* would be needed for a verdict\.$", result.sentence
    )


@pytest.mark.parametrize(
    "levels",
    [
        {0.01: BASE, 0.1: [1.0, DIVERGED, 1.2]},
        {0.01: [DIVERGED, 1.1, 1.2], 0.1: [1.0, DIVERGED, 1.2]},  # one at each level
    ],
)
def test_one_diverged_run_of_three_does_not_contradict_same(levels: Outcomes) -> None:
    assert found(claimed("same", matters_from=0.1), levels).verdict == "inconclusive"


def test_a_seed_that_diverged_at_both_levels_is_left_out() -> None:
    levels = {0.01: [DIVERGED, 1.1, 1.2], 0.1: [DIVERGED, 1.6, 1.71]}
    result = found(claimed("higher"), levels)
    assert result.n == 2
    assert result.p is not None


@pytest.mark.parametrize("expects", ["higher", "same", "rises", "differs"])
def test_the_sentence_mentions_that_both_levels_always_diverge(expects: str) -> None:
    result = found(claimed(expects, matters_from=0.1), {0.01: [DIVERGED] * 3, 0.1: [DIVERGED] * 3})
    assert result.verdict in ("not measured", "inconclusive")
    assert "diverged" in result.sentence


def reaching_80_percent(
    expects: str, first: Sequence[float], second: Sequence[float]
) -> ClaimResult:
    """Judge a claim on runs of one epoch: 0.9 reaches the accuracy 0.8, 0.5 does not."""
    metric: MetricOfRun = "epochs_to_train_accuracy"
    claim = claimed(expects, metric=metric, reached=0.8, matters_from=1)
    return found(claim, {0.01: first, 0.1: second})


def test_an_accuracy_that_is_never_reached_takes_more_epochs_than_any_other() -> None:
    result = reaching_80_percent("higher", [0.9] * 3, [0.5] * 3)
    assert result.verdict == "supported"
    assert "1 epochs at 0.01; never (3 of 3 runs) at 0.1." in result.sentence
    assert "3 of 3 seeds" in result.sentence
    assert "diverge" not in result.sentence


def test_an_accuracy_that_some_seeds_never_reach_is_inconclusive() -> None:
    result = reaching_80_percent("higher", [0.9, 0.9, 0.5], [0.5, 0.9, 0.9])
    assert result.verdict == "inconclusive"
    assert "1 epochs (1 of 3 never) at 0.01" in result.sentence
    assert "diverge" not in result.sentence


def test_the_sentence_mentions_that_neither_level_reaches_the_accuracy() -> None:
    assert "never" in reaching_80_percent("higher", [0.5] * 3, [0.5] * 3).sentence


# A best level and another that diverges, as with the learning rate.


def test_best_inside_is_supported_if_the_last_level_diverges() -> None:
    levels = {0.01: plus(*UP), 0.1: BASE, 1.0: [DIVERGED] * 3}
    result = found(claimed("best_inside"), levels)
    assert result.verdict == "supported"
    assert "Best at 0.1." in result.sentence


def test_the_finite_difference_of_a_claim_is_corrected_if_the_other_diverged() -> None:
    # test accuracies rise with the seed, the same at all levels
    levels = {
        level: [
            run(seed, "final_train_loss", outcome, test_accuracy=0.5 + 0.01 * seed)
            for seed, outcome in enumerate(of_level)
        ]
        for level, of_level in ((0.01, plus(*POINT_03)), (0.1, BASE), (1.0, [DIVERGED] * 3))
    }
    other = claimed("higher", metric="final_test_accuracy")
    alone, *_ = judge_claims([claimed("best_inside")], levels)
    assert alone.verdict == "supported"
    among_three, *_ = judge_claims([claimed("best_inside"), other, other], levels)
    assert among_three.verdict == "inconclusive"


def test_best_inside_is_not_tested_if_the_last_level_has_one_seed() -> None:
    levels = {0.01: plus(*UP), 0.1: BASE, 1.0: [2.0]}
    result = found(claimed("best_inside"), levels)
    assert result.verdict == "one seed: observed, not tested"
    assert (result.n, result.p) == (1, None)
