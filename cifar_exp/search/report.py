"""What the report of a search says, put together from search.json and the run folders alone."""

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
from cifar_exp.reports.comparisons import Levels
from cifar_exp.reports.content import (
    Report,
    Section,
    cautions_of,
    changed_from_article,
    mean_and_interval,
    provenance_of,
    shared_settings,
    statuses,
)
from cifar_exp.reports.metrics import MAIN_METRIC, MEASURES
from cifar_exp.reports.plots import ReportFigure, report_figures
from cifar_exp.reports.records import read_runs
from cifar_exp.reports.stored import StoredConfirmation, StoredSearch, StoredTrial
from cifar_exp.reports.verdicts import judge_claims
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.record import Record, remarks
from cifar_exp.runs.stored import check
from cifar_exp.search.plan import in_words

_SHOWN_TRIALS = 5
_GAIN = Claim(
    says="The settings that were found are better than those the search began with.",
    metric=MAIN_METRIC,
    expects="higher",
    at="found",
    than="start",
)
_READING = {
    "Validation": "All trials are trained with one seed on a part of the training images, and "
    "judged by the rest, the same for all. The best of many is partly lucky, so its own number is "
    "too good.",
    "Confirmation": "The winner is therefore trained anew, on all training images and with seeds "
    "that the search has not used, and only then tested. No other trial has seen a test image.",
    "Pruning": "A trial that does worse than others did after as many epochs is given up. Its run "
    "keeps its checkpoint, and could go on.",
}


def read_search_report(folder: Path) -> Report:
    """Put the report of a search together.

    Args:
        folder: of the search, with search.json; the run folders are in `runs` next to it.

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
    tried = {number: by_name[run] for number, run in names.items() if run in by_name}
    confirmed = _confirmed(last, by_name) if last else {}
    tested = [record for records in confirmed.values() for record in records]
    ended = [record for record in tried.values() if record.status in ENDED]
    sections = [_confirmation(search, confirmed)] if tested else []
    shared = shared_settings([record.config for record in tried.values()]) if tried else {}
    return Report(
        title=f"Search over {', '.join(short_names(list(search.space)))}",
        command=f"python {search.command}",
        cautions=[
            *_cautions(search),
            *(f"Left out: {line}." for line in left_out),
            *(cautions_of(tested or ended) if ended else []),
        ],
        sections=[*sections, _search(search, tried)],
        runs=[_row(search, trial) for trial in search.trials if trial.run],
        shared=shared,
        from_article=changed_from_article([r.config for r in tried.values()][:1], shared)
        if tried
        else {},
        provenance=_counts(search) | provenance_of([*tried.values(), *tested]),
        problems=[*left_out, *remarks(records)],
        reading=_READING,
    )


def read_search(folder: Path) -> StoredSearch:
    """Return what a search's search.json says.

    Raises:
        UserError: it is not the folder of a search.
    """
    file = folder / SEARCH_FILE
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder}: expected the folder of a search, with a search.json that can be read"
        ) from error
    check(StoredSearch, content, file)
    search = StoredSearch.model_validate_json(json.dumps(content))
    named = re.fullmatch(r".*-([0-9a-f]{10})", folder.resolve().name, re.DOTALL)
    if search.id and named and named[1] != search.id:
        raise UserError(f"{file}: it is of search {search.id}, not of {named[1]}; it was replaced")
    return search


def _confirmed(confirmation: StoredConfirmation, by_name: Mapping[str, Record]) -> Levels:
    runs = {"start": confirmation.start, "found": confirmation.found}
    there = {
        name: [by_name[run] for run in found if run in by_name] for name, found in runs.items()
    }
    return {name: found for name, found in there.items() if found}


def _confirmation(search: StoredSearch, confirmed: Levels) -> Section:
    """What the winner is worth."""
    winner = search.confirmations[-1].winner
    words = {"found": [f"{in_words(_by_number(search)[winner].params)} (trial {winner})"]}
    return Section(
        title="What the winner is worth",
        question="What are the settings worth that were found, on test images and fresh seeds?",
        keys=["settings"],
        claim_results=judge_claims([_GAIN], confirmed) if len(confirmed) > 1 else [],
        figures=report_figures(
            [record for records in confirmed.values() for record in records],
            {"settings": confirmed},
            [MAIN_METRIC],
            "confirmed-",
        ),
        summary=[
            {
                "settings": ": ".join([str(name), *words.get(str(name), [])]),
                "runs": statuses(records),
                MEASURES[MAIN_METRIC].label: mean_and_interval(records, MAIN_METRIC),
            }
            for name, records in confirmed.items()
        ],
    )


def _search(search: StoredSearch, tried: dict[int, Record]) -> Section:
    """How the trials fared."""
    complete = [trial for trial in search.trials if trial.status == "complete"]
    higher = search.settings.metric == "accuracy"
    best = sorted(complete, key=lambda trial: -(trial.value or 0) if higher else trial.value or 0)
    return Section(
        title="How it was found",
        question="",
        keys=["trial"],
        claim_results=[],
        figures=_pictures(search, tried, complete),
        summary=[_row(search, trial) for trial in best[:_SHOWN_TRIALS]],
        caption="The best trials, by validation images and with one seed",
        note="These numbers are of validation images. They are there to choose by: the best of "
        "many is too good to be expected again.",
    )


def _pictures(
    search: StoredSearch, tried: dict[int, Record], complete: Sequence[StoredTrial]
) -> list[ReportFigure]:
    metric, percent = _metric(search)
    trials = [_tried(search, trial, tried) for trial in search.trials if trial.number in tried]
    higher = search.settings.metric == "accuracy"
    names = short_names(list(search.space))
    pictures = [
        ReportFigure(
            "history",
            "What each trial came to, in the order in which they began.",
            partial(draw_history, trials, higher, metric, percent),
        ),
        ReportFigure(
            "trials",
            "Each trial after each epoch, to where it ended or was given up.",
            partial(draw_trials, trials, search.best, metric, percent),
        ),
    ]
    if search.importance:
        shares = {
            name: search.importance[key]
            for key, name in zip(search.space, names, strict=True)
            if key in search.importance
        }
        label = "importance for coming among the best trials"
        pictures.append(
            ReportFigure(
                "importance",
                "How much each setting matters for coming among the best trials (PED-ANOVA, of "
                "those that came to their end; the shares sum to 100 %).",
                partial(draw_importance, shares, label),
            )
        )
    lines = [
        ([_coordinate(t.params.get(key)) for key in search.space], float(t.value or 0))
        for t in complete
    ]
    if len(lines) > 1:
        caption = f"Each line is a trial that came to its end: its settings, and last its {metric}."
        draw = partial(draw_parallel_coordinates, names, lines, metric, percent)
        pictures.append(ReportFigure("parallel", caption, draw))
    return pictures


def _tried(search: StoredSearch, trial: StoredTrial, tried: dict[int, Record]) -> TrialCurve:
    record = tried[trial.number]
    column = record.evaluated(search.settings.metric)
    # a run that others share may have gone on
    rows = record.rows[: trial.epochs]
    values = [row[column] for row in rows if row[column] is not None]
    return TrialCurve(trial.number, values, trial.status == "complete")


def _coordinate(value: float | str | None) -> float | str:
    return value if isinstance(value, int | float) else str(value)


def _metric(search: StoredSearch) -> tuple[str, bool]:
    metric = search.settings.metric
    return f"validation {metric}" + " (nats)" * (metric == "loss"), metric == "accuracy"


def _row(search: StoredSearch, trial: StoredTrial) -> dict[str, str]:
    metric, percent = _metric(search)
    value = trial.value
    text = "" if value is None else f"{100 * value:.1f} %" if percent else f"{value:.4g}"
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
    }


def _by_number(search: StoredSearch) -> dict[int, StoredTrial]:
    return {trial.number: trial for trial in search.trials}


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
            "Nothing has been tested: the winner is the best by validation images with one seed, "
            "and that number is too good."
        )
    if len(search.confirmations) > 1:
        times = ", then ".join(
            f"trial {c.winner} after {c.trials} trial{'s' * (c.trials > 1)}"
            for c in search.confirmations
        )
        cautions.append(
            f"The test set was touched more than once: {times}. If an earlier result had a part "
            "in going on, the last one is too good."
        )
    cautions += [
        f"Trial {trial.number} failed: {trial.reason}"
        for trial in search.trials
        if trial.status == "failed"
    ]
    return cautions
