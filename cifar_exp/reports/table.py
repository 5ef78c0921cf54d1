"""The table of a sweep, made from the run folders alone."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cifar_exp.config.identity import config_id, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.study import Metric
from cifar_exp.files import write_bytes
from cifar_exp.reports.levels import level_of
from cifar_exp.reports.locking import writing
from cifar_exp.reports.metrics import MEASURES, measured
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
        """Final test accuracy of the complete runs; None if there are none."""
        from cifar_exp.reports.statistics import estimate

        complete = [record for record in self.records if record.status == "complete"]
        accuracies = [record.state["test_accuracy"] for record in complete]
        images = fewest(map(tested_images, complete))
        return estimate(accuracies, images) if complete else None

    @property
    def n(self) -> int:
        """How many runs the mean is over."""
        return self.accuracy.n if self.accuracy else 0

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean; None of a single run."""
        return self.accuracy.half_width if self.accuracy and self.accuracy.n > 1 else None

    def mean(self, name: str) -> str:
        """Return the mean of a value of run.json over the complete runs that have it."""
        states = [record.state for record in self.records if record.status == "complete"]
        values = [state[name] for state in states if name in state]
        return f"{sum(values) / len(values):.4f}" if values else ""

    @property
    def seconds(self) -> float | None:
        """Mean time of the runs that ended."""
        seconds = [r.state["seconds"] for r in self.records if "seconds" in r.state]
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


def _last(name: str) -> Callable[[Group, Record], Any]:
    return lambda _, record: record.rows[-1].get(name) if record.rows else None


def _stored(name: str) -> Callable[[Group, Record], Any]:
    return lambda _, record: None if record.problem else record.state.get(name)


def _measure(metric: Metric) -> Callable[[Record], str]:
    def cell(record: Record) -> str:
        value = measured(record, metric) if record.rows else None
        return "" if value is None else MEASURES[metric].text(value)

    return cell


def _share(name: str) -> Callable[[Record], str]:
    return lambda r: f"{100 * r.state[name]:.1f} %" if name in r.state else ""


# The settings that vary stand before them.
TABLE_COLUMNS = (
    TableColumn("seed", "seed", lambda _, r: r.config.seed, in_report=lambda r: str(r.config.seed)),
    TableColumn("status", "status", lambda _, r: r.status, in_report=lambda r: r.status),
    TableColumn("epoch", of_run=_last("epoch")),
    TableColumn(
        "train_loss",
        MEASURES["final_train_loss"].label,
        _last("train_loss"),
        in_report=_measure("final_train_loss"),
    ),
    TableColumn("train_accuracy", of_run=_last("train_accuracy")),
    TableColumn("test_loss", of_run=_last("test_loss")),
    TableColumn(
        "test_accuracy",
        MEASURES["final_test_accuracy"].label,
        _last("test_accuracy"),
        in_report=_measure("final_test_accuracy"),
    ),
    TableColumn("best_test_accuracy", of_run=_stored("best_test_accuracy")),
    TableColumn(
        "mean_test_accuracy",
        "{images} accuracy",
        lambda group, _: group.accuracy.mean if group.accuracy else None,
        lambda group: f"{group.accuracy.mean:.4f}" if group.accuracy else "",
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
        lambda group: group.mean("balanced_accuracy"),
        _share("balanced_accuracy"),
        needs="balanced_accuracy",
    ),
    TableColumn(
        "largest_class_share",
        "largest class",
        _stored("largest_class_share"),
        lambda group: group.mean("largest_class_share"),
        needs="largest_class_share",
    ),
    TableColumn("status", "status", of_group=lambda group: group.statuses),
    TableColumn(
        "seconds",
        "seconds",
        _stored("seconds"),
        lambda group: "" if group.seconds is None else f"{group.seconds:.0f}",
        lambda r: f"{r.state['seconds']:.0f}" if "seconds" in r.state else "",
    ),
    TableColumn("peak_memory_bytes", of_run=_stored("peak_memory_bytes")),
    TableColumn("reason", of_run=lambda _, r: r.problem or r.state.get("reason")),
    TableColumn(
        "folder",
        "folder",
        lambda _, r: f"../runs/{r.folder.path.name}",  # wherever the results are moved
        in_report=lambda r: f"../runs/{r.folder.path.name}",
    ),
)


def as_text(groups: Sequence[Group], kind: str = "text", width: int | None = None) -> str:
    """Return the table: a line a configuration, best first.

    Args:
        groups: in this order.
        kind: "text" for the terminal, "markdown" or "latex" for a paper.
        width: columns that a text may take; None for as many as it takes.
    """
    records = [record for group in groups for record in group.records]
    keys = varied([record.config for record in records])
    shown = [(c.title, c.of_group) for c in TABLE_COLUMNS if c.of_group and c.is_shown(records)]
    rows = [
        [number, *_varied_values(group, keys), *(cell(group) for _, cell in shown)]
        for number, group in enumerate(groups, 1)
    ]
    images = "/".join(sorted({record.config.data.evaluated_on for record in records}))
    header = ["", *short_names(keys), *(title.format(images=images) for title, _ in shown)]
    if kind == "text":
        return table(rows, header, width)
    form = {"markdown": "github", "latex": "latex_booktabs"}[kind]
    return tabulate(rows, header, tablefmt=form, disable_numparse=True)


def report_rows(records: Sequence[Record], keys: Sequence[str]) -> list[dict[str, str]]:
    """Return the report's list of runs, column title and text. Args: keys: settings that vary."""
    shown = [(c.title, c.in_report) for c in TABLE_COLUMNS if c.in_report and c.is_shown(records)]
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
    keys = varied([record.config for group in groups for record in group.records])
    rows = [
        _csv_row(rank, group, record, keys)
        for rank, group in enumerate(groups, 1)
        for record in group.records
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    with writing(path.parent):
        write_bytes(path, text.getvalue().encode())


def _csv_row(rank: int, group: Group, record: Record, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "rank": rank,
        **dict(zip(keys, _varied_values(group, keys), strict=True)),
        **{column.name: column.of_run(group, record) for column in TABLE_COLUMNS if column.of_run},
    }
