"""What the report of a sweep says, put together from the run folders alone."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

from cifar_exp.config.identity import differences, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import MetricOfRun, Study, Value, read_study
from cifar_exp.models.settings import NetworkSection
from cifar_exp.reports.levels import level_of, sorted_levels
from cifar_exp.reports.metrics import (
    MEASURES,
    images_behind,
    main_metrics,
    measured,
    of_evaluated,
    optional_metrics,
)
from cifar_exp.reports.plots import ReportFigure, report_figures
from cifar_exp.reports.records import read_list, read_sweep
from cifar_exp.reports.sequential import Looks
from cifar_exp.reports.statistics import estimate
from cifar_exp.reports.table import report_rows
from cifar_exp.reports.verdicts import Finding, findings
from cifar_exp.runs.folder import ENDED
from cifar_exp.runs.record import Record, remarks

_ARTICLE = RunConfig()


@dataclass(frozen=True)
class Section:
    """A study, or a sweep that is none.

    Attributes:
        title: of the study, or what the sweep varies.
        question: that the study asks; "" for a sweep.
        keys: the settings that vary.
        findings: on the study's claims.
        pictures: in the order in which they are shown.
        summary: a line a level (or combination): its settings, n, and metrics as text.
        caption: of the summary; "" for that of means.
        note: what stands in place of findings; "" for that there are no claims.
    """

    title: str
    question: str
    keys: list[str]
    findings: list[Finding]
    pictures: list[ReportFigure]
    summary: list[dict[str, str]]
    caption: str = ""
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All of it, without layout.

    Attributes:
        title: of the sweep.
        command: that made it.
        cautions: what limits the answers, for the first lines: little data, failed runs.
        sections: a study each.
        runs: a line a run: column name and text; "folder" is its path relative to the sweep.
        shared: settings that are the same in all runs.
        from_article: those of them that differ from the article's.
        provenance: label and text: hardware, versions, commit, dates.
        problems: a line about each run that is missing, cannot be read, trusted or checked.
        reading: how to read it, term by term, besides what is said of every report.
    """

    title: str
    command: str
    cautions: list[str]
    sections: list[Section]
    runs: list[dict[str, str]]
    shared: dict[str, str]
    from_article: dict[str, str]
    provenance: dict[str, str]
    problems: list[str]
    reading: dict[str, str] = field(default_factory=dict)


def read_report(sweep: Path) -> Report:
    """Put the report of a sweep together.

    Args:
        sweep: its folder, with sweep.json.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs is there.
    """
    return report_of(sweep, *read_sweep(sweep))


def report_of(sweep: Path, by_id: Mapping[str, Record], left_out: Sequence[str]) -> Report:
    """Put the report of a sweep together from its records.

    Args:
        sweep: its folder, with sweep.json.
        by_id: its runs, as `read_sweep` returns them.
        left_out: a line about each run that is missing or cannot be read.

    Raises:
        UserError: it is not the folder of a sweep.
    """
    content, records = read_list(sweep), list(by_id.values())
    parts = [
        (read_study(part["study"]), [by_id[run] for run in part["runs"] if run in by_id])
        for part in content.get("studies", [])
    ]
    studies = [(study, own) for study, own in parts if own]
    keys = varied([record.config for record in records])
    if studies:
        sections = [_section(study, own, f"{study.name}-") for study, own in studies]
        title = sections[0].title if len(sections) == 1 else f"{len(sections)} studies"
    else:
        title = f"Sweep over {', '.join(short_names(keys))}" if keys else "Sweep"
        sections = [_section(None, records, "", title)]
    shared = shared_settings([record.config for record in records])
    article = changed_from_article([record.config for record in records], shared)
    return Report(
        title=title,
        command=f"python {content['command']}",
        cautions=[*(f"Left out: {line}." for line in left_out), *cautions_of(records)],
        sections=sections,
        runs=report_rows(records, keys),
        shared=shared,
        from_article=article,
        provenance=provenance_of(records),
        problems=[*left_out, *remarks(records)],
    )


def _section(study: Study | None, records: list[Record], prefix: str, title: str = "") -> Section:
    keys = list(study.vary) if study else varied([record.config for record in records])
    claims = study.claims if study else ()
    levels = {key: sorted_levels(records, key) for key in keys}
    claimed = [of_evaluated(c.metric, records) for c in claims if c.reached is None]
    shown = [*main_metrics(records), *claimed, *optional_metrics(records)]
    metrics = list(dict.fromkeys(shown))
    return Section(
        title=study.title if study else title,
        question=study.question if study else "",
        keys=keys,
        findings=findings(claims, levels[keys[0]], looks_of(study)) if study and claims else [],
        pictures=report_figures(records, levels, metrics, prefix),
        summary=_summary(records, keys, metrics),
    )


def looks_of(study: Study) -> Looks | None:
    """Return the looks at a study whose seeds are added; None where their number is fixed."""
    return Looks(len(study.seeds), study.max_seeds) if study.adds_seeds else None


def _summary(
    records: Sequence[Record], keys: list[str], metrics: list[MetricOfRun]
) -> list[dict[str, str]]:
    groups: dict[tuple[Value, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(level_of(record, key) for key in keys), []).append(record)
    lines = []
    for levels, group in groups.items():
        line = dict(zip(short_names(keys), map(str, levels), strict=True))
        line["runs"] = statuses(group)
        for metric in metrics:
            line[MEASURES[metric].label] = mean_and_interval(group, metric)
        lines.append(line)
    return lines


def statuses(records: Sequence[Record]) -> str:
    """Count the runs by status: "2 complete, 1 diverged"."""
    counts = Counter(record.status for record in records)
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def mean_and_interval(records: Sequence[Record], metric: MetricOfRun) -> str:
    """Return "61.3 % ± 2.1 % (n = 3)" of the runs that have the metric."""
    measure = MEASURES[metric]
    values = [measured(record, metric) for record in records]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "diverged" if math.inf in map(abs, filter(None, values)) else ""
    found = estimate(finite, images_behind(records, metric))
    interval = f" ± {measure.text(found.half_width)}" if found.n > 1 else ""
    return f"{measure.text(found.mean)}{interval} (n = {found.n})"


def shared_settings(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the settings that are the same in all runs, but for the seed."""
    first, *others = [_settings(config) for config in configs]
    return {
        key: str(value)
        for key, value in first.items()
        if key != "seed" and all(other.get(key) == value for other in others)
    }


def _settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings with the folder of the images as seen from that of the results."""
    if not config.data.place:
        return settings(config)
    root, project = Path(config.data.place), Path(config.paths.results).parent
    near = root.is_relative_to(project)
    return settings(config) | {"data.root": str(root.relative_to(project) if near else root)}


def changed_from_article(configs: Sequence[RunConfig], shared: dict[str, str]) -> dict[str, str]:
    """Return those of the shared settings that differ from the article's."""
    changed = differences(configs[0])
    return {key: shared[key] for key in changed if key in shared}


def cautions_of(records: Sequence[Record]) -> list[str]:
    """Return what a reader must know before the answers."""
    cautions = []
    configs = [record.config for record in records]
    small = []
    for config in configs:
        flat = settings(config)
        if config.data.name != _ARTICLE.data.name:
            small.append(f"data {flat['data']}")
        if config.data.limit_train is not None:
            small.append(f"{config.data.limit_train:,} training images")
        if isinstance(config.model, NetworkSection) and config.model.width < 1:
            small.append(f"width {config.model.width:g}")
        if config.model.name != _ARTICLE.model.name:
            small.append(flat["model"])
    epochs = median_low(config.training.epochs for config in configs)
    if epochs < _ARTICLE.training.epochs:
        small.append(f"{epochs} epochs")
    if small:
        sizes = ", ".join(dict.fromkeys(small))
        cautions.append(
            f"Measured at a smaller size than the article's ({sizes}): the answers are about that "
            "size, and need not hold for the full one."
        )
    if any(config.data.evaluated_on == "validation" for config in configs):
        cautions.append(
            "With data.val_fraction, accuracies are of validation images, held out of the "
            "training images; such a run has never seen a test image."
        )
    shares = [r.state["largest_class_share"] for r in records if "largest_class_share" in r.state]
    if shares:
        cautions.append(
            f"Classes are unequal: always predicting the largest gives {100 * max(shares):.1f} % "
            "accuracy. Balanced accuracy is the mean over the classes of the share that is right."
        )
    lost: dict[str, list[str]] = {}
    for record in records:
        if record.status not in ENDED:
            reason = record.problem or record.state.get("reason", "")
            message = record.status + (f": {reason}" if reason else "")
            lost.setdefault(message, []).append(record.folder.path.name)
    cautions += [f"Not there: {', '.join(names)} ({message})." for message, names in lost.items()]
    digests = {r.state["data_sha256"] for r in records if "data_sha256" in r.state}
    if len(digests) > 1:
        cautions.append("The runs did not all see the same images.")
    return cautions


def provenance_of(records: Sequence[Record]) -> dict[str, str]:
    """Return hardware, versions, commit and dates, label and text."""
    states = [record.state for record in records if "provenance" in record.state]
    known = [state["provenance"] for state in states]

    def message(values: Sequence[str]) -> str:
        return ", ".join(dict.fromkeys(value for value in values if value))

    hardware = [p["hardware"] for p in known]
    return {
        "runs": statuses(records),
        "processor": message([f"{h['cpu']}, {h['cores']} cores" for h in hardware]),
        "GPU": message([", ".join(map(str, h["gpus"])) for h in hardware]),
        "computed on": message(
            [" ".join(str(part) for part in _compute_words(state["compute"])) for state in states]
        ),
        "versions": message([f"{name} {v}" for p in known for name, v in p["versions"].items()]),
        "Python": message([p["python"] for p in known]),
        "commit": message([str(p["commit"]) for p in known]),
        "trained": _span([state["started"] for state in states]),
    }


def _compute_words(compute: dict[str, Any]) -> list[str]:
    words = [f"{compute['device']},", compute["precision"]]
    threads = compute["threads"]
    return [*words, f"with {threads} thread{'s' * (threads > 1)}"] if threads else words


def _span(times: Sequence[str]) -> str:
    days = sorted({time[:10] for time in times})
    return " to ".join([days[0], days[-1]][: len(days)]) if days else ""
