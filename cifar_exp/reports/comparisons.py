"""What a claim rests on: differences of a metric between levels, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from statistics import mean
from typing import Literal

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

Verdict = Literal[
    "supported",
    "contradicted",
    "inconclusive",
    "one seed: observed, not tested",
    "not measured",
]
Levels = Mapping[Value, Sequence[Record]]  # the runs at each level, in the study's order
SIGNIFICANT = 0.05
# Some levels differ if one pair does; they are alike only if no pair may differ.
_RANKS: dict[Verdict, int] = {"supported": 2, "inconclusive": 1}


class Values(dict[Value, dict[int, float]]):
    """Of each level, by seed; `images` is how many they are shares of, None if of none."""

    images: int | None = None
    looks: Looks | None = None


@dataclass(frozen=True)
class Difference:
    """Of a metric between two levels, seed by seed; counted so that a claim expects it above 0."""

    high: str  # the levels, where the claim expects more and where less
    low: str
    values: tuple[float, ...]
    fitted: bool = False  # on a line through all levels, and not of these two alone
    images: int | None = None  # of which the values are shares
    looks: Looks | None = (
        None  # at the seeds, while they are added; None where their number is fixed
    )

    @property
    def finite(self) -> bool:
        """Whether no run diverged at one of the levels alone."""
        return all(math.isfinite(value) for value in self.values)

    @property
    def p(self) -> float | None:
        """Of the t test against 0, not corrected; None where there is no such test."""
        if not self.finite or len(self.values) < 2:
            return None
        p = p_value(self.values, images=self.images)
        return self.looks.corrected(p) if self.looks else p

    def equivalence_p(self, margin: float) -> float:
        """Return the p value of the test that it lies within +-margin, of finite values."""
        p = equivalence_p_value(self.values, margin, self.images)
        return self.looks.corrected(p, one_sided=True) if self.looks else p

    @property
    def estimate(self) -> Estimate:
        """Its mean over seeds and the interval; of finite values."""
        return estimate(self.values, self.images, self.looks.tail if self.looks else TAIL)

    def verdict(self, p: float | None, matters_from: float) -> Verdict:
        """Judge it. Args: p: corrected; None where some diverged. matters_from: see Claim."""
        n = len(self.values)
        if n < 2:
            return "one seed: observed, not tested" if n else "not measured"
        if p is None:  # some diverged
            if all(value > 0 and value >= matters_from for value in self.values):
                return "supported"
            return "contradicted" if all(value < 0 for value in self.values) else "inconclusive"
        found = self.estimate
        if p < SIGNIFICANT and abs(found.mean) >= matters_from:
            return "supported" if found.mean > 0 else "contradicted"
        # where any difference matters, this would be the same test once more, not corrected
        too_small = matters_from > 0 and found.mean + found.half_width < matters_from
        return "contradicted" if too_small else "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """Differences that all must be above 0 for a claim to hold."""

    claim: Claim
    values: Values
    differences: tuple[Difference, ...]
    p: float | None
    missing: tuple[str, ...]
    remark: str = ""

    @classmethod
    def of(cls, claim: Claim, levels: Levels, looks: Looks | None = None) -> "Comparison":
        """Collect what the claim is about from the runs at each level.

        Args:
            claim: of the study.
            levels: the runs at each level.
            looks: at the seeds, while they are added; None where their number is fixed.
        """
        values, missing = _read(claim, levels)
        values.looks = looks
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


def _read(claim: Claim, levels: Levels) -> tuple[Values, tuple[str, ...]]:
    values = Values()
    values.images = images_behind(chain.from_iterable(levels.values()), claim.metric)
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


def _pairs(values: Values, high: Value, low: Value) -> Difference:
    """Subtract seed by seed; seeds that diverged at both levels say nothing."""
    above, below = values.get(high, {}), values.get(low, {})
    differences = [above[seed] - below[seed] for seed in above if seed in below]
    kept = tuple(value for value in differences if not math.isnan(value))
    # as the runs write them: `than: 0` in a study is 0.0 there
    names = {level: str(level) for level in values}
    shown = names.get(high, str(high)), names.get(low, str(low))
    return Difference(*shown, kept, images=values.images, looks=values.looks)


def _between_two(claim: Claim, values: Values) -> tuple[Difference, ...]:
    levels = (claim.than, claim.at) if claim.expects == "lower" else (claim.at, claim.than)
    return (_pairs(values, *levels),)


def _along(claim: Claim, values: Values) -> tuple[Difference, ...]:
    """Fit a line through the levels' places for each seed: its change from first to last."""
    levels = [level for level in values if values[level]]
    if len(levels) < 2:
        return (Difference("", "", ()),)
    first, last = levels[0], levels[-1]
    sign = 1 if claim.expects == "rises" else -1
    seeds = [seed for seed in values[first] if all(seed in values[level] for level in levels)]
    changes = [sign * _fitted_change([values[level][seed] for level in levels]) for seed in seeds]
    high, low = (last, first) if claim.expects == "rises" else (first, last)
    kept = tuple(change for change in changes if not math.isnan(change))
    ends = str(high), str(low)
    return (Difference(*ends, kept, fitted=True, images=values.images, looks=values.looks),)


def _fitted_change(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return values[-1] - values[0]
    middle = (len(values) - 1) / 2
    steps = [place - middle for place in range(len(values))]
    slope = sum(s * v for s, v in zip(steps, values, strict=True)) / sum(s * s for s in steps)
    return slope * (len(values) - 1)


def _largest(found: Comparison) -> Comparison:
    """Take the pair of levels that differs most, corrected for having been looked for."""
    pairs = [_ordered(_pairs(found.values, a, b)) for a, b in combinations(found.values, 2)]
    pairs = [pair for pair in pairs if pair.values]
    if not pairs:
        return found
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    corrected = holm([p for _, p in tested])
    by_pair = {id(pair): p for (pair, _), p in zip(tested, corrected, strict=True)}

    def rank(pair: Difference) -> tuple[int, float]:
        verdict = pair.verdict(by_pair.get(id(pair)), found.claim.matters_from)
        size = mean(pair.values)
        return _RANKS.get(verdict, 0), -math.inf if math.isnan(size) else size

    most = max(pairs, key=rank)
    return replace(found, differences=(most,), p=by_pair.get(id(most)))


def _ordered(pair: Difference) -> Difference:
    if pair.values and mean(pair.values) < 0:
        turned = tuple(-value for value in pair.values)
        return replace(pair, high=pair.low, low=pair.high, values=turned)
    return pair


def _best_against_ends(found: Comparison) -> Comparison:
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


def _p(claim: Claim, differences: Sequence[Difference]) -> float | None:
    """Return the largest of the p values: all differences must hold."""
    tested = [d for d in differences if d.finite]
    if not tested or any(len(d.values) < 2 for d in differences):
        return None
    if claim.expects == "same":
        return max(d.equivalence_p(claim.matters_from) for d in tested)
    return max(d.p for d in tested if d.p is not None)
