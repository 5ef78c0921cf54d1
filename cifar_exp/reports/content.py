"""The content of the report of a sweep, computed from the run folders."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import differences, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import MetricOfRun, Study, Value
from cifar_exp.errors import some
from cifar_exp.models.settings import NetworkSection
from cifar_exp.reports.answer import Answer, answer_of, portable_settings
from cifar_exp.reports.levels import equal_levels, level_of, sorted_levels
from cifar_exp.reports.metrics import (
    MEASURES,
    images_behind,
    main_metrics,
    measured,
    on_evaluated_split,
    optional_metrics,
)
from cifar_exp.reports.plots import ReportFigure, report_figures
from cifar_exp.reports.records import read_list, read_sweep, runs_of_studies
from cifar_exp.reports.reference import READING, Published
from cifar_exp.reports.sequential import Looks, looks_of
from cifar_exp.reports.statistics import estimate
from cifar_exp.reports.table import Group, ranked, report_rows, statuses
from cifar_exp.reports.verdicts import ClaimResult, judge_claims
from cifar_exp.runs.folder import ENDED, in_epochs
from cifar_exp.runs.record import Record, fewest, remarks, tested_images

_ARTICLE = RunConfig()
_CAPTION = "Mean (its 95 % interval; number of seeds)"


@dataclass(frozen=True)
class Section:
    """A study, or a sweep without a study.

    Attributes:
        title: of the study, or the settings that the sweep varies.
        question: of the study; "" for a sweep.
        keys: dotted keys of the settings that vary.
        claim_results: verdicts on the claims of the study.
        figures: in display order.
        summary: one row per combination of levels: settings, number of runs and metrics as text.
        caption: of the summary.
        note: shown instead of verdicts.
        answer: the best settings; None if no run is complete.
        published: comparison with published values; None without a reference.
    """

    title: str
    question: str
    keys: list[str]
    claim_results: list[ClaimResult]
    figures: list[ReportFigure]
    summary: list[dict[str, str]]
    caption: str = _CAPTION
    note: str = "There are no claims. Each interval is that of a single level."
    answer: Answer | None = None
    published: Published | None = None


@dataclass(frozen=True)
class Report:
    """The content of a report, without layout.

    Attributes:
        title: of the report.
        command: that trained the runs.
        facts: date, data, number of runs and duration, on one line.
        answer: the best settings of all runs; None if no run is complete.
        cautions: limits of the results, such as little data or failed runs.
        sections: one per study.
        runs: one row per run, a mapping from column title to text; "folder" and "page", the
            run's folder and its curves, are relative paths.
        shared: settings that are the same in all runs.
        from_article: those of them that differ from the baseline.
        provenance: hardware, versions, commit and dates by label.
        problems: messages about runs that are missing, unreadable, damaged or not verifiable.
        reading: explanations of terms, in addition to those in every report.
    """

    title: str
    command: str
    facts: str
    answer: Answer | None
    cautions: list[str]
    sections: list[Section]
    runs: list[dict[str, str]]
    shared: dict[str, str]
    from_article: dict[str, str]
    provenance: dict[str, str]
    problems: list[str]
    reading: dict[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> list[ReportFigure]:
        """The figures of all sections."""
        return [figure for section in self.sections for figure in section.figures]


def read_report(sweep: Path) -> Report:
    """Read the runs of a sweep and compute the content of its report.

    Args:
        sweep: the folder with sweep.json.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs can be read.
    """
    return report_of(sweep, *read_sweep(sweep))


def report_of(sweep: Path, by_id: Mapping[str, Record], left_out: Sequence[str]) -> Report:
    """Compute the content of the report of a sweep from its runs.

    Args:
        sweep: the folder with sweep.json.
        by_id: the runs, as `read_sweep` returns them.
        left_out: messages about runs that are missing or unreadable.

    Raises:
        UserError: it is not the folder of a sweep.
    """
    content, records = read_list(sweep), list(by_id.values())
    studies = runs_of_studies(content, by_id)
    configs = [record.config for record in records]
    keys = varied(configs)
    if studies:
        names = [study.name for study, _ in studies]
        sections = [
            # parts may have the same name, such as one study with two settings
            _study_section(study, runs, f"{part}-" * (names.count(study.name) > 1))
            for part, (study, runs) in enumerate(studies, 1)
        ]
        title = sections[0].title if len(sections) == 1 else f"{len(sections)} studies"
    else:
        title = f"Sweep over {', '.join(short_names(keys))}" if keys else "Sweep"
        sections = [_section(title, keys, records)]
    shared, looks = shared_settings(configs), looks_of(*(study for study, _ in studies))
    return Report(
        title=title,
        command=f"python {content['command']}",
        facts=facts_of(records),
        answer=sections[0].answer if len(sections) == 1 else answer_of(records, looks),
        cautions=[
            *(f"Left out: {line}." for line in left_out),
            *cautions_of(records, of_study=bool(studies)),
        ],
        sections=sections,
        runs=report_rows([r for group in ranked(records) for r in group.records], keys),
        shared=shared,
        from_article=changed_from_article(configs, shared),
        provenance=provenance_of(records),
        problems=[*left_out, *remarks(records)],
        reading=READING if any(s.published and s.published.table for s in sections) else {},
    )


def _study_section(study: Study, records: Sequence[Record], prefix: str) -> Section:
    keys, looks = list(study.vary), looks_of(study)
    levels = sorted_levels(records, keys[0])
    published = Published.of(study, levels)
    claimed = [claim.metric for claim in study.claims if claim.reached is None]
    section = _section(
        study.title, keys, records, claimed, f"{prefix}{study.name}-", published, looks
    )
    results = judge_claims(study.claims, levels, looks)
    return replace(section, question=study.question, claim_results=results)


def _section(
    title: str,
    keys: list[str],
    records: Sequence[Record],
    claimed: Sequence[MetricOfRun] = (),
    prefix: str = "",
    published: Published | None = None,
    looks: Looks | None = None,
) -> Section:
    groups = ranked(records)
    best_first = [record for group in groups for record in group.records]
    levels = {key: sorted_levels(best_first, key) for key in keys}
    claimed = [on_evaluated_split(metric, records) for metric in claimed]
    metrics = [*main_metrics(records), *claimed, *optional_metrics(records)]
    metrics = list(dict.fromkeys(metrics))
    answer = answer_of(records, looks)
    equal = equal_levels(levels[keys[0]]) if len(keys) == 1 else []
    notes = [f"The runs of {' and '.join(map(str, group))} are equal" for group in equal]
    return Section(
        title=title,
        question="",
        keys=keys,
        claim_results=[],
        figures=report_figures(records, levels, metrics, prefix, published),
        summary=_summary(best_first, keys, metrics),
        note=_note(groups, answer),
        caption=". ".join([_CAPTION, *notes]),
        answer=answer,
        published=published,
    )


def _note(groups: Sequence[Group], answer: Answer | None) -> str:
    compared = ", and only the best two are compared" * bool(answer and answer.effect)
    has_seeds = any(len(group.records) > 1 for group in groups)
    seeds = " Each interval is that of a single level." * has_seeds
    return f"There are no claims{compared}.{seeds}"


def _summary(
    records: Sequence[Record], keys: list[str], metrics: list[MetricOfRun]
) -> list[dict[str, str]]:
    groups: dict[tuple[Value, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[tuple(level_of(record, key) for key in keys)].append(record)
    names = short_names(keys, taken=["runs"])
    return [
        dict(zip(names, map(str, levels), strict=True))
        | {"runs": statuses(group)}
        | {MEASURES[metric].label: mean_and_interval(group, metric) for metric in metrics}
        for levels, group in groups.items()
    ]


def mean_and_interval(records: Sequence[Record], metric: MetricOfRun) -> str:
    """Return the mean of a metric with its interval, such as "61.3 % (59.2 to 63.4; 3 seeds)".

    Args:
        records: the runs; those that diverged or lack the metric are not counted.
        metric: its name.
    """
    measure = MEASURES[metric]
    values = [measured(record, metric) for record in records]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "diverged" if math.inf in map(abs, filter(None, values)) else ""
    return measure.with_interval(estimate(finite, images_behind(records, metric)))


def shared_settings(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the settings, except the seed, that are the same in all runs."""
    first, *others = [portable_settings(config) for config in configs]
    return {
        key: str(value)
        for key, value in first.items()
        if key != "seed" and all(other.get(key) == value for other in others)
    }


def changed_from_article(configs: Sequence[RunConfig], shared: dict[str, str]) -> dict[str, str]:
    """Return the shared settings that differ from the baseline.

    Args:
        configs: of the runs.
        shared: as `shared_settings` returns them.
    """
    changed = differences(configs[0])
    return {key: shared[key] for key in changed if key in shared}


def cautions_of(records: Sequence[Record], of_study: bool = False) -> list[str]:
    """Return the limits of the results: small size, validation images, failed runs.

    Args:
        records: the runs.
        of_study: whether to compare their size with the baseline, unless the images are the user's.
    """
    size = _size_caution([record.config for record in records], of_study)
    cautions = [size] if size else []
    if any(record.evaluated_on == "validation" for record in records):
        cautions.append(
            "With data.val_fraction, accuracies are measured on validation images, which are held "
            "out of the training images. Test images are not used."
        )
    shared = [r for r in records if r.state.get("shared_images")]
    if shared:
        worst = max(shared, key=lambda record: int(record.state["shared_images"]))
        count = f"{worst.state['shared_images']} of {worst.state['evaluated_images']}"
        cautions.append(
            f"{count} {worst.evaluated_on} images are also training images, so the accuracy is too "
            "high. `python -m cifar_exp check-data` lists them."
        )
    shares = [r.state["largest_class_share"] for r in records if "largest_class_share" in r.state]
    if shares:
        cautions.append(
            f"The classes differ in size: always predicting the largest class has an accuracy of "
            f"{100 * max(shares):.1f} %. Balanced accuracy is the mean of the accuracies per class."
        )
    cautions += _without_results(records)
    digests = {r.state["data_sha256"] for r in records if "data_sha256" in r.state}
    if len(digests) > 1:
        cautions.append("The runs were not all trained on the same images.")
    return cautions


def _without_results(records: Sequence[Record]) -> list[str]:
    by_message: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.status not in ENDED:
            reason = record.problem or record.state.get("reason", "")
            message = f"{record.status}: {reason}" if reason else record.status
            by_message[message].append(record.folder.path.name)
    return [f"Without results: {some(names)} ({message})." for message, names in by_message.items()]


def _size_caution(configs: Sequence[RunConfig], of_study: bool) -> str:
    """Return a warning about settings of all runs that make them small; "" if there are none."""
    data, model, epochs = configs[0].data, configs[0].model, configs[0].training.epochs
    limit = f"{data.limit_train:,} training images" if data.limit_train is not None else ""
    reduced = {"data.limit_train": limit}
    flat = settings(configs[0])
    with_article = of_study and not data.place and "." not in flat["data"]  # not the user's images
    if with_article:
        width = model.width if isinstance(model, NetworkSection) else 1
        reduced |= {
            "data": f"data {flat['data']}" * (data.name != _ARTICLE.data.name),
            "model": flat["model"] * (model.name != _ARTICLE.model.name),
            "model.width": f"width {width:g}" * (width < 1),
            "training.epochs": in_epochs(epochs) * (epochs < _ARTICLE.training.epochs),
        }
    fixed = shared_settings(configs)
    sizes = ", ".join(text for key, text in reduced.items() if text and key in fixed)
    if not sizes:
        return ""
    if with_article:
        return (
            f"The runs are smaller than the article's baseline ({sizes}). The results may differ "
            "at full size."
        )
    return f"The runs use {sizes} only. The results may differ with all images."


def facts_of(records: Sequence[Record]) -> str:
    """Return date, network, data, number of runs and duration on one line."""
    configs = [record.config for record in records]
    seconds = sum(record.results.seconds for record in records if record.rows)
    sets = {_images_name(config) for config in configs}
    networks = {str(settings(c)["model"]) for c in configs}
    facts = [
        _span([r.state["started"] for r in records if "started" in r.state]),
        f"{', '.join(sorted(networks))} on {', '.join(sorted(sets))}",
        ", ".join(_image_counts(records)),
        f"{len(records)} run{'s' * (len(records) > 1)}",
        f"{_duration(seconds)} of training and evaluation",
    ]
    return " · ".join(fact for fact in facts if fact)


def _images_name(config: RunConfig) -> str:
    """Return the name of the image folder, or that of the data without a folder."""
    folder = Path(config.data.place).name
    is_known = folder and "${" not in folder  # an environment variable is not resolved in reports
    return folder if is_known else str(settings(config)["data"])


def _image_counts(records: Sequence[Record]) -> Iterator[str]:
    for split in sorted({record.evaluated_on for record in records}):
        count = fewest(tested_images(record) for record in records if record.evaluated_on == split)
        if count:
            yield f"{count:,} {split} images"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def provenance_of(records: Sequence[Record]) -> dict[str, str]:
    """Return hardware, versions, commit and dates by label."""
    states = [record.state for record in records if "provenance" in record.state]
    parts = [part for state in states for part in (*state.get("earlier", ()), state)]
    known = [part["provenance"] for part in parts]
    hardware = [p["hardware"] for p in known]
    # None: a package that is not installed, or code outside a git checkout
    versions = [f"{name} {v}" for p in known for name, v in p["versions"].items() if v]
    return {
        "runs": statuses(records),
        "processor": _distinct(f"{h['cpu']}, {h['cores']} cores" for h in hardware),
        "GPU": _distinct(", ".join(map(str, h["gpus"])) for h in hardware),
        "computed on": _distinct(_compute_text(part["compute"]) for part in parts),
        "versions": _distinct(versions),
        "Python": _distinct(p["python"] for p in known),
        "commit": _distinct(p["commit"] for p in known),
        "trained": _span([state["started"] for state in states]),
    }


def _distinct(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(filter(None, values)))


def _compute_text(compute: dict[str, Any]) -> str:
    threads = compute["threads"]
    text = f"{compute['device']}, {compute['precision']}"
    return f"{text} with {threads} thread{'s' * (threads > 1)}" if threads else text


def _span(times: Sequence[str]) -> str:
    days = sorted({time[:10] for time in times})
    return " to ".join([days[0], days[-1]][: len(days)]) if days else ""
