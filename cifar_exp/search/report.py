"""The content of the report of a search, from search.json and the run folders."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from cifar_exp.config.keys import short_names
from cifar_exp.config.study import Claim
from cifar_exp.errors import UserError
from cifar_exp.figures.search import TrialCurve, draw_history, draw_trials
from cifar_exp.figures.settings import draw_importance, draw_parallel_coordinates
from cifar_exp.files import read_text
from cifar_exp.paths import RUNS, SEARCH_FILE
from cifar_exp.reports.answer import Answer, train_command
from cifar_exp.reports.comparisons import Levels
from cifar_exp.reports.content import (
    Report,
    Section,
    cautions_of,
    changed_from_article,
    facts_of,
    mean_and_interval,
    provenance_of,
    shared_settings,
)
from cifar_exp.reports.metrics import MAIN_METRIC, MEASURES
from cifar_exp.reports.plots import ReportFigure, best_first, report_figures
from cifar_exp.reports.records import read_runs
from cifar_exp.reports.stored import StoredConfirmation, StoredSearch, StoredTrial
from cifar_exp.reports.table import run_page, statuses
from cifar_exp.reports.verdicts import judge_claims
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.record import Record, remarks
from cifar_exp.runs.stored import check
from cifar_exp.search.plan import describe

_MAX_ROWS = 5
_BEST, _BASELINE = "best trial", "baseline"
_GAIN = Claim(
    says="The best trial is better than the baseline, the settings without the search.",
    metric=MAIN_METRIC,
    expects="higher",
    at=_BEST,
    than=_BASELINE,
)
_READING = {
    "Validation": "All trials use the same seed and the same training and validation images. The "
    "result of the best of many trials is optimistic, because it is partly luck.",
    "Confirmation": "The best trial is therefore trained again, on all training images and with "
    "new seeds, and only these runs are tested. No other trial uses test images.",
    "Pruning": "A trial that is worse than others after the same number of epochs is pruned. Its "
    "run keeps its checkpoint, and can be resumed.",
}


def read_search_report(folder: Path) -> Report:
    """Return the report of a search.

    Args:
        folder: folder of the search, with search.json. The run folders are in `runs` next to it.

    Raises:
        UserError: it is not the folder of a search.
    """
    search = read_search(folder)
    names = {trial.number: trial.run for trial in search.trials if trial.run and trial.epochs}
    last = search.confirmations[-1] if search.confirmations else None
    listed = [*names.values(), *([*last.start, *last.found] if last else [])]
    ids = {name: RunFolder(Path(name)).run_id for name in listed}
    by_name, left_out = read_runs(folder.parent / RUNS, ids) if ids else ({}, [])
    records = list(by_name.values())
    runs = {number: by_name[run] for number, run in names.items() if run in by_name}
    confirmed = _confirmed(last, by_name) if last else {}
    tested = [record for records in confirmed.values() for record in records]
    ended = [record for record in runs.values() if record.status in ENDED]
    sections = [_confirmation(search, confirmed)] if tested else []
    all_runs = [*runs.values(), *tested]
    shared = shared_settings([record.config for record in runs.values()]) if runs else {}
    return Report(
        title=f"Search over {', '.join(short_names(list(search.space)))}",
        command=f"python {search.command}",
        facts=facts_of(all_runs) if all_runs else "",
        answer=sections[0].answer if sections else _best_trial(search, runs),
        cautions=[
            *_cautions(search),
            *(f"Left out: {line}." for line in left_out),
            *(cautions_of(tested or ended) if ended else []),
        ],
        sections=[*sections, _trials(search, runs)],
        runs=[_row(search, trial, runs) for trial in search.trials if trial.run],
        shared=shared,
        from_article=changed_from_article([r.config for r in runs.values()][:1], shared)
        if runs
        else {},
        provenance=_counts(search) | provenance_of(all_runs),
        problems=[*left_out, *remarks(records)],
        reading=_READING,
    )


def read_search(folder: Path) -> StoredSearch:
    """Read the search.json of a search.

    Raises:
        UserError: it is not the folder of a search, or the file belongs to another search.
    """
    file = folder / SEARCH_FILE
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder}: expected the folder of a search, with a readable search.json"
        ) from error
    check(StoredSearch, content, file)
    search = StoredSearch.model_validate_json(json.dumps(content))
    named = re.fullmatch(r".*-([0-9a-f]{10})", folder.resolve().name, re.DOTALL)
    if search.id and named and named[1] != search.id:
        raise UserError(f"{file}: belongs to search {search.id}, expected search {named[1]}")
    return search


def _confirmed(confirmation: StoredConfirmation, by_name: Mapping[str, Record]) -> Levels:
    runs = {_BASELINE: confirmation.start, _BEST: confirmation.found}
    levels = {
        level: [by_name[name] for name in names if name in by_name] for level, names in runs.items()
    }
    return best_first({level: records for level, records in levels.items() if records})


def _confirmation(search: StoredSearch, confirmed: Levels) -> Section:
    """Return the section about the test of the best trial."""
    winner = search.confirmations[-1].winner
    params = next(trial.params for trial in search.trials if trial.number == winner)
    details = {_BEST: [f"{describe(params)} (trial {winner})"]}
    results = judge_claims([_GAIN], confirmed) if len(confirmed) > 1 else []
    found = confirmed.get(_BEST, [])
    return Section(
        title="Test of the best trial",
        question="How good is the best trial, on test images and with new seeds?",
        keys=["settings"],
        claim_results=results,
        answer=Answer(
            best=details[_BEST][0],
            result=f"test accuracy {mean_and_interval(found, MAIN_METRIC)}",
            command=train_command(found[0].config),
            effect="; ".join(effect for result in results for effect in result.effects),
            verdict=results[0].verdict if results else "not measured",
            is_final=all(record.status in ENDED for record in found),
        )
        if found
        else None,
        figures=report_figures(
            [record for records in confirmed.values() for record in records],
            {"settings": confirmed},
            [MAIN_METRIC],
            "confirmed-",
        ),
        summary=[
            {
                "settings": ": ".join([str(level), *details.get(str(level), [])]),
                "runs": statuses(records),
                MEASURES[MAIN_METRIC].label: mean_and_interval(records, MAIN_METRIC),
            }
            for level, records in confirmed.items()
        ],
    )


def _best_trial(search: StoredSearch, runs: Mapping[int, Record]) -> Answer | None:
    """Return the best trial, which has not been tested."""
    trial = next((trial for trial in search.trials if trial.number == search.best), None)
    if trial is None or trial.value is None or trial.number not in runs:
        return None
    return Answer(
        best=f"{describe(trial.params)} (trial {trial.number})",
        result=f"{_metric(search)[0]} {_value_text(search, trial.value)} (1 seed, not tested)",
        command=train_command(runs[trial.number].config),
    )


def _trials(search: StoredSearch, runs: dict[int, Record]) -> Section:
    """Return the section about all trials."""
    complete = [trial for trial in search.trials if trial.status == "complete"]
    higher = search.settings.metric == "accuracy"
    best = sorted(complete, key=lambda trial: -(trial.value or 0) if higher else trial.value or 0)
    return Section(
        title="Trials",
        question="",
        keys=["trial"],
        claim_results=[],
        figures=_figures(search, runs, complete),
        summary=[_row(search, trial, runs) for trial in best[:_MAX_ROWS]],
        caption="The best trials, on validation images and with one seed",
        note="These results on validation images are for choosing a trial. The best of many is "
        "optimistic.",
    )


def _figures(
    search: StoredSearch, runs: dict[int, Record], complete: Sequence[StoredTrial]
) -> list[ReportFigure]:
    metric = f"validation {search.settings.metric}"
    unit = "%" if search.settings.metric == "accuracy" else "nats"
    trials = [
        _tried(search, trial, runs[trial.number]) for trial in search.trials if trial.number in runs
    ]
    higher = search.settings.metric == "accuracy"
    names = short_names(list(search.space))
    figures = [
        ReportFigure(
            "history",
            "The result of each trial, in the order of their start.",
            partial(draw_history, trials, higher, metric, unit),
        ),
        ReportFigure(
            "trials",
            "Each trial after each epoch, until it ended or was pruned.",
            partial(draw_trials, trials, search.best, metric, unit),
        ),
    ]
    if search.importance:
        shares = {
            name: search.importance[key]
            for key, name in zip(search.space, names, strict=True)
            if key in search.importance
        }
        label = "importance by PED-ANOVA"
        figures.append(
            ReportFigure(
                "importance",
                "The importance of each setting by Optuna's PED-ANOVA, as in optuna-dashboard: how "
                "much the values in the best tenth of the complete trials differ from those in all "
                "of them. The shares sum to 100 %, and are uncertain with few trials.",
                partial(draw_importance, shares, label),
            )
        )
    lines = [
        ([_coordinate(t.params.get(key)) for key in search.space], float(t.value or 0))
        for t in complete
    ]
    if len(lines) > 1:
        caption = f"Each line is a complete trial: its settings and, at the end, its {metric}."
        draw = partial(draw_parallel_coordinates, names, lines, metric, unit, higher)
        figures.append(ReportFigure("parallel", caption, draw))
    return figures


def _tried(search: StoredSearch, trial: StoredTrial, record: Record) -> TrialCurve:
    column = record.evaluated(search.settings.metric)
    # the run may have been trained further after the trial was pruned
    rows = record.rows[: trial.epochs]
    values = [row[column] for row in rows if row[column] is not None]
    return TrialCurve(trial.number, values, trial.status == "complete")


def _coordinate(value: float | str | None) -> float | str:
    return value if isinstance(value, int | float) else str(value)


def _metric(search: StoredSearch) -> tuple[str, bool]:
    metric = search.settings.metric
    return f"validation {metric}" + " (nats)" * (metric == "loss"), metric == "accuracy"


def _value_text(search: StoredSearch, value: float) -> str:
    return f"{100 * value:.1f} %" if _metric(search)[1] else f"{value:.4g}"


def _row(search: StoredSearch, trial: StoredTrial, runs: Mapping[int, Record]) -> dict[str, str]:
    metric, _ = _metric(search)
    text = "" if trial.value is None else _value_text(search, trial.value)
    record = runs.get(trial.number)
    names = short_names(list(search.space))
    params = {
        name: trial.params.get(key, "") for name, key in zip(names, search.space, strict=True)
    }
    return {
        "trial": str(trial.number),
        **{name: str(value) for name, value in params.items()},
        "status": trial.status,
        metric: text,
        "epochs": str(trial.epochs),
        "folder": f"../{RUNS}/{trial.run}",
        "page": run_page(record.folder.path) if record else f"../{RUNS}/{trial.run}/",
    }


def _counts(search: StoredSearch) -> dict[str, str]:
    counts = Counter(trial.status for trial in search.trials)
    return {
        "trials": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "sampler": search.settings.sampler,
        "pruner": search.settings.pruner,
    } | {f"space of {key}": domain for key, domain in search.space.items()}


def _cautions(search: StoredSearch) -> list[str]:
    cautions = []
    if not search.confirmations:
        cautions.append(
            "No trial has been tested. The best trial was chosen on validation images with one "
            "seed, so its result is optimistic."
        )
    if len(search.confirmations) > 1:
        times = ", then ".join(
            f"trial {c.winner} after {c.trials} trial{'s' * (c.trials > 1)}"
            for c in search.confirmations
        )
        cautions.append(
            f"The test set was used more than once: {times}. If an earlier test result influenced "
            "the decision to continue, the last result is optimistic."
        )
    cautions += [
        f"Trial {trial.number} failed: {trial.reason}"
        for trial in search.trials
        if trial.status == "failed"
    ]
    return cautions
