"""The next seeds of a study that adds seeds until its claims are settled."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from cifar_exp.config.identity import all_settings
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study, Value, level_name
from cifar_exp.reports.levels import sorted_levels
from cifar_exp.reports.sequential import looks_of
from cifar_exp.reports.verdicts import compared_levels, judge_claims
from cifar_exp.runs.record import Record


def next_runs(study: Study, records: Sequence[Record]) -> list[RunConfig]:
    """Return the runs to train next.

    A claim is settled if it is supported or contradicted. The levels compared by an inconclusive
    claim get one more seed, up to `max_seeds`; levels with fewer seeds come first, then those of
    most open claims. The result depends on the runs alone, so a resumed study makes the same
    decisions.

    Args:
        study: the study; without `add_seeds` nothing is returned.
        records: its finished runs.
    """
    if not study.add_seeds:
        return []
    (key,) = study.vary
    levels = sorted_levels(records, key)
    open_claims: Counter[Value] = Counter()  # of each level that gets one more seed
    for result in judge_claims(study.claims, levels, looks_of(study))[: len(study.claims)]:
        if result.verdict == "inconclusive":
            compared = compared_levels(result.claim, levels)
            counts = {level: len(runs) for level, runs in levels.items() if level in compared}
            fewest = min(counts.values())
            if fewest < study.max_seeds:
                open_claims.update(level for level, count in counts.items() if count == fewest)
    more: list[RunConfig] = []
    for level, _ in open_claims.most_common():
        more += _next_seeds([run.config for run in levels[level]], 1)
    return more


def possible_runs(study: Study, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Return all runs that `next_runs` may add until `max_seeds`.

    Args:
        study: the study; without `add_seeds` nothing is returned.
        configs: its runs.
    """
    if not study.add_seeds:
        return []
    (key,) = study.vary
    of_level: dict[Value, list[RunConfig]] = defaultdict(list)
    for config in configs:
        of_level[level_name(all_settings(config).get(key))].append(config)
    levels: dict[Value, list[Record]] = {level: [] for level in of_level}
    compared = {level for claim in study.claims for level in compared_levels(claim, levels)}
    possible = []
    for level, runs in of_level.items():
        if level in compared:
            possible += _next_seeds(runs, study.max_seeds - len(runs))
    return possible


def _next_seeds(runs: Sequence[RunConfig], count: int) -> list[RunConfig]:
    """Return the runs with the next seeds of a level."""
    first = max(run.seed for run in runs) + 1
    return [
        runs[0].model_copy(update={"seed": seed, "rerun": False})
        for seed in range(first, first + count)
    ]
