"""Which claims of a study hold: a verdict on each, and the sentence that tells it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from cifar_exp.config.study import Claim, Value
from cifar_exp.reports.comparisons import (
    SIGNIFICANT,
    Comparison,
    Difference,
    Levels,
    Verdict,
)
from cifar_exp.reports.metrics import MEASURES, Measure, main_metric, measured, of_evaluated
from cifar_exp.reports.sequential import Looks
from cifar_exp.reports.statistics import MOST_SEEDS, holm, seeds_needed


@dataclass(frozen=True)
class Finding:
    """What came out for a claim.

    Attributes:
        claim: the claim.
        verdict: on it.
        sentence: the answer with its numbers.
        n: how many pairs of runs, one a seed, it rests on.
        p: p value corrected for the number of the study's claims (Holm); None if not tested.
        missing: what was not there to compare: "0.1 with seed 2".
    """

    claim: Claim
    verdict: Verdict
    sentence: str
    n: int
    p: float | None
    missing: tuple[str, ...]


def findings(claims: Sequence[Claim], levels: Levels, looks: Looks | None = None) -> list[Finding]:
    """Judge all claims of a study together.

    Seeds are paired: what a seed brings along, such as initial weights, is the same at both levels
    and falls out of the difference. A run that diverged is infinitely bad: such a difference is
    not tested but counted, all pairs must agree.

    Args:
        claims: of the study.
        levels: the runs of the study at each level.
        looks: at the seeds, while they are added; None where their number is fixed.

    Returns:
        A finding for each claim, in order; p values are corrected for their number. Where levels
        were trained that no claim is about, one more: the best against the second best.
    """
    records = [record for at_level in levels.values() for record in at_level]
    claims = [
        claim.model_copy(update={"metric": of_evaluated(claim.metric, records)}) for claim in claims
    ]
    evidence = [Comparison.of(claim, levels, looks) for claim in claims]
    found = _corrected(evidence)
    about = {level for claim in claims for level in compared_levels(claim, levels)}
    if claims and set(levels) - about:
        found += _best_against_second(levels, looks)
    return found


def _corrected(evidence: Sequence[Comparison]) -> list[Finding]:
    tested = [e for e in evidence if e.p is not None]
    corrected = dict(
        zip(map(id, tested), holm([e.p for e in tested if e.p is not None]), strict=True)
    )
    return [_finding(e, corrected.get(id(e))) for e in evidence]


def compared_levels(claim: Claim, levels: Levels) -> set[Value]:
    """Return the levels that a claim is about; none if it lacks one that it needs."""
    if claim.compares_two:
        two = {claim.at, claim.than}
        return two if two <= set(levels) else set()
    enough = len(levels) >= (3 if claim.expects == "best_inside" else 2)
    return set(levels) if enough else set()


def _best_against_second(levels: Levels, looks: Looks | None) -> list[Finding]:
    """Compare the two best levels, for levels that no claim is about.

    They are chosen by the numbers that they are then tested with, so p is corrected for all pairs
    of levels that could have been chosen.
    """
    metric = main_metric(record for records in levels.values() for record in records)
    means = {}
    for level, records in levels.items():
        values = [measured(record, metric) for record in records]
        known = [value for value in values if value is not None]
        if known:
            means[level] = mean(known)
    if len(means) < 2:
        return []
    best, second, *_ = sorted(means, key=lambda level: -means[level])
    claim = Claim(
        says=f"{best}, the best level here, is better than {second}, the second best.",
        metric=metric,
        expects="higher",
        at=best,
        than=second,
    )
    evidence = Comparison.of(claim, levels, looks)
    pairs = len(means) * (len(means) - 1) // 2
    return [_finding(evidence, None if evidence.p is None else min(1.0, pairs * evidence.p))]


def _finding(evidence: Comparison, p: float | None) -> Finding:
    claim, differences = evidence.claim, evidence.differences
    n = min((len(d.values) for d in differences), default=0)
    verdict = _verdict(evidence, p) if n else "not measured"
    sentence = _sentence(evidence, verdict, p)
    return Finding(claim, verdict, sentence, n, p, evidence.missing)


def _verdict(evidence: Comparison, p: float | None) -> Verdict:
    claim = evidence.claim
    if claim.expects == "same":
        return _verdict_of_same(evidence.differences[0], p, claim.matters_from)
    verdicts = [d.verdict(_own_p(d, p), claim.matters_from) for d in evidence.differences]
    # a claim on several differences holds where all do, and falls with any of them
    for verdict in ("not measured", "one seed: observed, not tested", "contradicted"):
        if verdict in verdicts:
            return verdict
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def _own_p(difference: Difference, p: float | None) -> float | None:
    """Return the p value to judge a difference by: the claim's, or its own beside one of inf."""
    return p if p is not None and difference.finite else difference.p


def _verdict_of_same(difference: Difference, p: float | None, margin: float) -> Verdict:
    if len(difference.values) < 2:
        return "one seed: observed, not tested"
    if p is None:  # some diverged
        above = all(value > margin for value in difference.values)
        below = all(value < -margin for value in difference.values)
        return "contradicted" if above or below else "inconclusive"
    if p < SIGNIFICANT:
        return "supported"
    found = difference.estimate
    return "contradicted" if abs(found.mean) - found.half_width > margin else "inconclusive"


def _sentence(evidence: Comparison, verdict: Verdict, p: float | None) -> str:
    claim, measure = evidence.claim, MEASURES[evidence.claim.metric]
    named = measure.label + (f" of {claim.reached:g}" if claim.reached else "")
    if verdict == "not measured":
        bad = [level for level, runs in evidence.values.items() if _never_finite(runs)]
        if not bad:
            trained = sum(map(bool, evidence.values.values()))
            if claim.expects == "best_inside" and trained:
                return f"Three levels or more are compared, and {trained} of them are there."
            return "There are no runs to compare."
        message = "; ".join(
            f"{_mean_text(measure, evidence.values[level])} at {level}" for level in bad
        )
        return f"{named[0].upper()}{named[1:]}: {message}. There is nothing to compare."
    shown = [
        level
        for level in evidence.values
        if any(str(level) in (d.high, d.low) for d in evidence.differences)
    ]
    at = "; ".join(f"{_mean_text(measure, evidence.values[level])} at {level}" for level in shown)
    parts = [f"{named[0].upper()}{named[1:]}: {at}."]
    parts += [_difference_text(measure, d) for d in evidence.differences]
    if evidence.remark:
        parts.append(f"{evidence.remark[0].upper()}{evidence.remark[1:]}.")
    if p is not None:
        parts.append("p < 0.0001." if p < 1e-4 else f"p = {p:.2g}.")
    if verdict == "inconclusive":
        parts.append(_what_would_settle(evidence))
    return " ".join(parts)


def _mean_text(measure: Measure, by_seed: Mapping[int, float]) -> str:
    finite = [value for value in by_seed.values() if math.isfinite(value)]
    bad = len(by_seed) - len(finite)
    if not finite:
        return f"{measure.text(math.inf)} ({bad} of {bad} runs)"
    return measure.text(mean(finite)) + f" ({bad} of {len(by_seed)} {measure.text(math.inf)})" * (
        bad > 0
    )


def _never_finite(by_seed: Mapping[int, float]) -> bool:
    return bool(by_seed) and not any(map(math.isfinite, by_seed.values()))


def _difference_text(measure: Measure, difference: Difference) -> str:
    n = len(difference.values)
    seeds = f"n = {n} seed{'s' * (n > 1)}"
    names = f"{difference.high} less {difference.low}"
    names += ", on a line fitted to all levels" * difference.fitted
    finite = [value for value in difference.values if math.isfinite(value)]
    if len(finite) < n:
        agree = sum(value > 0 for value in difference.values)
        counted = "never" if measure.unit == "epochs" else "divergence"
        return f"{names}: above 0 with {agree} of {n} seeds, counting {counted}."
    found = difference.estimate
    interval = f" ± {measure.difference(found.half_width)}" if n > 1 else ""
    return f"{names}: {measure.difference(found.mean)}{interval} ({seeds})."


def _what_would_settle(evidence: Comparison) -> str:
    wanted = [(d, _from_a_verdict(evidence.claim, d)) for d in evidence.differences if d.finite]
    needed = [
        seeds_needed(d.values, distance, d.images)
        for d, distance in wanted
        if len(d.values) > 1 and distance
    ]
    most = max(needed, default=0)
    if most == MOST_SEEDS and any(d.images for d, _ in wanted):
        return "More test images would settle it."
    n = min(len(d.values) for d in evidence.differences)
    if looks := evidence.values.looks:
        return f"Not settled by {n} seeds, the limit." if n >= looks.last else "More seeds follow."
    needed_seeds = f"About {most}" if most > n else "More"
    return f"{needed_seeds} seeds would be needed; seed=auto adds them without bias."


def _from_a_verdict(claim: Claim, difference: Difference) -> float:
    """Return how narrow the interval must be for a verdict, should the mean stay where it is."""
    middle, margin = mean(difference.values), claim.matters_from
    if claim.expects == "same":
        return abs(margin - abs(middle))
    return abs(middle) if abs(middle) >= margin else margin - middle
