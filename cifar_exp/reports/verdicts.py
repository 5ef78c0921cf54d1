"""Verdicts on the claims of a study."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from cifar_exp.config.study import Claim, Value
from cifar_exp.reports.comparisons import (
    SIGNIFICANT,
    TOO_SHORT,
    Comparison,
    Difference,
    Levels,
    Verdict,
)
from cifar_exp.reports.metrics import MEASURES, Measure, main_metric, measured, on_evaluated_split
from cifar_exp.reports.sequential import Looks
from cifar_exp.reports.statistics import MAX_SEEDS, holm, seeds_needed


@dataclass(frozen=True)
class ClaimResult:
    """The verdict on a claim.

    Attributes:
        claim: the claim.
        verdict: the verdict.
        sentence: the numbers behind the verdict.
        effects: the differences that decide, with intervals and p values.
        n: number of seeds that are compared.
        p: p value corrected for the number of claims (Holm); None if not tested.
        missing: values that could not be compared, such as "0.1 with seed 2 (failed)".
    """

    claim: Claim
    verdict: Verdict
    sentence: str
    effects: tuple[str, ...]
    n: int
    p: float | None
    missing: tuple[str, ...]


def judge_claims(
    claims: Sequence[Claim], levels: Levels, looks: Looks | None = None
) -> list[ClaimResult]:
    """Judge all claims of a study.

    Runs with the same seed are compared, which cancels effects such as that of the initial
    weights. A diverged run is infinitely bad: such differences are not tested, only their signs
    are counted, and all seeds must agree.

    Args:
        claims: of the study.
        levels: the runs at each level.
        looks: times at which the claims are tested if seeds are added; None if seeds are fixed.

    Returns:
        One result per claim, in order, with p values corrected for the number of claims. If there
        are levels that no claim is about, the best level is compared with the second best too.
    """
    records = [record for at_level in levels.values() for record in at_level]
    claims = [
        claim.model_copy(update={"metric": on_evaluated_split(claim.metric, records)})
        for claim in claims
    ]
    results = _corrected([Comparison.of(claim, levels, looks) for claim in claims])
    covered = {level for claim in claims for level in compared_levels(claim, levels)}
    if claims and set(levels) - covered:
        results += _best_against_second(levels, looks)
    return results


def _corrected(comparisons: Sequence[Comparison]) -> list[ClaimResult]:
    corrected = iter(holm([c.p for c in comparisons if c.p is not None]))
    return [_result(c, None if c.p is None else next(corrected)) for c in comparisons]


def compared_levels(claim: Claim, levels: Levels) -> set[Value]:
    """Return the levels that a claim is about; none if it cannot be judged.

    Args:
        claim: a claim of the study.
        levels: the runs at each level.
    """
    if claim.compares_two:
        two = {claim.at, claim.than}
        return two if two <= set(levels) else set()
    enough = len(levels) >= (3 if claim.expects == "best_inside" else 2)
    return set(levels) if enough else set()


def _best_against_second(levels: Levels, looks: Looks | None) -> list[ClaimResult]:
    """Compare the two best levels, if there are two with results."""
    metric = main_metric(record for records in levels.values() for record in records)
    means = {}
    for level, records in levels.items():
        values = [v for record in records if (v := measured(record, metric)) is not None]
        if values:
            means[level] = mean(values)
    if len(means) < 2:
        return []
    levels = {level: levels[level] for level in means}
    best, second, *_ = sorted(means, key=lambda level: -means[level])
    return [judge_best(best, second, levels, looks)]


def judge_best(
    best: Value, second: Value, levels: Levels, looks: Looks | None = None
) -> ClaimResult:
    """Compare the accuracies of the best and the second best level.

    They were selected by the values that are then tested, so p is corrected for all pairs.

    Args:
        best: the level with the highest mean accuracy.
        second: the level with the second highest.
        levels: the runs at each level.
        looks: as in `judge_claims`.
    """
    metric = main_metric(record for records in levels.values() for record in records)
    claim = Claim(
        says=f"{best}, the best level, is better than {second}, the second best.",
        metric=metric,
        expects="higher",
        at=best,
        than=second,
    )
    comparison = Comparison.of(claim, levels, looks)
    pairs = len(levels) * (len(levels) - 1) // 2
    return _result(comparison, None if comparison.p is None else min(1.0, pairs * comparison.p))


def _result(comparison: Comparison, p: float | None) -> ClaimResult:
    claim = comparison.claim
    n = min((len(d.values) for d in comparison.differences), default=0)
    verdict = _verdict(comparison, p) if n else "not measured"
    alone = len(comparison.differences) == 1
    effects = tuple(
        _effect(claim, d, verdict, _p_of_comparison(claim, d, p if alone else None))
        for d in comparison.differences
        if d.values
    )
    sentence = _sentence(comparison, verdict, effects, p)
    return ClaimResult(claim, verdict, sentence, effects, n, p, comparison.missing)


def _verdict(comparison: Comparison, p: float | None) -> Verdict:
    claim = comparison.claim
    if claim.expects == "same":
        return _verdict_of_same(comparison.differences[0], p, claim.matters_from)
    # a claim on several differences requires all of them; one can contradict it
    verdicts = [
        d.verdict(p if d.finite else None, claim.matters_from) for d in comparison.differences
    ]
    for verdict in ("not measured", "one seed: observed, not tested", "contradicted"):
        if verdict in verdicts:
            return verdict
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def _verdict_of_same(difference: Difference, p: float | None, margin: float) -> Verdict:
    if len(difference.values) < 2:
        return "one seed: observed, not tested"
    if p is None:  # some runs diverged
        above = all(value > margin for value in difference.values)
        below = all(value < -margin for value in difference.values)
        return "contradicted" if above or below else "inconclusive"
    if p < SIGNIFICANT:
        return "supported"
    estimate = difference.estimate
    return "contradicted" if abs(estimate.mean) - estimate.half_width > margin else "inconclusive"


def _sentence(
    comparison: Comparison, verdict: Verdict, effects: Sequence[str], p: float | None
) -> str:
    claim, measure = comparison.claim, MEASURES[comparison.claim.metric]
    label = measure.label + (f" of {claim.reached:g}" if claim.reached else "")
    means = {
        level: f"{_mean_text(measure, by_seed)} at {level}"
        for level, by_seed in comparison.values.items()
        if by_seed
    }
    if verdict == "not measured":
        return _why_not_measured(comparison, label, means)
    compared = {level for d in comparison.differences for level in (d.high, d.low)}
    shown = [text for level, text in means.items() if str(level) in compared]
    parts = [f"{effect}." for effect in effects]
    parts.append(f"{_capitalized(label)}: {'; '.join(shown)}.")
    if comparison.remark:
        parts.append(f"{_capitalized(comparison.remark)}.")
    if p is not None and len(effects) > 1:
        parts.append(f"{_p_text(p)} for the claim, corrected.")
    if verdict == "inconclusive":
        parts.append(_needed_for_a_verdict(comparison))
    return " ".join(parts)


def _why_not_measured(comparison: Comparison, label: str, means: Mapping[Value, str]) -> str:
    infinite = [
        text
        for level, text in means.items()
        if not any(map(math.isfinite, comparison.values[level].values()))
    ]
    if infinite:
        return f"{_capitalized(label)}: {'; '.join(infinite)}. The levels cannot be compared."
    if comparison.claim.expects == "best_inside" and 0 < len(means) < 3:
        return f"Expected runs at three levels or more, got {len(means)}."
    if comparison.missing and all(TOO_SHORT in text for text in comparison.missing):
        return f"The runs have too few epochs for the {label}."
    return "There are no runs to compare."


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _mean_text(measure: Measure, by_seed: Mapping[int, float]) -> str:
    finite = [value for value in by_seed.values() if math.isfinite(value)]
    infinite, n = len(by_seed) - len(finite), len(by_seed)
    if not finite:
        return f"{measure.text(math.inf)} ({n} of {n} runs)"
    addition = f" ({infinite} of {n} {measure.text(math.inf)})" if infinite else ""
    return measure.text(mean(finite)) + addition


def _effect(claim: Claim, difference: Difference, verdict: Verdict, p_text: str) -> str:
    """Return for example "0.01 beats 0.0001 by 24.1 points (20.7 to 27.5; 3 seeds; p = 0.001)".

    "beats" is reserved for significant differences of a metric of which more is better.
    """
    measure, n = MEASURES[claim.metric], len(difference.values)
    high, low = difference.high, difference.low
    if not difference.finite:
        agree = sum(value > 0 for value in difference.values)
        counted = "never" if measure.unit == "epochs" else "divergence"
        return f"{high} has a higher value than {low} with {agree} of {n} seeds, counting {counted}"
    found = difference.estimate
    if found.mean < 0:
        high, low = low, high
    size, half_width = abs(found.mean), found.half_width
    details = [measure.interval(size - half_width, size + half_width, size)] if n > 1 else []
    details.append(f"{n} seed{'s' * (n > 1)}")
    details += ["along a line fitted to all levels"] * difference.fitted
    details += [p_text] if p_text else []
    is_clear = verdict in ("supported", "contradicted") and size > half_width
    if is_clear and measure.better == "higher" and claim.expects != "same":
        text = f"{high} beats {low} by {measure.difference(size)}"
    else:
        text = f"{high} has {measure.difference(size)} more than {low}"
    return f"{text} ({'; '.join(details)})"


def _p_of_comparison(claim: Claim, difference: Difference, corrected: float | None) -> str:
    """Return for example "p = 0.02 for this comparison, corrected p = 0.04"; "" if not tested."""
    if difference.p is None:
        return ""
    if claim.expects == "same":
        p = difference.equivalence_p(claim.matters_from)
        margin = MEASURES[claim.metric].difference(claim.matters_from)
        text = f"{_p_text(p)} for a difference below {margin}"
    else:
        text = f"{_p_text(difference.p)} for this comparison"
    if corrected is None or text.startswith(f"{_p_text(corrected)} "):
        return text
    return f"{text}, corrected {_p_text(corrected)}"


def _p_text(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _needed_for_a_verdict(comparison: Comparison) -> str:
    finite = [d for d in comparison.differences if d.finite]
    needed = [
        seeds_needed(d.values, half_width, d.images)
        for d in finite
        if len(d.values) > 1 and (half_width := _half_width_for_a_verdict(comparison.claim, d))
    ]
    seeds = max(needed, default=0)
    if seeds == MAX_SEEDS and any(d.images for d in finite):
        return "More test images would be needed for a verdict."
    n = min(len(d.values) for d in comparison.differences)
    if looks := comparison.values.looks:
        # seeds without a difference count as well, such as those that diverged at both levels
        at_limit = comparison.values.seeds >= looks.last
        return f"Not settled with the limit of {looks.last} seeds." if at_limit else "Seeds follow."
    return f"{f'About {seeds}' if seeds > n else 'More'} seeds would be needed for a verdict."


def _half_width_for_a_verdict(claim: Claim, difference: Difference) -> float:
    """Return the half-width of the interval that allows a verdict, assuming the same mean."""
    middle, margin = mean(difference.values), claim.matters_from
    if claim.expects == "same":
        return abs(margin - abs(middle))
    return abs(middle) if abs(middle) >= margin else margin - middle
