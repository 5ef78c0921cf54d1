"""Which seeds a study with `adds_seeds` trains next: one more where a claim is not settled."""

from collections.abc import Sequence

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError
from cifar_exp.reports.content import looks_of
from cifar_exp.reports.levels import sorted_levels
from cifar_exp.reports.verdicts import compared_levels, findings
from cifar_exp.runs.record import Record


def next_runs(study: Study, records: Sequence[Record]) -> list[RunConfig]:
    """Return the runs of a study that are to be trained next.

    A claim is settled once it is supported or contradicted. The levels that an open claim compares
    get one seed more, those with the fewest seeds first, up to `max_seeds`. The same runs give the
    same answer, so that an interrupted study is resumed to the same decisions.

    Args:
        study: whose claims are judged.
        records: its runs so far, all ended.

    Returns:
        Different runs; none if the study is settled, at its most seeds, or has fixed seeds.

    Raises:
        UserError: several runs of a level have the same seed.
    """
    if not study.adds_seeds:
        return []
    (key,) = study.vary
    levels = sorted_levels(records, key)
    by_seed = {
        level: {run.config.seed: run.config for run in runs} for level, runs in levels.items()
    }
    if any(len(by_seed[level]) < len(runs) for level, runs in levels.items()):
        raise UserError(
            f"seed=auto: expected one run for each level of {key} and seed, got several"
        )
    found: dict[str, RunConfig] = {}
    for finding in findings(study.claims, levels, looks_of(study))[: len(study.claims)]:
        if finding.verdict != "inconclusive":
            continue
        compared = compared_levels(finding.claim, levels)
        fewest = min(len(by_seed[level]) for level in compared)
        if fewest >= study.max_seeds:
            continue
        for level in compared:
            if len(by_seed[level]) == fewest:
                seed = max(by_seed[level]) + 1
                config = next(iter(by_seed[level].values()))
                found[str(level)] = config.model_copy(update={"seed": seed, "rerun": False})
    return list(found.values())
