"""Paired differences of a metric between levels, from which claims are judged."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from statistics import mean
from typing import Literal

from cifar_exp.config.metrics import OSCILLATION
from cifar_exp.config.study import Claim, Value
from cifar_exp.reports.metrics import MEASURES, images_behind, measured
from cifar_exp.reports.sequential import Looks
from cifar_exp.reports.statistics import (
    TAIL,
    Estimate,
    equivalence_p_value,
    estimate,
    holm,
    p_value,
)
from cifar_exp.runs.record import Record

TOO_SHORT = "too few epochs"
Verdict = Literal[
    "supported",
    "contradicted",
    "inconclusive",
    "one seed: observed, not tested",
    "not measured",
]
Levels = Mapping[Value, Sequence[Record]]  # the runs at each level, in the study's order
SIGNIFICANT = 0.05
# A claim "differs" takes the verdict of the pair of levels that ranks highest.
_RANKS: dict[Verdict, int] = {"supported": 2, "inconclusive": 1}


class Values(dict[Value, dict[int, float]]):
    """The values of a metric by level and seed.

    Attributes:
        images: as in `Difference`.
        looks: as in `Difference`.
        seeds: the smallest number of runs at a level.
    """

    def __init__(self, images: int | None, looks: Looks | None, seeds: int) -> None:
        super().__init__()
        self.images, self.looks, self.seeds = images, looks, seeds


@dataclass(frozen=True)
class Difference:
    """Paired differences of a metric between two levels; a claim expects them to be above 0.

    Attributes:
        high: the level at which the claim expects the larger values.
        low: the other level.
        values: one difference per seed; infinite if one of the two runs diverged.
        fitted: whether they are changes along a line fitted through all levels.
        images: as in `estimate`.
        looks: times at which they are tested if seeds are added; None if seeds are fixed.
    """

    high: str
    low: str
    values: tuple[float, ...]
    fitted: bool = False
    images: int | None = None
    looks: Looks | None = None

    @property
    def finite(self) -> bool:
        """Whether all values are finite."""
        return all(math.isfinite(value) for value in self.values)

    @property
    def p(self) -> float | None:
        """The p value of the t test against 0, not corrected; None if not applicable."""
        if not self.finite or len(self.values) < 2:
            return None
        p = p_value(self.values, images=self.images)
        return self.looks.corrected(p) if self.looks else p

    def equivalence_p(self, margin: float) -> float:
        """Return the p value of the test that the difference lies within +-margin.

        Args:
            margin: largest difference that does not matter, above 0.
        """
        p = equivalence_p_value(self.values, margin, self.images)
        return self.looks.corrected(p, one_sided=True) if self.looks else p

    @property
    def estimate(self) -> Estimate:
        """Mean over seeds with its interval, for finite values."""
        return estimate(self.values, self.images, self.looks.tail if self.looks else TAIL)

    def verdict(self, p: float | None, matters_from: float) -> Verdict:
        """Judge a claim that expects the differences to be above 0.

        Args:
            p: corrected p value; None if some values are infinite.
            matters_from: smallest difference that matters, as in `Claim`.
        """
        if not self.values:
            return "not measured"
        if len(self.values) == 1:
            return "one seed: observed, not tested"
        if p is None:  # some diverged
            if all(value > 0 and value >= matters_from for value in self.values):
                return "supported"
            return "contradicted" if all(value < 0 for value in self.values) else "inconclusive"
        found = self.estimate
        if p < SIGNIFICANT and abs(found.mean) >= matters_from:
            return "supported" if found.mean > 0 else "contradicted"
        # with matters_from=0 this would repeat the test without the correction
        too_small = matters_from > 0 and found.mean + found.half_width < matters_from
        return "contradicted" if too_small else "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """The differences that decide about a claim: all must be above 0.

    Attributes:
        claim: the claim.
        values: of the metric at the levels of the claim.
        differences: between the levels.
        p: the largest p value of the differences; None if not tested.
        missing: values that could not be compared, such as "0.1 with seed 2 (failed)".
        remark: an addition to the sentence of the verdict.
    """

    claim: Claim
    values: Values
    differences: tuple[Difference, ...]
    p: float | None
    missing: tuple[str, ...]
    remark: str = ""

    @classmethod
    def of(cls, claim: Claim, levels: Levels, looks: Looks | None = None) -> "Comparison":
        """Compare the levels that a claim is about.

        Args:
            claim: the claim.
            levels: the runs at each level.
            looks: times at which it is tested if seeds are added; None if seeds are fixed.
        """
        values, missing = _read(claim, levels, looks)
        comparison = cls(claim, values, (), None, missing)
        match claim.expects:
            case "higher" | "lower" | "same":
                differences = _between_two(claim, values)
            case "rises" | "falls":
                differences, diverged = _along(claim, values)
                comparison = replace(comparison, missing=(*missing, *diverged))
            case "differs":
                return _largest_difference(comparison)
            case "best_inside":
                return _best_against_ends(comparison)
        return replace(comparison, differences=differences, p=_p(claim, differences))


def _read(claim: Claim, levels: Levels, looks: Looks | None) -> tuple[Values, tuple[str, ...]]:
    two = (claim.at, claim.than)
    compared = {k: v for k, v in levels.items() if k in two or not claim.compares_two}
    seeds = min(map(len, compared.values()), default=0)
    images = images_behind(chain.from_iterable(levels.values()), claim.metric)
    values, missing = Values(images, looks, seeds), []
    for level, records in compared.items():
        values[level] = {}
        runs = Counter(record.config.seed for record in records)
        for record in records:
            seed, value = record.config.seed, measured(record, claim.metric, claim.reached)
            if runs[seed] > 1:  # a further setting was swept
                missing.append(f"{level} with seed {seed} ({runs[seed]} runs)")
            elif value is None:
                is_short = record.status == "complete" and claim.metric in OSCILLATION
                reason = TOO_SHORT if is_short else record.status
                missing.append(f"{level} with seed {seed} ({reason})")
            else:
                values[level][seed] = value
    required = two if claim.compares_two else ()
    missing += [f"{level} (not trained)" for level in required if level not in levels]
    return values, tuple(dict.fromkeys(missing))


def _pairs(values: Values, high: Value, low: Value) -> Difference:
    """Subtract the values of each seed, except for seeds that diverged at both levels."""
    above, below = values.get(high, {}), values.get(low, {})
    differences = [above[seed] - below[seed] for seed in above if seed in below]
    kept = tuple(value for value in differences if not math.isnan(value))
    # as in the settings of the runs: `than: 0` in a study is 0.0 there
    names = {level: str(level) for level in values}
    shown = names.get(high, str(high)), names.get(low, str(low))
    return Difference(*shown, kept, images=values.images, looks=values.looks)


def _between_two(claim: Claim, values: Values) -> tuple[Difference, ...]:
    levels = (claim.than, claim.at) if claim.expects == "lower" else (claim.at, claim.than)
    return (_pairs(values, *levels),)


def _along(claim: Claim, values: Values) -> tuple[tuple[Difference, ...], list[str]]:
    """Return the change from the first to the last level along a line fitted for each seed.

    The second value lists the inner levels that diverged, whose seeds have no line.
    """
    levels = [level for level in values if values[level]]
    if len(levels) < 2:
        return (Difference("", "", ()),), []
    sign, low, high = 1, str(levels[0]), str(levels[-1])
    if claim.expects == "falls":
        sign, low, high = -1, high, low
    curves = [values[level] for level in levels]
    seeds = [seed for seed in curves[0] if all(seed in curve for curve in curves)]
    changes = [sign * _fitted_change([curve[seed] for curve in curves]) for seed in seeds]
    kept = tuple(change for change in changes if not math.isnan(change))
    diverged = [
        f"{level} with seed {seed} (diverged)"
        for level in levels[1:-1]
        for seed in seeds
        if not math.isfinite(values[level][seed])
    ]
    change = Difference(high, low, kept, fitted=True, images=values.images, looks=values.looks)
    return (change,), diverged


def _fitted_change(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values[1:-1])):
        return math.nan
    if not all(map(math.isfinite, values)):
        return values[-1] - values[0]
    middle = (len(values) - 1) / 2
    steps = [index - middle for index in range(len(values))]
    slope = sum(s * v for s, v in zip(steps, values, strict=True)) / sum(s * s for s in steps)
    return slope * (len(values) - 1)


def _largest_difference(comparison: Comparison) -> Comparison:
    """Choose the pair of levels that differs most; p is corrected for the number of pairs."""
    values = comparison.values
    pairs = [_ordered(_pairs(values, a, b)) for a, b in combinations(values, 2)]
    pairs = [pair for pair in pairs if pair.values]
    if not pairs:
        return comparison
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    corrected = holm([p for _, p in tested])
    by_pair = {id(pair): p for (pair, _), p in zip(tested, corrected, strict=True)}

    def rank(pair: Difference) -> tuple[int, float]:
        verdict = pair.verdict(by_pair.get(id(pair)), comparison.claim.matters_from)
        size = mean(pair.values)
        return _RANKS.get(verdict, 0), -math.inf if math.isnan(size) else size

    largest = max(pairs, key=rank)
    return replace(comparison, differences=(largest,), p=by_pair.get(id(largest)))


def _ordered(pair: Difference) -> Difference:
    if pair.values and mean(pair.values) < 0:
        negated = tuple(-value for value in pair.values)
        return replace(pair, high=pair.low, low=pair.high, values=negated)
    return pair


def _best_against_ends(comparison: Comparison) -> Comparison:
    """Compare the best of the inner levels with the first and the last level."""
    values = comparison.values
    levels = [level for level in values if values[level]]
    if len(levels) < 3:
        return comparison
    sign = -1 if MEASURES[comparison.claim.metric].better == "lower" else 1
    means = {level: sign * mean(values[level].values()) for level in levels}
    ends = (levels[0], levels[-1])
    inside = max(levels[1:-1], key=lambda level: means[level])
    best = max(levels, key=lambda level: means[level])
    remark = f"best at {best}"
    if best in ends:
        remark += f", the {'first' if best == ends[0] else 'last'} level"
    differences = tuple(
        _pairs(values, end, inside) if sign < 0 else _pairs(values, inside, end) for end in ends
    )
    p = _p(comparison.claim, differences)
    return replace(comparison, differences=differences, p=p, remark=remark)


def _p(claim: Claim, differences: Sequence[Difference]) -> float | None:
    """Return the largest p value: the claim requires all differences."""
    tested = [d for d in differences if d.finite]
    if not tested or any(len(d.values) < 2 for d in differences):
        return None
    if claim.expects == "same":
        return max(d.equivalence_p(claim.matters_from) for d in tested)
    return max(d.p for d in tested if d.p is not None)
