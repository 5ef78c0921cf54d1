"""Verdicts on claims, from runs that the tests make up.

Three differences -d, 0, d around a mean have the deviation d, and the half width of their interval
is 4.303 * d / sqrt(3) = 2.484 * d. Their p value is 1 - t / sqrt(t**2 + 2).
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Claim, MetricOfRun, Value
from cifar_exp.data.settings import Cifar10
from cifar_exp.reports.verdicts import ClaimResult, Levels, judge_claims
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record

# What came out with the seeds 0, 1, 2 and so on: numbers, and these two words.
DIVERGED, FAILED = "diverged", "failed"
Outcomes = Mapping[Value, Sequence[float | str]]

BASE = (1.0, 1.1, 1.2)  # what seeds bring along differs more than the levels do


def run(seed: int, metric: MetricOfRun, outcome: float | str, **others: float) -> Record:
    status = outcome if isinstance(outcome, str) else "complete"
    value = None if isinstance(outcome, str) else outcome
    column = re.sub("^(final|best|epochs_to)_", "", metric)
    row: dict[str, Any] = {"epoch": 1, column: value, **others}
    rows = [] if outcome == FAILED else [row]
    folder = RunFolder(Path("runs") / "x")
    return Record(RunConfig(seed=seed), folder, status, {"status": status}, rows)


def made(outcomes: Outcomes, metric: MetricOfRun = "final_train_loss") -> Levels:
    return {
        level: [run(seed, metric, outcome) for seed, outcome in enumerate(of_level)]
        for level, of_level in outcomes.items()
    }


def claimed(expects: str, **changes: Any) -> Claim:
    two = {"at": 0.1, "than": 0.01} if expects in ("higher", "lower", "same") else {}
    content = {"says": "S.", "metric": "final_train_loss", "expects": expects, **two}
    return Claim.model_validate(content | changes)


def found(claim: Claim, outcomes: Outcomes) -> ClaimResult:
    finding, *_ = judge_claims([claim], made(outcomes, claim.metric))
    return finding


def plus(*differences: float) -> list[float]:
    return [value + more for value, more in zip(BASE, differences, strict=True)]


LITTLE = (-0.005, 0.0, 0.005)  # half width 0.0124
MUCH = (0.5, -0.4, 0.35)  # mean 0.15, half width 1.2
UP = tuple(0.5 + d for d in LITTLE)
DOWN = tuple(-0.5 + d for d in LITTLE)
MATTERS = 0.1

# At 0.01 what the seeds bring along; here what 0.1 and 1.0 add to it.
CASES = {
    "higher": {"supported": (UP, UP), "opposite": (DOWN, DOWN)},
    "lower": {"supported": (DOWN, DOWN), "opposite": (UP, UP)},
    "same": {"supported": (LITTLE, UP), "opposite": (UP, LITTLE)},
    "rises": {"supported": (LITTLE, UP), "opposite": (LITTLE, DOWN)},
    "falls": {"supported": (LITTLE, DOWN), "opposite": (LITTLE, UP)},
    "differs": {"supported": (LITTLE, UP), "opposite": (LITTLE, LITTLE[::-1])},
    # the loss is best where it is lowest
    "best_inside": {"supported": (DOWN, LITTLE), "opposite": (UP, LITTLE)},
}


def outcomes(first: Sequence[float], second: Sequence[float]) -> Outcomes:
    return {0.01: BASE, 0.1: plus(*first), 1.0: plus(*second)}


@pytest.mark.parametrize("expects", CASES)
def test_a_clear_effect_supports_the_claim_that_predicts_it(expects: str) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    finding = found(claim, outcomes(*CASES[expects]["supported"]))
    assert finding.verdict == "supported"
    assert (finding.n, finding.missing) == (3, ())
    assert finding.p is not None
    assert finding.p < 0.05


@pytest.mark.parametrize("expects", CASES)
def test_the_opposite_effect_contradicts_the_claim(expects: str) -> None:
    finding = found(claimed(expects, matters_from=MATTERS), outcomes(*CASES[expects]["opposite"]))
    assert (finding.verdict, finding.n) == ("contradicted", 3)


@pytest.mark.parametrize("expects", sorted(CASES.keys() - {"same"}))
def test_what_is_smaller_than_what_matters_contradicts_the_claim(expects: str) -> None:
    # mean 0.05, at least 0.0376 and at most 0.0624: no chance, and yet too little
    step = [0.05 + d for d in LITTLE]
    steps = {"lower": ([-s for s in step],) * 2, "falls": (LITTLE, [-s for s in step])}
    steps["best_inside"] = ([-s for s in step], LITTLE)
    finding = found(
        claimed(expects, matters_from=MATTERS), outcomes(*steps.get(expects, (step, step)))
    )
    assert finding.verdict == "contradicted"
    assert found(claimed(expects), outcomes(LITTLE, LITTLE[::-1])).verdict != "supported"


@pytest.mark.parametrize("expects", CASES)
def test_noise_is_inconclusive_and_says_how_many_seeds_would_settle_it(expects: str) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    both = (MUCH, [2 * d for d in MUCH]) if expects != "best_inside" else (MUCH, LITTLE)
    finding = found(claim, outcomes(*both))
    assert (finding.verdict, finding.n) == ("inconclusive", 3)
    assert re.search(r"p = \d.* About \d+ seeds would be needed for a verdict\.$", finding.sentence)


@pytest.mark.parametrize("expects", CASES)
def test_one_seed_is_observed_and_not_tested(expects: str) -> None:
    claim = claimed(expects, matters_from=MATTERS)
    finding = found(claim, {0.01: [1.0], 0.1: [2.0], 1.0: [3.0]})
    assert finding.verdict == "one seed: observed, not tested"
    assert (finding.n, finding.p) == (1, None)
    assert "(n = 1 seed)" in finding.sentence
    assert "±" not in finding.sentence
    assert "p =" not in finding.sentence


def test_one_seed_that_diverged_is_not_tested_either() -> None:
    finding = found(claimed("higher"), {0.01: [1.0], 0.1: [DIVERGED]})
    assert finding.verdict == "one seed: observed, not tested"


@pytest.mark.parametrize(("matters_from", "verdict"), [(0.5, "supported"), (0.6, "contradicted")])
def test_a_significant_difference_must_be_as_large_as_matters(
    matters_from: float, verdict: str
) -> None:
    claim = claimed("higher", matters_from=matters_from)
    shift = [0.53125, 0.5, 0.53125]  # mean 0.5208, half width 0.0448
    assert found(claim, {0.01: BASE, 0.1: plus(*shift)}).verdict == verdict


def test_a_difference_that_may_or_may_not_matter_is_inconclusive() -> None:
    claim = claimed("higher", matters_from=0.51)
    shift = [0.46, 0.5, 0.54]  # from 0.4 to 0.6
    assert found(claim, {0.01: BASE, 0.1: plus(*shift)}).verdict == "inconclusive"


def test_same_needs_the_whole_interval_within_the_margin() -> None:
    # one-sided: t = (0.1 - 0.05) / (0.02 / sqrt(3)) = 4.33, so p is half of 0.0494
    close = {0.01: BASE, 0.1: plus(0.03, 0.05, 0.07)}
    finding = found(claimed("same", matters_from=0.1), close)
    assert finding.verdict == "supported"
    assert finding.p == pytest.approx(0.0247, abs=1e-4)
    # no difference is seen, but it may be as large as 0.15
    vague = {0.01: BASE, 0.1: plus(-0.06, 0.0, 0.06)}
    assert found(claimed("same", matters_from=0.1), vague).verdict == "inconclusive"


def test_a_claim_on_two_levels_does_not_look_at_others() -> None:
    finding = found(claimed("higher"), {0.01: BASE, 0.1: plus(*UP), 1.0: plus(*MUCH)})
    assert finding == found(claimed("higher"), {0.01: BASE, 0.1: plus(*UP)})


def test_rises_is_the_change_of_a_fitted_line_in_each_seed() -> None:
    # 0, 0, 3 has the slope 1.5 and so the change 3; 0, 3, 0 has none
    levels = {1: [0.0, 0.0], 2: [0.0, 3.0], 3: [3.0, 0.0]}
    finding = found(claimed("rises"), levels)
    # mean 1.5, deviation 3 / sqrt(2), half width 12.706 * 1.5
    assert (
        "3 minus 1, on a line fitted to all levels: 1.50 nats ± 19.1 nats (n = 2 seeds)."
        in finding.sentence
    )


def test_rises_goes_along_the_levels_in_their_order_and_not_by_their_size() -> None:
    levels = {"none": BASE, "flip": plus(*UP)}
    assert found(claimed("rises"), levels).verdict == "supported"
    assert found(claimed("falls"), levels).verdict == "contradicted"


def test_a_count_that_no_seed_changes_is_certain() -> None:
    def of_160_images(batch_size: int, seed: int) -> Record:
        config = RunConfig(seed=seed, data=Cifar10(batch_size=batch_size))
        rows = [{"images_per_second": 160.0, "train_seconds": 1.0}]
        return Record(config, RunFolder(Path("runs") / "x"), "complete", {}, rows)

    levels = {size: [of_160_images(size, seed) for seed in range(3)] for size in (16, 64)}
    claim = Claim(says="S.", metric="steps_per_epoch", expects="falls")
    (finding,) = judge_claims([claim], levels)
    assert finding.verdict == "supported"
    assert finding.sentence == (
        "Steps per epoch: 10 at 16; 3 at 64. "
        "16 minus 64, on a line fitted to all levels: 7 ± 0 (n = 3 seeds). p < 0.0001."
    )


# What is said.


def test_the_sentence_on_two_levels() -> None:
    finding = found(claimed("higher", matters_from=0.1), {0.01: BASE, 0.1: plus(0.49, 0.5, 0.51)})
    # t = 0.5 / (0.01 / sqrt(3)) = 86.6
    assert finding.sentence == (
        "Final training loss: 1.10 nats at 0.01; 1.60 nats at 0.1. "
        "0.1 minus 0.01: 0.500 nats ± 0.0248 nats (n = 3 seeds). p = 0.00013."
    )


def test_the_sentence_on_a_claim_of_less_subtracts_the_other_way() -> None:
    claim = claimed("lower", metric="final_test_accuracy")
    finding = found(claim, {0.01: (0.8, 0.82, 0.84), 0.1: (0.7, 0.72, 0.75)})
    # differences 0.1, 0.1, 0.09: deviation 0.00577
    assert finding.sentence == (
        "Final test accuracy: 82.0 % at 0.01; 72.3 % at 0.1. "
        "0.01 minus 0.1: 9.7 points ± 1.5 points (n = 3 seeds). p = 0.0012."
    )


def test_the_sentence_on_epochs_names_the_accuracy() -> None:
    claim = claimed("higher", metric="epochs_to_train_accuracy", reached=0.8)
    at_once = {"train_accuracy": 0.9}
    levels = {
        level: [run(seed, "final_train_loss", 1.0, **at_once) for seed in range(2)]
        for level in (0.01, 0.1)
    }
    (finding,) = judge_claims([claim], levels)
    assert finding.sentence.startswith(
        "Epochs to a training accuracy of 0.8: 1 epochs at 0.01; 1 epochs at 0.1."
    )


def test_the_sentence_on_a_best_level_says_where_it_is() -> None:
    claim = claimed("best_inside", metric="final_test_accuracy")
    inside = found(claim, {1: (0.5, 0.5), 2: (0.7, 0.7), 3: (0.6, 0.6)})
    assert "Best at 2. " in inside.sentence
    assert (
        "2 minus 1: 20.0 points ± 0.8 points (n = 2 seeds). 2 minus 3: 10.0 points" in inside.sentence
    )
    end = found(claim, {1: (0.5, 0.5), 2: (0.7, 0.7), 3: (0.8, 0.8)})
    assert "Best at 3, an end of the levels. " in end.sentence
    assert (end.verdict, end.claim) == ("contradicted", claim)


def test_the_sentence_on_the_best_loss_subtracts_the_lower_from_the_higher() -> None:
    finding = found(claimed("best_inside"), {1: (1.5, 1.5), 2: (1.0, 1.0), 3: (1.25, 1.25)})
    assert finding.verdict == "supported"
    # a difference that is shown must follow from the means that are shown
    assert "1.50 nats at 1; 1.00 nats at 2; 1.25 nats at 3." in finding.sentence
    assert "1 minus 2: 0.500 nats" in finding.sentence
    assert "3 minus 2: 0.250 nats" in finding.sentence


def test_the_sentence_shows_a_level_that_is_written_in_another_way() -> None:
    # `than: 0` in the study, 0.0 in the settings of the run
    finding = found(claimed("higher", at=0.5, than=0), {0.0: BASE, 0.5: plus(*UP)})
    assert finding.verdict == "supported"
    assert re.search(r"1.10 nats at 0(\.0)?; 1.60 nats at 0.5\.", finding.sentence)


def test_the_best_of_two_levels_is_not_inside() -> None:
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
def test_so_many_seeds_do_settle_it_if_they_go_on_like_this(
    expects: str, mean: float, deviation: float, matters_from: float
) -> None:
    def with_seeds(n: int) -> ClaimResult:
        places = np.arange(n) - (n - 1) / 2
        differences = mean + deviation * places / places.std(ddof=1)
        claim = claimed(expects, matters_from=matters_from)
        return found(claim, {0.01: [1.0] * n, 0.1: (1.0 + differences).tolist()})

    few = with_seeds(3)
    assert few.verdict == "inconclusive"
    needed = re.search(r"About (\d+) seeds would be needed for a verdict\.", few.sentence)
    assert needed is not None
    assert with_seeds(int(needed[1])).verdict != "inconclusive"


def test_the_noisier_of_two_differences_says_how_many_seeds_are_needed() -> None:
    # 2 is clearly better than 1, and perhaps than 3
    levels = {1: plus(*UP), 2: BASE, 3: plus(*MUCH)}
    finding = found(claimed("best_inside"), levels)
    assert finding.verdict == "inconclusive"
    # t * 0.4822 / sqrt(n) is at most the mean of 0.15 from n = 43 on
    assert "About 43 seeds would be needed for a verdict." in finding.sentence


# Seeds that are not there.


def test_seeds_without_a_partner_are_left_out() -> None:
    levels = {0.01: [1.0, 1.1, FAILED, 1.3], 0.1: [1.49, 1.6, 1.7]}
    finding = found(claimed("higher"), levels)
    assert finding.n == 2
    assert "(n = 2 seeds)" in finding.sentence
    assert finding.missing == ("0.01 with seed 2 (failed)",)


def test_seeds_are_paired_by_number_and_not_by_place() -> None:
    levels = made({0.01: BASE, 0.1: plus(*UP)})
    shuffled = {level: sorted(runs, key=lambda r: -r.config.seed) for level, runs in levels.items()}
    mixed = {0.01: levels[0.01], 0.1: shuffled[0.1]}
    assert judge_claims([claimed("higher")], mixed) == judge_claims([claimed("higher")], levels)


@pytest.mark.parametrize("status", ["failed", "pending", "interrupted", "running"])
def test_a_run_that_has_not_ended_is_named(status: str) -> None:
    finding = found(claimed("rises"), {0.01: BASE, 0.1: [1.5, 1.6, status]})
    assert finding.missing == (f"0.1 with seed 2 ({status})",)
    assert finding.n == 2


def test_what_the_claim_is_not_about_is_not_missing() -> None:
    levels = {0.01: BASE, 0.1: plus(*UP), 1.0: [FAILED] * 3}
    assert found(claimed("higher"), levels).missing == ()
    assert len(found(claimed("rises"), levels).missing) == 3


@pytest.mark.parametrize("expects", ["higher", "lower", "same"])
def test_a_level_that_the_sweep_lacks_is_not_measured(expects: str) -> None:
    finding = found(claimed(expects, matters_from=0.1), {0.01: BASE, 1.0: plus(*UP)})
    assert finding.verdict == "not measured"
    assert (finding.n, finding.p) == (0, None)
    assert finding.sentence == "There are no runs to compare."


@pytest.mark.parametrize("expects", CASES)
def test_without_any_runs_nothing_is_measured(expects: str) -> None:
    claim = claimed(expects, matters_from=0.1)
    assert found(claim, {}).verdict == "not measured"
    lost = found(claim, {0.01: [FAILED], 0.1: [FAILED], 1.0: [FAILED]})
    assert (lost.verdict, lost.n) == ("not measured", 0)
    assert "0.1 with seed 0 (failed)" in lost.missing


def test_no_seed_in_common_is_nothing_measured() -> None:
    assert found(claimed("higher"), {0.01: [1.0], 0.1: [FAILED, 2.0]}).verdict == "not measured"


def test_rises_goes_on_without_a_level_that_is_lost() -> None:
    levels = {1: [FAILED] * 3, 2: BASE, 3: plus(*UP)}
    finding = found(claimed("rises"), levels)
    assert finding.verdict == "supported"
    assert len(finding.missing) == 3
    assert "3 less 2" in finding.sentence


# Runs that diverged.


def test_a_level_that_always_diverges_is_worse_without_a_test() -> None:
    levels = {0.01: BASE, 0.1: [DIVERGED] * 3}
    finding = found(claimed("higher", matters_from=0.1), levels)
    assert (finding.verdict, finding.n, finding.p) == ("supported", 3, None)
    assert finding.missing == ()
    assert finding.sentence == (
        "Final training loss: 1.10 nats at 0.01; diverged (3 of 3 runs) at 0.1. "
        "0.1 minus 0.01: above 0 with 3 of 3 seeds, counting divergence."
    )
    assert found(claimed("lower"), levels).verdict == "contradicted"
    assert found(claimed("same", matters_from=0.1), levels).verdict == "contradicted"
    assert found(claimed("rises"), levels).verdict == "supported"
    assert found(claimed("differs"), levels).verdict == "supported"


def test_a_level_that_always_diverges_is_less_accurate() -> None:
    claim = claimed("lower", metric="final_test_accuracy", matters_from=0.01)
    levels = {0.01: (0.7, 0.8), 0.1: [DIVERGED] * 2}
    assert found(claim, levels).verdict == "supported"


def test_one_of_three_that_diverged_counts_as_worse() -> None:
    levels = {0.01: BASE, 0.1: [1.5, DIVERGED, 1.7]}
    finding = found(claimed("higher", matters_from=0.1), levels)
    assert (finding.verdict, finding.n, finding.p) == ("supported", 3, None)
    assert "1.60 nats (1 of 3 diverged) at 0.1." in finding.sentence


@pytest.mark.parametrize("others", [(0.5, 0.6), (1.05, 1.25)])  # better, worse by too little
def test_one_of_three_that_diverged_alone_decides_nothing(others: tuple[float, float]) -> None:
    levels = {0.01: BASE, 0.1: [others[0], DIVERGED, others[1]]}
    finding = found(claimed("higher", matters_from=0.1), levels)
    assert (finding.verdict, finding.n) == ("inconclusive", 3)
    assert re.search(r"above 0 with \d of 3 seeds.* would settle it\.$", finding.sentence)


@pytest.mark.parametrize(
    "levels",
    [
        {0.01: BASE, 0.1: [1.0, DIVERGED, 1.2]},
        {0.01: [DIVERGED, 1.1, 1.2], 0.1: [1.0, DIVERGED, 1.2]},  # once at each
    ],
)
def test_one_of_three_that_diverged_does_not_make_levels_different(levels: Outcomes) -> None:
    assert found(claimed("same", matters_from=0.1), levels).verdict == "inconclusive"


def test_a_seed_that_diverged_at_both_levels_tells_nothing_about_them() -> None:
    levels = {0.01: [DIVERGED, 1.1, 1.2], 0.1: [DIVERGED, 1.6, 1.71]}
    finding = found(claimed("higher"), levels)
    assert finding.n == 2
    assert finding.p is not None


@pytest.mark.parametrize("expects", ["higher", "same", "rises", "differs"])
def test_levels_that_both_diverge_always_are_said_to(expects: str) -> None:
    finding = found(claimed(expects, matters_from=0.1), {0.01: [DIVERGED] * 3, 0.1: [DIVERGED] * 3})
    assert finding.verdict in ("not measured", "inconclusive")
    assert "diverged" in finding.sentence  # there were runs


def never(expects: str, first: Sequence[float], second: Sequence[float]) -> ClaimResult:
    """In one epoch: 0.9 reaches 0.8 in it, and 0.5 never does."""
    metric: MetricOfRun = "epochs_to_train_accuracy"
    claim = claimed(expects, metric=metric, reached=0.8, matters_from=1)
    return found(claim, {0.01: first, 0.1: second})


def test_an_accuracy_that_is_never_reached_is_later_than_any() -> None:
    finding = never("higher", [0.9] * 3, [0.5] * 3)
    assert finding.verdict == "supported"
    assert "1 epochs at 0.01; never (3 of 3 runs) at 0.1." in finding.sentence
    assert "3 of 3 seeds" in finding.sentence
    assert "diverge" not in finding.sentence  # none did


def test_what_would_settle_an_accuracy_that_some_never_reach() -> None:
    finding = never("higher", [0.9, 0.9, 0.5], [0.5, 0.9, 0.9])
    assert finding.verdict == "inconclusive"
    assert "1 epochs (1 of 3 never) at 0.01" in finding.sentence
    assert "diverge" not in finding.sentence


def test_an_accuracy_that_neither_level_reaches_is_said() -> None:
    assert "never" in never("higher", [0.5] * 3, [0.5] * 3).sentence


# The best level beside one that diverges, as with the learning rate.


def test_a_best_level_inside_beats_an_end_that_diverges() -> None:
    levels = {0.01: plus(*UP), 0.1: BASE, 1.0: [DIVERGED] * 3}
    finding = found(claimed("best_inside"), levels)
    assert finding.verdict == "supported"
    assert "Best at 0.1." in finding.sentence


def test_a_difference_beside_a_divergence_is_corrected_like_any_other() -> None:
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


def test_an_end_with_one_seed_leaves_a_best_level_untested() -> None:
    levels = {0.01: plus(*UP), 0.1: BASE, 1.0: [2.0]}
    finding = found(claimed("best_inside"), levels)
    assert finding.verdict == "one seed: observed, not tested"
    assert (finding.n, finding.p) == (1, None)


# Several levels.


def test_levels_differ_if_any_two_do() -> None:
    clear = {1: BASE, 2: plus(*UP), 3: plus(*[1.1 * d for d in UP])}
    assert found(claimed("differs", matters_from=0.1), clear).verdict == "supported"
    # 3 is further away than 2 on average, and too noisy to tell; 2 is not
    noisy = {1: BASE, 2: plus(*UP), 3: plus(2.5, -1.0, 1.0)}
    assert found(claimed("differs", matters_from=0.1), noisy).verdict == "supported"
    # one run of 3 diverged, and has nothing to do with 1 and 2
    diverged = {1: BASE, 2: plus(*UP), 3: [1.3, DIVERGED, 1.2]}
    assert found(claimed("differs", matters_from=0.1), diverged).verdict == "supported"


def test_levels_are_alike_only_if_no_two_may_differ() -> None:
    # 2 is above 1 by 0.02 and surely by less than 0.1; 3 by 0.01, but by up to 0.6
    levels = {1: BASE, 2: plus(0.018, 0.02, 0.022), 3: plus(0.25, -0.23, 0.01)}
    assert found(claimed("differs", matters_from=0.1), levels).verdict == "inconclusive"


def test_differs_is_corrected_for_the_pairs_it_chose_from() -> None:
    two = {1: BASE, 2: plus(*POINT_03)}
    assert found(claimed("differs"), two).p == pytest.approx(0.03, abs=1e-4)
    three = two | {3: BASE}  # three pairs, two of them with 0.03 and one with 1
    assert found(claimed("differs"), three).p == pytest.approx(0.09, abs=3e-4)


def test_seeds_that_diverge_here_and_there_hide_no_clear_difference() -> None:
    # between 1 and 2 the differences are inf and -inf
    levels = {1: [DIVERGED, 1.0, 1.0], 2: [1.0, DIVERGED, 1.0], 3: [9.0, 9.0, 9.0], 4: [1.0] * 3}
    assert found(claimed("differs"), levels).verdict == "supported"


# Several claims.

# t = 5.643: 1 - 5.643 / sqrt(5.643**2 + 2) = 0.03
POINT_03 = (0.0693, 0.1, 0.1307)
# t = 0.8165: 1 - 0.8165 / sqrt(0.8165**2 + 2) = 0.5
POINT_5 = (0.1 - 0.21213, 0.1, 0.1 + 0.21213)


def three_metrics(first: Sequence[float]) -> Levels:
    """Train loss differs by `first`, test loss and accuracy by what has p = 0.5."""

    def at(level: float, seed: int) -> Record:
        more, noise = (first[seed], POINT_5[seed]) if level == 0.1 else (0.0, 0.0)
        others = {"test_loss": 1 + noise, "test_accuracy": 0.5 + noise}
        return run(seed, "final_train_loss", BASE[seed] + more, **others)

    return {level: [at(level, seed) for seed in range(3)] for level in (0.01, 0.1)}


OTHERS = [
    claimed("higher", metric="final_test_loss"),
    claimed("higher", metric="final_test_accuracy"),
]


def test_what_is_significant_alone_need_not_be_among_three() -> None:
    levels = three_metrics(POINT_03)
    (alone,) = judge_claims([claimed("higher")], levels)
    assert alone.p == pytest.approx(0.03, abs=1e-4)
    assert alone.verdict == "supported"
    first, *others = judge_claims([claimed("higher"), *OTHERS], levels)
    assert first.p == pytest.approx(0.09, abs=3e-4)
    assert first.verdict == "inconclusive"
    assert "p = 0.09." in first.sentence
    assert [other.p for other in others] == pytest.approx([1.0, 1.0], abs=1e-4)


def test_what_is_the_other_way_round_must_be_significant_among_three_as_well() -> None:
    levels = three_metrics([-d for d in POINT_03])
    (alone,) = judge_claims([claimed("higher")], levels)
    assert alone.verdict == "contradicted"
    first, *_ = judge_claims([claimed("higher"), *OTHERS], levels)
    assert first.p == pytest.approx(0.09, abs=3e-4)
    assert first.verdict == "inconclusive"


def test_claims_that_are_not_tested_do_not_count_among_the_tests() -> None:
    levels = three_metrics(POINT_03)
    not_measured = claimed("higher", than=7)
    first, second, third = judge_claims([not_measured, claimed("higher"), not_measured], levels)
    assert second.p == pytest.approx(0.03, abs=1e-4)
    assert first == third
    assert first.verdict == "not measured"


def test_findings_come_in_the_order_of_the_claims() -> None:
    claims = [*OTHERS, claimed("higher")]
    assert [finding.claim for finding in judge_claims(claims, three_metrics(POINT_03))] == claims
    assert judge_claims([], three_metrics(POINT_03)) == []


def test_every_verdict_but_one_is_about_numbers() -> None:
    # no verdict rests on a sentence with "nan" or "inf" in it
    for expects in CASES:
        for levels in (
            {0.01: BASE, 0.1: [DIVERGED] * 3, 1.0: BASE},
            {0.01: [DIVERGED] * 3, 0.1: BASE, 1.0: [DIVERGED, 1.0, 1.1]},
            {0.01: [1.0], 0.1: [1.0], 1.0: [1.0]},
        ):
            finding = found(claimed(expects, matters_from=0.1), levels)
            assert not re.search(r"\b(nan|inf)\b", finding.sentence)
            assert finding.p is None or math.isfinite(finding.p)
            assert finding.verdict in get_args(ClaimResult.__annotations__["verdict"])


def test_of_levels_that_no_claim_is_about_the_best_two_are_compared() -> None:
    named = claimed("higher", metric="final_test_accuracy")  # 0.1 than 0.01
    outcomes = {0.02: [0.5, 0.6, 0.7], 0.03: [0.61, 0.7, 0.79], 0.04: [0.1, 0.2, 0.3]}
    claim, best = judge_claims([named], made(outcomes, "final_test_accuracy"))
    assert claim.verdict == "not measured"
    assert best.claim.says == "0.03, the best level here, is better than 0.02, the second best."
    assert (best.verdict, best.n) == ("supported", 3)
    # of three pairs the one that looks best was taken
    t = 0.1 * math.sqrt(3) / 0.01
    # the limited number of images adds less than one percent
    assert best.p == pytest.approx(3 * (1 - t / math.sqrt(t**2 + 2)), rel=0.01)
    assert "0.03 minus 0.02: 10.0 points" in best.sentence


def test_levels_that_claims_are_about_are_not_compared_once_more() -> None:
    outcomes = {0.01: [0.5, 0.6], 0.1: [0.7, 0.8]}
    claim = claimed("higher", metric="final_test_accuracy")
    assert len(judge_claims([claim], made(outcomes, "final_test_accuracy"))) == 1


def test_a_best_level_inside_needs_three_and_the_sentence_says_so() -> None:
    claim = claimed("best_inside", metric="final_test_accuracy")
    outcomes = {0.02: [0.5, 0.6], 0.03: [0.7, 0.85]}
    inside, best = judge_claims([claim], made(outcomes, "final_test_accuracy"))
    assert inside.sentence == "Three levels or more are compared, and 2 of them are there."
    assert best.n == 2
