"""Which claims of a study hold: paired differences over seeds, and a verdict on each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import mean
from typing import Literal

from cifar_exp.config.study import Claim, Value
from cifar_exp.studies.measures import MEASURES, Measure, measured
from cifar_exp.studies.statistics import (
    equivalence_p_value,
    estimate,
    holm,
    p_value,
    seeds_needed,
)
from cifar_exp.studies.table import Record

Verdict = Literal[
    "supported",
    "contradicted",
    "inconclusive",
    "one seed: observed, not tested",
    "not measured",
]
Levels = Mapping[Value, Sequence[Record]]  # the runs at each level, in the study's order
_Values = dict[Value, dict[int, float]]  # of each level, by seed
_SIGNIFICANT = 0.05
# Some levels differ if one pair does; they are alike only if no pair may differ.
_RANKS: dict[Verdict, int] = {"supported": 2, "inconclusive": 1}


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


def findings(claims: Sequence[Claim], levels: Levels) -> list[Finding]:
    """Judge all claims of a study together.

    Seeds are paired: what a seed brings along, such as initial weights, is the same at both levels
    and falls out of the difference. A run that diverged is infinitely bad: such a difference is
    not tested but counted, all pairs must agree.

    Args:
        claims: of the study.
        levels: the runs of the study at each level.

    Returns:
        A finding for each claim, in order; p values are corrected for their number.
    """
    evidence = [_Evidence.of(claim, levels) for claim in claims]
    tested = [e for e in evidence if e.p is not None]
    corrected = dict(
        zip(map(id, tested), holm([e.p for e in tested if e.p is not None]), strict=True)
    )
    return [_finding(e, corrected.get(id(e))) for e in evidence]


@dataclass(frozen=True)
class _Difference:
    """Of a metric between two levels, seed by seed; counted so that a claim expects it above 0."""

    high: str  # the levels, where the claim expects more and where less
    low: str
    values: tuple[float, ...]

    @property
    def finite(self) -> bool:
        return all(math.isfinite(value) for value in self.values)

    @property
    def p(self) -> float | None:
        return p_value(self.values) if self.finite and len(self.values) > 1 else None

    def verdict(self, p: float | None, matters_from: float) -> Verdict:
        n = len(self.values)
        if n < 2:
            return "one seed: observed, not tested" if n else "not measured"
        if p is None:  # some diverged
            if all(value > 0 and value >= matters_from for value in self.values):
                return "supported"
            return "contradicted" if all(value < 0 for value in self.values) else "inconclusive"
        found = estimate(self.values)
        if p < _SIGNIFICANT and abs(found.mean) >= matters_from:
            return "supported" if found.mean > 0 else "contradicted"
        # where any difference matters, this would be the same test once more, not corrected
        too_small = matters_from > 0 and found.mean + found.half_width < matters_from
        return "contradicted" if too_small else "inconclusive"


@dataclass(frozen=True)
class _Evidence:
    """Differences that all must be above 0 for a claim to hold."""

    claim: Claim
    values: _Values
    differences: tuple[_Difference, ...]
    p: float | None
    missing: tuple[str, ...]
    remark: str = ""

    @classmethod
    def of(cls, claim: Claim, levels: Levels) -> "_Evidence":
        values, missing = _read(claim, levels)
        found = cls(claim, values, (), None, missing)
        match claim.expects:
            case "higher" | "lower" | "same":
                differences = _between_two(claim, values)
            case "rises" | "falls":
                differences = _along(claim, values)
            case "differs":
                return _largest(found)
            case "best_inside":
                return _best_against_ends(found)
        return replace(found, differences=differences, p=_p(claim, differences))


def _read(claim: Claim, levels: Levels) -> tuple[_Values, tuple[str, ...]]:
    values: _Values = {}
    missing = []
    for level, records in levels.items():
        if claim.compares_two and level not in (claim.at, claim.than):
            continue
        values[level] = {}
        for record in records:
            value = measured(record, claim.metric, claim.reached)
            if value is None:
                missing.append(f"{level} with seed {record.config.seed} ({record.status})")
            else:
                values[level][record.config.seed] = value
    asked = (claim.at, claim.than) if claim.compares_two else ()
    missing += [f"{level}, which was not trained" for level in asked if level not in levels]
    return values, tuple(missing)


def _pairs(values: _Values, high: Value, low: Value) -> _Difference:
    """Subtract seed by seed; seeds that diverged at both levels say nothing."""
    above, below = values.get(high, {}), values.get(low, {})
    differences = [above[seed] - below[seed] for seed in above if seed in below]
    kept = tuple(value for value in differences if not math.isnan(value))
    # as the runs write them: `than: 0` in a study is 0.0 there
    names = {level: str(level) for level in values}
    return _Difference(names.get(high, str(high)), names.get(low, str(low)), kept)


def _between_two(claim: Claim, values: _Values) -> tuple[_Difference, ...]:
    levels = (claim.than, claim.at) if claim.expects == "lower" else (claim.at, claim.than)
    return (_pairs(values, *levels),)


def _along(claim: Claim, values: _Values) -> tuple[_Difference, ...]:
    """Fit a line through the levels' places for each seed: its change from first to last."""
    levels = [level for level in values if values[level]]
    if len(levels) < 2:
        return (_Difference("", "", ()),)
    first, last = levels[0], levels[-1]
    sign = 1 if claim.expects == "rises" else -1
    seeds = [seed for seed in values[first] if all(seed in values[level] for level in levels)]
    changes = [sign * _fitted_change([values[level][seed] for level in levels]) for seed in seeds]
    high, low = (last, first) if claim.expects == "rises" else (first, last)
    kept = tuple(change for change in changes if not math.isnan(change))
    return (_Difference(str(high), str(low), kept),)


def _fitted_change(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return values[-1] - values[0]
    middle = (len(values) - 1) / 2
    steps = [place - middle for place in range(len(values))]
    slope = sum(s * v for s, v in zip(steps, values, strict=True)) / sum(s * s for s in steps)
    return slope * (len(values) - 1)


def _largest(found: _Evidence) -> _Evidence:
    """Take the pair of levels that differs most, corrected for having been looked for."""
    pairs = [_ordered(_pairs(found.values, a, b)) for a, b in combinations(found.values, 2)]
    pairs = [pair for pair in pairs if pair.values]
    if not pairs:
        return found
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    corrected = holm([p for _, p in tested])
    by_pair = {id(pair): p for (pair, _), p in zip(tested, corrected, strict=True)}

    def rank(pair: _Difference) -> tuple[int, float]:
        verdict = pair.verdict(by_pair.get(id(pair)), found.claim.matters_from)
        size = mean(pair.values)
        return _RANKS.get(verdict, 0), -math.inf if math.isnan(size) else size

    most = max(pairs, key=rank)
    return replace(found, differences=(most,), p=by_pair.get(id(most)))


def _ordered(pair: _Difference) -> _Difference:
    if pair.values and mean(pair.values) < 0:
        return _Difference(pair.low, pair.high, tuple(-value for value in pair.values))
    return pair


def _best_against_ends(found: _Evidence) -> _Evidence:
    """Compare the best level with both ends; if it is an end, with the best of the others."""
    levels = [level for level in found.values if found.values[level]]
    if len(levels) < 3:
        return found
    sign = -1 if MEASURES[found.claim.metric].better == "lower" else 1
    signed = {
        level: {seed: sign * value for seed, value in found.values[level].items()}
        for level in levels
    }
    means = {level: mean(signed[level].values()) for level in levels}
    ends = (levels[0], levels[-1])
    inside = max(levels[1:-1], key=lambda level: means[level])
    best = max(levels, key=lambda level: means[level])
    remark = f"best at {best}" if best == inside else f"best at {best}, an end of the levels"
    differences = tuple(
        _pairs(found.values, end, inside) if sign < 0 else _pairs(found.values, inside, end)
        for end in ends
    )
    p = _p(found.claim, differences)
    return replace(found, differences=differences, p=p, remark=remark)


def _p(claim: Claim, differences: Sequence[_Difference]) -> float | None:
    """Return the largest of the p values: all differences must hold."""
    tested = [d.values for d in differences if d.finite]
    if not tested or any(len(d.values) < 2 for d in differences):
        return None
    if claim.expects == "same":
        return max(equivalence_p_value(values, claim.matters_from) for values in tested)
    return max(p_value(values) for values in tested)


def _finding(evidence: _Evidence, p: float | None) -> Finding:
    claim, differences = evidence.claim, evidence.differences
    n = min((len(d.values) for d in differences), default=0)
    verdict = _verdict(evidence, p) if n else "not measured"
    sentence = _sentence(evidence, verdict, p)
    return Finding(claim, verdict, sentence, n, p, evidence.missing)


def _verdict(evidence: _Evidence, p: float | None) -> Verdict:
    claim = evidence.claim
    if claim.expects == "same":
        return _verdict_of_same(evidence.differences[0], p, claim.matters_from)
    verdicts = [d.verdict(_own_p(d, p), claim.matters_from) for d in evidence.differences]
    # a claim on several differences holds where all do, and falls with any of them
    for verdict in ("not measured", "one seed: observed, not tested", "contradicted"):
        if verdict in verdicts:
            return verdict
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def _own_p(difference: _Difference, p: float | None) -> float | None:
    """Return the p value to judge a difference by: the claim's, or its own beside one of inf."""
    return p if p is not None and difference.finite else difference.p


def _verdict_of_same(difference: _Difference, p: float | None, margin: float) -> Verdict:
    if len(difference.values) < 2:
        return "one seed: observed, not tested"
    if p is None:  # some diverged
        above = all(value > margin for value in difference.values)
        below = all(value < -margin for value in difference.values)
        return "contradicted" if above or below else "inconclusive"
    if p < _SIGNIFICANT:
        return "supported"
    found = estimate(difference.values)
    return "contradicted" if abs(found.mean) - found.half_width > margin else "inconclusive"


def _sentence(evidence: _Evidence, verdict: Verdict, p: float | None) -> str:
    claim, measure = evidence.claim, MEASURES[evidence.claim.metric]
    named = measure.label + (f" of {claim.reached:g}" if claim.reached else "")
    if verdict == "not measured":
        bad = [level for level, runs in evidence.values.items() if _never_finite(runs)]
        if not bad:
            return "There are no runs to compare."
        told = "; ".join(
            f"{_mean_text(measure, evidence.values[level])} at {level}" for level in bad
        )
        return f"{named[0].upper()}{named[1:]}: {told}. There is nothing to compare."
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


def _difference_text(measure: Measure, difference: _Difference) -> str:
    n = len(difference.values)
    seeds = f"n = {n} seed{'s' * (n > 1)}"
    names = f"{difference.high} less {difference.low}"
    finite = [value for value in difference.values if math.isfinite(value)]
    if len(finite) < n:
        agree = sum(value > 0 for value in difference.values)
        counted = "never" if measure.unit == "epochs" else "divergence"
        return f"{names}: above 0 with {agree} of {n} seeds, counting {counted}."
    found = estimate(finite)
    interval = f" ± {measure.difference(found.half_width)}" if n > 1 else ""
    return f"{names}: {measure.difference(found.mean)}{interval} ({seeds})."


def _what_would_settle(evidence: _Evidence) -> str:
    needed = [
        seeds_needed(d.values, distance)
        for d in evidence.differences
        if d.finite and len(d.values) > 1 and (distance := _from_a_verdict(evidence.claim, d))
    ]
    most = max(needed, default=0)
    n = min(len(d.values) for d in evidence.differences)
    return f"{f'Some {most}' if most > n else 'More'} seeds would settle it."


def _from_a_verdict(claim: Claim, difference: _Difference) -> float:
    """Return how narrow the interval must be for a verdict, should the mean stay where it is."""
    middle, margin = mean(difference.values), claim.matters_from
    if claim.expects == "same":
        return abs(margin - abs(middle))
    return abs(middle) if abs(middle) >= margin else margin - middle
