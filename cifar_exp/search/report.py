"""The content of the report of a search, from search.json and the run folders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import settings
from cifar_exp.config.keys import short_names
from cifar_exp.config.study import Claim, Value
from cifar_exp.figures.search import TrialCurve, draw_history, draw_trials
from cifar_exp.figures.settings import draw_importance, draw_parallel_coordinates
from cifar_exp.paths import RUNS
from cifar_exp.reports.answer import Answer, shown_answer, train_command
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
from cifar_exp.reports.records import read_runs, read_search
from cifar_exp.reports.stored import StoredSearch, StoredTrial
from cifar_exp.reports.table import run_page, statuses
from cifar_exp.reports.verdicts import ClaimResult, judge_claims
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.record import Record, remarks
from cifar_exp.search.plan import describe
from cifar_exp.terminal import columns, table, wrapped

_MAX_ROWS = 5
_BASELINE = "baseline"
_READING = {
    "Validation": "All trials use the same seed and the same training and validation images. The "
    "result of the best of many trials is optimistic, because it is partly luck.",
    "Confirmation": "The best trial is therefore trained again, on all training images and with "
    "new seeds, and only these runs are tested. No other trial uses test images.",
    "Pruning": "A trial that is worse than others after the same number of epochs is pruned. Its "
    "run keeps its checkpoint, and can be resumed.",
}


@dataclass(frozen=True)
class _Search:
    """A search with the records of its runs, by the name in search.json."""

    stored: StoredSearch
    by_name: Mapping[str, Record]

    @cached_property
    def runs(self) -> dict[int, Record]:
        """The runs of trials, by the number of the trial."""
        return {
            trial.number: self.by_name[trial.run]
            for trial in self.stored.trials
            if trial.epochs and trial.run and trial.run in self.by_name
        }

    @cached_property
    def confirmed(self) -> Levels:
        """The runs of the last confirmation, the best level first; empty without one."""
        if not self.stored.confirmations:
            return {}
        last = self.stored.confirmations[-1]
        levels = {
            level: [self.by_name[name] for name in names if name in self.by_name]
            for level, names in ((_BASELINE, last.start), (self.tested_label, last.found))
        }
        return best_first({level: records for level, records in levels.items() if records})

    @property
    def is_best_tested(self) -> bool:
        """Whether the trial that was tested last is the best one."""
        last = self.stored.confirmations[-1:]
        return any(confirmation.winner == self.stored.best for confirmation in last)

    @property
    def tested_label(self) -> str:
        """The trial that was tested last; after more trials, another one may be the best."""
        if self.is_best_tested:
            return "best trial"
        return f"trial {self.stored.confirmations[-1].winner}"

    @property
    def test_runs(self) -> list[Record]:
        """The runs of the trial that was tested last."""
        return list(self.confirmed.get(self.tested_label, [])) if self.stored.confirmations else []

    @property
    def names(self) -> dict[str, str]:
        """The short name of each key of the space."""
        return dict(zip(self.stored.space, short_names(list(self.stored.space)), strict=True))

    @property
    def complete(self) -> list[StoredTrial]:
        return [trial for trial in self.stored.trials if trial.status == "complete"]

    @property
    def higher_is_better(self) -> bool:
        return self.stored.settings.metric == "accuracy"

    @property
    def column(self) -> str:
        """The title of the column with the result of each trial."""
        return f"validation {'accuracy' if self.higher_is_better else 'loss (nats)'}"

    def value_text(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.higher_is_better else f"{value:.4g}"


def read_search_report(folder: Path) -> Report:
    """Return the report of a search.

    Args:
        folder: folder of the search, with search.json. The run folders are in `runs` next to it.

    Raises:
        UserError: it is not the folder of a search.
    """
    stored = read_search(folder)
    by_name, left_out = _read_runs(stored, folder.parent / RUNS)
    search = _Search(stored, by_name)
    # trials with the same settings share a run
    trained = list({record.folder: record for record in search.runs.values()}.values())
    tested = [record for records in search.confirmed.values() for record in records]
    configs = [record.config for record in trained]
    shared = shared_settings(configs) if configs else {}
    sections = [_confirmation(search)] if tested else []
    return Report(
        title=f"Search over {', '.join(search.names.values())}",
        command=f"python {stored.command}",
        facts=facts_of([*trained, *tested]) if trained or tested else "",
        answer=(sections[0].answer if sections else None) or _best_trial(search),
        cautions=[
            *_cautions(search),
            *(f"Left out: {line}." for line in left_out),
            *_cautions_of_runs(trained, tested),
        ],
        sections=[*sections, _trials(search)],
        runs=[
            *(_row(search, trial) for trial in stored.trials if trial.run),
            *(
                _test_row(search, level, run)
                for level, of in search.confirmed.items()
                for run in of
            ),
        ],
        shared=shared,
        from_article=changed_from_article(configs, shared) if configs else {},
        provenance=_counts(stored) | provenance_of([*trained, *tested]),
        problems=[*left_out, *remarks(list(by_name.values()))],
        reading=_READING,
    )


def search_text(report: Report) -> str:
    """Return the result of a search for the terminal: the tested settings and the answer."""
    paragraphs = []
    if report.sections[0].answer:
        rows = report.sections[0].summary
        paragraphs.append(table([list(row.values()) for row in rows], list(rows[0]), columns()))
    if report.answer:
        paragraphs.append(shown_answer(report.answer))
    paragraphs += [wrapped(caution) for caution in report.cautions]
    return "\n\n".join(paragraphs)


def _read_runs(search: StoredSearch, runs: Path) -> tuple[dict[str, Record], list[str]]:
    """Read the runs of the trials and of the last confirmation; see `read_runs`."""
    names = [trial.run for trial in search.trials if trial.run and trial.epochs]
    for last in search.confirmations[-1:]:
        names += [*last.start, *last.found]
    ids = {name: RunFolder(Path(name)).run_id for name in names}
    return read_runs(runs, ids) if ids else ({}, [])


def _confirmation(search: _Search) -> Section:
    """Return the section about the test of the best trial."""
    winner = search.stored.confirmations[-1].winner
    params = next(trial.params for trial in search.stored.trials if trial.number == winner)
    best = f"{describe(params)} (trial {winner})"
    values: dict[Value, str] = {search.tested_label: best}
    confirmed = search.confirmed
    name = "the best trial" if search.is_best_tested else search.tested_label
    says = f"{name} is better than the baseline, the settings without the search."
    gain = Claim(
        says=says[0].upper() + says[1:],
        metric=MAIN_METRIC,
        expects="higher",
        at=search.tested_label,
        than=_BASELINE,
    )
    results = judge_claims([gain], confirmed) if len(confirmed) > 1 else []
    return Section(
        title=f"Test of {name}",
        question=f"How good is {name}, on test images and with new seeds?",
        keys=["settings"],
        claim_results=results,
        answer=_tested_best(search, best, results),
        figures=report_figures(
            [record for records in confirmed.values() for record in records],
            {"settings": confirmed},
            [MAIN_METRIC],
            "confirmed-",
        ),
        summary=[
            {
                "settings": f"{level}: {values.get(level) or _searched(search, records)}",
                "runs": statuses(records),
                MEASURES[MAIN_METRIC].label: mean_and_interval(records, MAIN_METRIC),
            }
            for level, records in confirmed.items()
        ],
    )


def _tested_best(search: _Search, best: str, results: Sequence[ClaimResult]) -> Answer | None:
    """Return the test of the best trial; None if another one was tested, or no run has ended."""
    runs = search.test_runs
    if not (search.is_best_tested and any(run.status in ENDED for run in runs)):
        return None
    return Answer(
        name="Best trial",
        best=best,
        compared_with="the baseline",
        result=f"test accuracy {mean_and_interval(runs, MAIN_METRIC)}",
        command=train_command(runs[0].config),
        effect="; ".join(effect for result in results for effect in result.effects),
        verdict=results[0].verdict if results else "not measured",
        is_final=not search.stored.left and all(run.status in ENDED for run in runs),
    )


def _searched(search: _Search, records: Sequence[Record]) -> str:
    """Return the values that these runs have of what is searched."""
    flat = settings(records[0].config)
    return describe({key: flat[key] for key in search.stored.space if key in flat})


def _best_trial(search: _Search) -> Answer | None:
    """Return the best trial, which has not been tested."""
    best = (trial for trial in search.complete if trial.number == search.stored.best)
    trial = next(best, None)
    if trial is None or trial.value is None or trial.number not in search.runs:
        return None
    value = search.value_text(trial.value) + " nats" * (not search.higher_is_better)
    return Answer(
        name="Best trial",
        is_final=search.stored.left == 0,
        best=f"{describe(trial.params)} (trial {trial.number})",
        result=f"validation {search.stored.settings.metric} {value} (1 seed, not tested)",
        command=train_command(search.runs[trial.number].config),
    )


def _trials(search: _Search) -> Section:
    """Return the section about all trials."""
    sign = -1 if search.higher_is_better else 1
    best = sorted(search.complete, key=lambda trial: sign * (trial.value or 0))
    return Section(
        title="Trials",
        question="",
        keys=["trial"],
        claim_results=[],
        figures=_figures(search),
        summary=[_row(search, trial) for trial in best[:_MAX_ROWS]],
        caption="The best trials, on validation images and with one seed",
        note="These results on validation images are for choosing a trial. The best of many is "
        "optimistic.",
    )


def _figures(search: _Search) -> list[ReportFigure]:
    stored, higher = search.stored, search.higher_is_better
    metric, unit = ("validation accuracy", "%") if higher else ("validation loss", "nats")
    trials = [
        _curve(search, trial, search.runs[trial.number])
        for trial in stored.trials
        if trial.number in search.runs
    ]
    figures = [
        ReportFigure(
            "history",
            "Each trial, in the order of their start, with its result after its last epoch.",
            partial(draw_history, trials, higher, metric, unit),
        ),
        ReportFigure(
            "trials",
            "Each trial after each epoch, until it ended or was pruned.",
            partial(draw_trials, trials, stored.best, metric, unit),
        ),
    ]
    if stored.importance:
        shares = {
            name: stored.importance[key]
            for key, name in search.names.items()
            if key in stored.importance
        }
        figures.append(
            ReportFigure(
                "importance",
                "The importance of each setting by Optuna's PED-ANOVA, as in optuna-dashboard: how "
                "much the values in the best tenth of the complete trials differ from those in all "
                "of them. The shares sum to 100 %, and are uncertain with few trials.",
                partial(draw_importance, shares, "importance by PED-ANOVA"),
            )
        )
    lines = [
        ([_coordinate(trial.params.get(key)) for key in stored.space], float(trial.value or 0))
        for trial in search.complete
    ]
    if len(lines) > 1:
        names = list(search.names.values())
        figures.append(
            ReportFigure(
                "parallel",
                f"Each line is a complete trial: its settings and, at the end, its {metric}.",
                partial(draw_parallel_coordinates, names, lines, metric, unit, higher),
            )
        )
    return figures


def _curve(search: _Search, trial: StoredTrial, record: Record) -> TrialCurve:
    column = record.evaluated(search.stored.settings.metric)
    # the run may have been trained further after the trial was pruned
    rows = record.rows[: trial.epochs]
    values = [row[column] for row in rows if row[column] is not None]
    return TrialCurve(trial.number, values, trial.status == "complete")


def _coordinate(value: float | str | None) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return value


def _row(search: _Search, trial: StoredTrial) -> dict[str, str]:
    record = search.runs.get(trial.number)
    number = {
        "trial": str(trial.number),
        search.column: "" if trial.value is None else search.value_text(trial.value),
    }
    others = {
        "status": _status(trial),
        "epochs": str(trial.epochs),
        "folder": f"../{RUNS}/{trial.run}",
        "page": run_page(record.folder.path) if record else f"../{RUNS}/{trial.run}/",
    }
    return _with_levels(search, number, trial.params, others)


def _test_row(search: _Search, level: Value, record: Record) -> dict[str, str]:
    """Return the row of a run that tests the best trial or the baseline."""
    number = {"trial": f"test of {level}", search.column: ""}
    others = {
        "status": record.status,
        "epochs": str(len(record.rows)),
        "folder": f"../{RUNS}/{record.folder.path.name}",
        "page": run_page(record.folder.path),
    }
    return _with_levels(search, number, settings(record.config), others)


def _with_levels(
    search: _Search, first: dict[str, str], values: Mapping[str, Any], last: dict[str, str]
) -> dict[str, str]:
    """Return a row with the levels of the searched settings between its first and last cells."""
    keys = list(search.stored.space)
    names = short_names(keys, taken=[*first, *last])
    levels = {name: str(values.get(key, "")) for key, name in zip(keys, names, strict=True)}
    return first | levels | last


def _status(trial: StoredTrial) -> str:
    return "unfinished" if trial.status == "running" else trial.status


def _counts(search: StoredSearch) -> dict[str, str]:
    counts = Counter(map(_status, search.trials))
    return {
        "trials": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "sampler": search.settings.sampler,
        "pruner": search.settings.pruner,
    } | {f"space of {key}": domain for key, domain in search.space.items()}


def _cautions_of_runs(trained: Sequence[Record], tested: Sequence[Record]) -> list[str]:
    ended = [record for record in trained if record.status in ENDED]
    return cautions_of(tested or ended) if tested or ended else []


def _cautions(search: _Search) -> list[str]:
    stored, last = search.stored, search.stored.confirmations[-1:]
    tests = dict.fromkeys((c.winner, c.trials) for c in stored.confirmations)
    cautions = []
    if stored.left:
        cautions.append(
            f"The search is not complete: {stored.left} of "
            f"{stored.left + len(stored.ended)} trials are left."
        )
    if last and not search.is_best_tested:
        cautions.append(
            f"Trial {last[0].winner} was tested. Trial {stored.best} is better on validation "
            "images, and has not been tested."
        )
    if last and not last[0].start and stored.settings.baseline:
        cautions.append(f"The settings of the {search.tested_label} are those of the baseline.")
    if not any(record.status in ENDED for record in search.test_runs):
        is_first = len(tests) < 2
        tested = "No trial has been tested" if is_first else "The last test has not ended"
        cautions.append(
            f"{tested}. The best trial was chosen on validation images with one seed, so its "
            "result is optimistic."
        )
    if len(tests) > 1:
        times = ", then ".join(
            f"trial {winner} after {trials} trial{'s' * (trials > 1)}" for winner, trials in tests
        )
        cautions.append(
            f"This search used the test set more than once: {times}. If an earlier test result "
            "influenced the decision to continue, the last result is optimistic."
        )
    cautions += [
        f"Trial {trial.number} failed: {trial.reason}"
        for trial in stored.trials
        if trial.status == "failed"
    ]
    return cautions
