"""Results of a sweep as a table, as results.csv and as the list of runs of its report."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cifar_exp.config.identity import all_settings, config_id, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.metrics import CURVES, evaluated_split
from cifar_exp.config.study import MetricOfRun
from cifar_exp.paths import CURVES_FILE, RUNS
from cifar_exp.reports.levels import level_of
from cifar_exp.reports.locking import write_locked
from cifar_exp.reports.metrics import MEASURES, main_metrics, measured, optional_metrics
from cifar_exp.runs.folder import ENDED
from cifar_exp.runs.record import Record, fewest, tested_images
from cifar_exp.terminal import table

if TYPE_CHECKING:  # importing SciPy takes half a second
    from cifar_exp.reports.statistics import Estimate


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ only in the seed."""

    records: list[Record] = field(default_factory=list)

    @cached_property
    def complete(self) -> list[Record]:
        """The complete runs."""
        return [record for record in self.records if record.status == "complete"]

    @cached_property
    def accuracy(self) -> "Estimate | None":
        """Mean final accuracy of the complete runs; None if there are none."""
        from cifar_exp.reports.statistics import estimate

        accuracies = [a for r in self.complete if (a := r.results.accuracy) is not None]
        images = fewest(map(tested_images, self.complete))
        return estimate(accuracies, images) if accuracies else None

    @property
    def n(self) -> int:
        """Number of runs in the mean."""
        return self.accuracy.n if self.accuracy else 0

    @property
    def half_width(self) -> float | None:
        """Half-width of the 95 % interval of the mean; None for fewer than two runs."""
        return self.accuracy.half_width if self.accuracy and self.accuracy.n > 1 else None

    @property
    def interval(self) -> str:
        """The 95 % interval of the mean, such as "0.7250 to 0.8710"; "" for fewer than two runs."""
        if not self.accuracy or self.half_width is None:
            return ""
        low, high = self.accuracy.bounds
        return f"{max(0.0, low):.4f} to {min(1.0, high):.4f}"

    def mean(self, metric: MetricOfRun) -> str:
        """Return the mean of a metric over the complete runs, formatted with its unit."""
        values = [v for record in self.complete if (v := measured(record, metric)) is not None]
        return MEASURES[metric].text(sum(values) / len(values)) if values else ""

    def stored_mean(self, name: str, digits: int = 4) -> str:
        """Return the mean of an entry of run.json over the complete runs that have it.

        Args:
            name: of the entry.
            digits: number of decimal places.
        """
        values = [record.state[name] for record in self.complete if name in record.state]
        return f"{sum(values) / len(values):.{digits}f}" if values else ""

    @property
    def seconds(self) -> float | None:
        """Mean duration of the runs that ended."""
        seconds = [r.results.seconds for r in self.records if r.status in ENDED]
        return sum(seconds) / len(seconds) if seconds else None

    @property
    def statuses(self) -> str:
        """For example "complete" or "2 complete, 1 diverged"; notes if the data differs."""
        distinct = {record.status for record in self.records}
        text = statuses(self.records) if len(distinct) > 1 else distinct.pop()
        # the images in a folder may change between two runs with the same settings
        digests = {r.state["data_sha256"] for r in self.records if "data_sha256" in r.state}
        return text + ", on different data" * (len(digests) > 1)

    def _rank(self) -> tuple[float, float]:
        """Return the share of runs that are not complete, then the negative accuracy.

        A configuration that diverges with one seed ranks below all that never diverge.
        """
        incomplete = len(self.records) - len(self.complete)
        best_first = -self.accuracy.mean if self.accuracy else math.inf
        return incomplete / len(self.records), best_first


def statuses(records: Sequence[Record]) -> str:
    """Return the number of runs by status, such as "2 complete, 1 diverged"."""
    counts = Counter(record.status for record in records)
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def ranked(records: Sequence[Record]) -> list[Group]:
    """Group runs by configuration, best first; those that diverged or failed come last."""
    groups: dict[str, Group] = defaultdict(Group)
    for record in records:
        groups[config_id(record.config)].records.append(record)
    return sorted(groups.values(), key=Group._rank)


@dataclass(frozen=True)
class TableColumn:
    """A column of results.csv, of the table (as text, Markdown or LaTeX) and of the report.

    Attributes:
        name: in results.csv.
        title: in the table and the report; {images} is replaced by the evaluated split.
        of_run: returns the value in results.csv, which has one row per run; None: no column there.
        of_group: returns the cell of the table, which has one row per configuration; or None.
        in_report: returns the cell of the report's list of runs; or None.
        needs: entry of run.json that a run must have for the table and the report to show the
            column; "" for none.
    """

    name: str
    title: str = ""
    of_run: Callable[[Group, Record], Any] | None = None
    of_group: Callable[[Group], str] | None = None
    in_report: Callable[[Record], str] | None = None
    needs: str = ""


def _stored(name: str) -> Callable[[Group, Record], Any]:
    return lambda _, record: None if record.problem else record.state.get(name)


def _ended(read: Callable[[Record], Any]) -> Callable[[Group, Record], Any]:
    return lambda _, record: read(record) if record.status in ENDED else None


def _share(name: str) -> Callable[[Record], str]:
    return lambda r: f"{100 * r.state[name]:.1f} %" if name in r.state else ""


def _epoch(name: str) -> TableColumn:
    return TableColumn(
        name,
        name.replace("_", " "),
        _stored(name),
        lambda group: group.stored_mean(name, digits=1),
        lambda record: str(record.state.get(name, "")),
        needs=name,
    )


# Preceded by the settings that vary; `columns_of` inserts the metrics after "epoch".
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
        lambda group: group.interval,
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
    *map(_epoch, ("epoch_kept", "epoch_stopped")),
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
        lambda _, r: f"../runs/{r.folder.path.name}",
        in_report=lambda r: f"../runs/{r.folder.path.name}",
    ),
    TableColumn("page", "page", in_report=lambda r: run_page(r.folder.path)),
)


def run_page(folder: Path) -> str:
    """Return the path of a run's curves relative to a sweep, or its folder if they are missing."""
    has_curves = (folder / CURVES_FILE).is_file()
    return f"../{RUNS}/{folder.name}/{CURVES_FILE if has_curves else ''}"


def columns_of(records: Sequence[Record]) -> list[TableColumn]:
    """Return `TABLE_COLUMNS` and the columns of the metrics that the runs have."""
    after = [column.name for column in TABLE_COLUMNS].index("epoch") + 1
    return [*TABLE_COLUMNS[:after], *_of_metrics(records), *TABLE_COLUMNS[after:]]


def _shown_columns(records: Sequence[Record]) -> list[TableColumn]:
    stored = {"", *(name for record in records for name in record.state)}
    return [column for column in columns_of(records) if column.needs in stored]


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
        if not group.accuracy or record.evaluated_on != split:
            return None
        return group.accuracy.mean

    return cell


def as_text(groups: Sequence[Group], kind: str = "text", width: int | None = None) -> str:
    """Format the table with one row per configuration.

    Args:
        groups: as `ranked` returns them.
        kind: "text", "markdown" or "latex".
        width: maximum width of "text" in characters; None: no limit.
    """
    records = [record for group in groups for record in group.records]
    keys = varied([record.config for record in records])
    shown = [(c.title, c.of_group) for c in _shown_columns(records) if c.of_group]
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
    """Return the report's list of runs, a mapping from column title to text for each.

    Args:
        records: the runs.
        keys: dotted keys of the settings that vary.
    """
    shown = [(c.title, c.in_report) for c in _shown_columns(records) if c.in_report]
    names = short_names(keys, taken=[title for title, _ in shown])
    return [
        dict(zip(names, (str(level_of(record, key)) for key in keys), strict=True))
        | {title: cell(record) for title, cell in shown}
        for record in records
    ]


def _varied_values(group: Group, keys: Sequence[str]) -> list[Any]:
    flat = all_settings(group.records[0].config)
    return [flat.get(key, "") for key in keys]


def write_csv(path: Path, groups: Sequence[Group]) -> None:
    """Write results.csv: one row per run with the rank and the mean of its configuration.

    Args:
        path: of the file.
        groups: as `ranked` returns them.

    Raises:
        UserError: the file cannot be written.
    """
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
    write_locked(path.parent, {path.name: text.getvalue().encode()})
