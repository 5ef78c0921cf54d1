"""The table of a sweep, made from the run folders alone."""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cifar_exp.config.identity import config_id, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.files import write_bytes
from cifar_exp.paths import RUNS
from cifar_exp.reports.locking import writing
from cifar_exp.runs.record import Record, fewest, tested_images
from cifar_exp.terminal import table

if TYPE_CHECKING:  # SciPy takes half a second, and a list of runs does without
    from cifar_exp.reports.statistics import Estimate

_METRICS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
_RUN = ("best_test_accuracy", "seconds", "peak_memory_bytes", "reason")
_BALANCE = ("balanced_accuracy", "largest_class_share")  # of runs on unequal classes


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
    def balance(self) -> list[str]:
        """Mean balanced accuracy of the complete runs, and the share of the largest class."""
        complete = [r.state for r in self.records if r.status == "complete"]
        states = [state for state in complete if all(name in state for name in _BALANCE)]
        return [
            f"{sum(state[name] for state in states) / len(states):.4f}"
            for name in _BALANCE
            if states
        ]

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


def as_text(groups: Sequence[Group], kind: str = "text", width: int | None = None) -> str:
    """Return the table: a line a configuration, best first.

    Args:
        groups: in this order.
        kind: "text" for the terminal, "markdown" or "latex" for a paper.
        width: columns that a text may take; None for as many as it takes.
    """
    keys = varied([record.config for group in groups for record in group.records])
    unequal = any(group.balance for group in groups)
    rows = [
        [
            number,
            *_varied_values(group, keys),
            *_accuracy_cells(group),
            *((group.balance or ["", ""]) if unequal else ()),
            group.statuses,
            "" if group.seconds is None else f"{group.seconds:.0f}",
        ]
        for number, group in enumerate(groups, 1)
    ]
    evaluated_on = {r.config.data.evaluated_on for group in groups for r in group.records}
    accuracy = f"{'/'.join(sorted(evaluated_on))} accuracy"
    balance = ["balanced accuracy", "largest class"] if unequal else []
    header = ["", *short_names(keys), accuracy, "95 % interval", "n", *balance, "status", "seconds"]
    if kind == "text":
        return table(rows, header, width)
    form = {"markdown": "github", "latex": "latex_booktabs"}[kind]
    return tabulate(rows, header, tablefmt=form, disable_numparse=True)


def _varied_values(group: Group, keys: Sequence[str]) -> list[Any]:
    flat = settings(group.records[0].config)
    return [flat.get(key, "") for key in keys]


def _accuracy_cells(group: Group) -> list[str]:
    accuracy = group.accuracy
    if accuracy is None:
        return ["", "", "0"]
    interval = "" if accuracy.n == 1 else f"± {accuracy.half_width:.4f}"
    return [f"{accuracy.mean:.4f}", interval, str(accuracy.n)]


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
    last = record.rows[-1] if record.rows else {}
    state = {"reason": record.problem} if record.problem else record.state
    estimated = group.accuracy
    return {
        "rank": rank,
        **dict(zip(keys, _varied_values(group, keys), strict=True)),
        "seed": record.config.seed,
        "status": record.status,
        **{name: last.get(name) for name in _METRICS},
        **{name: state.get(name) for name in (*_RUN, *_BALANCE)},
        "mean_test_accuracy": estimated.mean if estimated else None,
        "interval_half_width": estimated.half_width if estimated and estimated.n > 1 else None,
        "n": estimated.n if estimated else 0,
        "folder": f"../{RUNS}/{record.folder.path.name}",  # wherever the results are moved
    }
