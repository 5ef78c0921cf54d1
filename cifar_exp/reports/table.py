"""The table of a sweep, made from the run folders alone."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cifar_exp.config.identity import config_id, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.metrics import CURVES, evaluated_split
from cifar_exp.config.study import MetricOfRun
from cifar_exp.files import write_bytes
from cifar_exp.reports.levels import level_of
from cifar_exp.reports.locking import writing
from cifar_exp.reports.metrics import MEASURES, main_metrics, measured, optional_metrics
from cifar_exp.runs.folder import ENDED
from cifar_exp.runs.record import Record, fewest, tested_images
from cifar_exp.terminal import table

if TYPE_CHECKING:  # SciPy takes half a second, and a list of runs does without
    from cifar_exp.reports.statistics import Estimate


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ in the seed alone."""

    records: list[Record] = field(default_factory=list)

    @property
    def accuracy(self) -> "Estimate | None":
        """Final accuracy of the complete runs; None if there are none."""
        from cifar_exp.reports.statistics import estimate

        found = [(r, r.results.accuracy) for r in self.records if r.status == "complete"]
        accuracies = [accuracy for _, accuracy in found if accuracy is not None]
        images = fewest(tested_images(record) for record, _ in found)
        return estimate(accuracies, images) if accuracies else None

    @property
    def n(self) -> int:
        """How many runs the mean is over."""
        return self.accuracy.n if self.accuracy else 0

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean; None of a single run."""
        return self.accuracy.half_width if self.accuracy and self.accuracy.n > 1 else None

    def mean(self, metric: MetricOfRun) -> str:
        """Return the mean of a metric over the complete runs, as it is shown."""
        values = [measured(r, metric) for r in self.records if r.status == "complete"]
        known = [value for value in values if value is not None]
        return MEASURES[metric].text(sum(known) / len(known)) if known else ""

    def stored_mean(self, name: str) -> str:
        """Return the mean of a value of run.json over the complete runs that have it."""
        states = [record.state for record in self.records if record.status == "complete"]
        values = [state[name] for state in states if name in state]
        return f"{sum(values) / len(values):.4f}" if values else ""

    @property
    def seconds(self) -> float | None:
        """Mean time of the runs that ended."""
        seconds = [r.results.seconds for r in self.records if r.status in ENDED]
        return sum(seconds) / len(seconds) if seconds else None

    @property
    def statuses(self) -> str:
        """For example "complete", or "2 complete, 1 diverged"; says if their data differs."""
        counts = Counter(record.status for record in self.records)
        only = next(iter(counts)) if len(counts) == 1 else None
        text = only or ", ".join(f"{count} {status}" for status, count in counts.items())
        # images of a folder may have changed between two runs of the same settings
        digests = {r.state["data_sha256"] for r in self.records if "data_sha256" in r.state}
        return text + ", on different data" * (len(digests) > 1)

    def _rank(self) -> tuple[float, float]:
        """Sort by the share of runs that did not complete, then by accuracy.

        So a configuration that diverges with one seed in three never ranks above one that does
        not, however good its other seeds are.
        """
        incomplete = sum(record.status != "complete" for record in self.records)
        best_first = -self.accuracy.mean if self.accuracy else math.inf
        return incomplete / len(self.records), best_first


def ranked(records: Sequence[Record]) -> list[Group]:
    """Return the configurations, best first; those that diverged or failed come last."""
    groups: dict[str, Group] = defaultdict(Group)
    for record in records:
        groups[config_id(record.config)].records.append(record)
    return sorted(groups.values(), key=Group._rank)


@dataclass(frozen=True)
class TableColumn:
    """A column of results.csv, of the table (as text, Markdown or LaTeX) and of the report.

    Attributes:
        name: in results.csv.
        title: in the others; {images} stands for which images runs are evaluated on.
        of_run: the value in results.csv, which has a line a run; None: it has no such column.
        of_group: the cell of the table, which has a line a configuration.
        in_report: the cell of the report's list of runs.
        needs: run.json must have this in one of the runs, or table and report lack the column.
    """

    name: str
    title: str = ""
    of_run: Callable[[Group, Record], Any] | None = None
    of_group: Callable[[Group], str] | None = None
    in_report: Callable[[Record], str] | None = None
    needs: str = ""

    def is_shown(self, records: Sequence[Record]) -> bool:
        """Return whether table and report have the column."""
        return not self.needs or any(self.needs in record.state for record in records)


def _stored(name: str) -> Callable[[Group, Record], Any]:
    return lambda _, record: None if record.problem else record.state.get(name)


def _ended(read: Callable[[Record], Any]) -> Callable[[Group, Record], Any]:
    return lambda _, record: read(record) if record.status in ENDED else None


def _share(name: str) -> Callable[[Record], str]:
    return lambda r: f"{100 * r.state[name]:.1f} %" if name in r.state else ""


# The settings that vary come before them, and the metrics after the epoch; see `columns_of`.
TABLE_COLUMNS = (
    TableColumn("seed", "seed", lambda _, r: r.config.seed, in_report=lambda r: str(r.config.seed)),
    TableColumn("status", "status", lambda _, r: r.status, in_report=lambda r: r.status),
    TableColumn("epoch", of_run=lambda _, r: r.rows[-1].get("epoch") if r.rows else None),
    TableColumn(
        "accuracy",
        "{images} accuracy",
        of_group=lambda group: f"{group.accuracy.mean:.4f}" if group.accuracy else "",
    ),
    TableColumn(
        "interval_half_width",
        "95 % interval",
        lambda group, _: group.half_width,
        lambda group: "" if group.half_width is None else f"± {group.half_width:.4f}",
    ),
    TableColumn("n", "n", lambda group, _: group.n, lambda group: str(group.n)),
    TableColumn(
        "balanced_accuracy",
        "balanced accuracy",
        _stored("balanced_accuracy"),
        lambda group: group.stored_mean("balanced_accuracy"),
        _share("balanced_accuracy"),
        needs="balanced_accuracy",
    ),
    TableColumn(
        "largest_class_share",
        "largest class",
        _stored("largest_class_share"),
        lambda group: group.stored_mean("largest_class_share"),
        needs="largest_class_share",
    ),
    TableColumn("status", "status", of_group=lambda group: group.statuses),
    TableColumn(
        "seconds",
        "seconds",
        _ended(lambda record: record.results.seconds),
        lambda group: "" if group.seconds is None else f"{group.seconds:.0f}",
        lambda r: f"{r.results.seconds:.0f}" if r.status in ENDED else "",
    ),
    TableColumn("peak_memory_bytes", of_run=_ended(lambda r: r.results.peak_memory_bytes)),
    TableColumn("reason", of_run=lambda _, r: r.problem or r.state.get("reason")),
    TableColumn(
        "folder",
        "folder",
        lambda _, r: f"../runs/{r.folder.path.name}",  # wherever the results are moved
        in_report=lambda r: f"../runs/{r.folder.path.name}",
    ),
)


def columns_of(records: Sequence[Record]) -> list[TableColumn]:
    """Return `TABLE_COLUMNS` with those of the metrics that the runs have."""
    after = [column.name for column in TABLE_COLUMNS].index("epoch") + 1
    return [*TABLE_COLUMNS[:after], *_of_metrics(records), *TABLE_COLUMNS[after:]]


def _of_metrics(records: Sequence[Record]) -> Iterator[TableColumn]:
    splits = sorted({record.evaluated_on for record in records})
    optional = optional_metrics(records)
    reported = {"final_train_loss", *main_metrics(records), *optional}
    for key, column in CURVES.items():
        final = f"final_{key}"
        is_usual = column.split in ("train", *map(evaluated_split, splits))
        if final in optional or (is_usual and not column.metric.optional):
            yield TableColumn(
                key,
                MEASURES[final].label,
                _last(key),
                _mean(final) if final in optional else None,
                _measure(final) if final in reported else None,
            )
    for split in splits:
        accuracy = f"{evaluated_split(split)}_accuracy"
        yield TableColumn(f"best_{accuracy}", of_run=_best(split))
        yield TableColumn(f"mean_{accuracy}", of_run=_mean_accuracy(split))


def _last(key: str) -> Callable[[Group, Record], Any]:
    return lambda _, record: record.rows[-1].get(key) if record.rows else None


def _mean(metric: MetricOfRun) -> Callable[[Group], str]:
    return lambda group: group.mean(metric)


def _measure(metric: MetricOfRun) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        value = measured(record, metric) if record.rows else None
        return "" if value is None else MEASURES[metric].text(value)

    return cell


def _best(split: str) -> Callable[[Group, Record], Any]:
    return _ended(lambda r: r.results.best_accuracy if r.evaluated_on == split else None)


def _mean_accuracy(split: str) -> Callable[[Group, Record], Any]:
    def cell(group: Group, record: Record) -> float | None:
        has_mean = group.accuracy and record.evaluated_on == split
        return group.accuracy.mean if has_mean and group.accuracy else None

    return cell


def as_text(groups: Sequence[Group], kind: str = "text", width: int | None = None) -> str:
    """Return the table: a line a configuration, best first.

    Args:
        groups: in this order.
        kind: "text" for the terminal, "markdown" or "latex" for a paper.
        width: columns that a text may take; None for as many as it takes.
    """
    records = [record for group in groups for record in group.records]
    keys = varied([record.config for record in records])
    columns = [column for column in columns_of(records) if column.is_shown(records)]
    shown = [(column.title, column.of_group) for column in columns if column.of_group]
    rows = [
        [number, *_varied_values(group, keys), *(cell(group) for _, cell in shown)]
        for number, group in enumerate(groups, 1)
    ]
    images = "/".join(sorted({record.evaluated_on for record in records}))
    header = ["", *short_names(keys), *(title.format(images=images) for title, _ in shown)]
    if kind == "text":
        return table(rows, header, width)
    form = {"markdown": "github", "latex": "latex_booktabs"}[kind]
    return tabulate(rows, header, tablefmt=form, disable_numparse=True)


def report_rows(records: Sequence[Record], keys: Sequence[str]) -> list[dict[str, str]]:
    """Return the report's list of runs, column title and text. Args: keys: settings that vary."""
    columns = [column for column in columns_of(records) if column.is_shown(records)]
    shown = [(column.title, column.in_report) for column in columns if column.in_report]
    return [
        dict(zip(short_names(keys), (str(level_of(record, key)) for key in keys), strict=True))
        | {title: cell(record) for title, cell in shown}
        for record in records
    ]


def _varied_values(group: Group, keys: Sequence[str]) -> list[Any]:
    flat = settings(group.records[0].config)
    return [flat.get(key, "") for key in keys]


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """Write results.csv: a line a run, with the rank and estimate of its configuration."""
    records = [record for group in groups for record in group.records]
    keys = varied([record.config for record in records])
    columns = [(column.name, column.of_run) for column in columns_of(records) if column.of_run]
    rows = [
        {
            "rank": rank,
            **dict(zip(keys, _varied_values(group, keys), strict=True)),
            **{name: value(group, record) for name, value in columns},
        }
        for rank, group in enumerate(groups, 1)
        for record in group.records
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with writing(path.parent):
        write_bytes(path, text.getvalue().encode())
