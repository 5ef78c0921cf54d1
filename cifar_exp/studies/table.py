"""The table of a sweep, made from the run folders alone."""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from cifar_exp.config.identity import config_id, settings
from cifar_exp.config.results import State, Sweep, check, check_rows
from cifar_exp.config.schema import Cifar10, RunConfig, Synthetic
from cifar_exp.errors import UserError
from cifar_exp.files import read_text, write_bytes
from cifar_exp.runs.finding import some
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.studies.writing import writing
from cifar_exp.terminal import table

if TYPE_CHECKING:  # SciPy takes half a second, and a list of runs does without
    from cifar_exp.studies.statistics import Estimate

_METRICS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
_RUN = ("best_test_accuracy", "seconds", "peak_memory_bytes", "reason")
_BALANCE = ("balanced_accuracy", "largest_class_share")  # of runs on unequal classes


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it.

    Attributes:
        config: its settings.
        folder: where it is.
        status: as `RunFolder.status`.
        state: run.json.
        rows: the lines of metrics.jsonl; none if the run is damaged.
        problem: why it is damaged, if it is.
    """

    config: RunConfig
    folder: RunFolder
    status: str
    state: dict[str, Any]
    rows: list[dict[str, Any]]
    problem: str = ""


@dataclass(frozen=True)
class Group:
    """The runs of one configuration, which differ in the seed alone."""

    records: list[Record] = field(default_factory=list)

    @property
    def accuracy(self) -> "Estimate | None":
        """Final test accuracy of the complete runs; None if there are none."""
        from cifar_exp.studies.statistics import estimate

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


def tested_images(record: Record) -> int | None:
    """Return how many images the accuracies of a run are shares of; None if that is not known."""
    data, stored = record.config.data, record.state.get("evaluated_images")
    match stored, data:
        case int(), _:
            return int(stored)
        case _, Cifar10():
            train, test = 50_000, 10_000
        case _, Synthetic():
            train, test = data.train_size, data.test_size
        case _:  # a run from before the number was kept, on custom images
            return data.limit_test if data.evaluated_on == "test" else None
    if data.evaluated_on == "validation":
        return round(data.val_fraction * min(train, data.limit_train or train))
    return min(test, data.limit_test or test)


def fewest(counts: Iterable[int | None]) -> int | None:
    """Return the smallest of the numbers that are known."""
    return min((count for count in counts if count), default=None)


def read_record(folder: RunFolder) -> Record:
    """Read a run's folder.

    Raises:
        UserError: its files cannot be read, or hold something else.
    """
    config, state, rows = folder.read_config(), folder.read_state(), folder.read_metrics()
    file = folder.path / "run.json"
    if not folder.has_state and (os.path.lexists(file) or rows):  # it comes before the first epoch
        raise UserError(
            f"{file}: expected JSON that can be read, so it is not known how the run ended; "
            "the command that trained the run goes on from what is there"
        )
    check(State, state, file)
    check_rows(rows, folder.metrics_file)
    folder.check_config(config, state)
    status, problem = folder.judged(state, rows)
    # what cannot be trusted is in no number and no curve
    return Record(config, folder, status, state, [] if problem else rows, problem)


def read_sweep(sweep: Path) -> tuple[dict[str, Record], list[str]]:
    """Read the runs that a sweep lists.

    Args:
        sweep: its folder, with sweep.json; the run folders lie in `runs` beside it.

    Returns:
        The runs by their ids, and a line about those that are missing or cannot be read.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs can be read.
    """
    listed = {run["run_id"]: run["folder"] for run in read_list(sweep)["runs"]}
    by_name, left_out = read_runs(sweep.parent / "runs", {name: id for id, name in listed.items()})
    return {id: by_name[name] for id, name in listed.items() if name in by_name}, left_out


def read_runs(runs: Path, listed: Mapping[str, str]) -> tuple[dict[str, Record], list[str]]:
    """Read some runs.

    Args:
        runs: the folder that holds them.
        listed: names that their folders had when they were trained, with their ids: at least one.

    Returns:
        The runs by these names, and a line about those that are missing or cannot be read.

    Raises:
        UserError: none can be read.
    """
    records, left_out, missing = {}, [], []
    for name, run_id in listed.items():
        folder = RunFolder(runs / name)
        if not folder.config_file.exists():  # it may have been renamed
            folder = RunFolder.with_id(runs, run_id) or folder
        if not folder.path.exists():
            missing.append(name)
            continue
        try:
            records[name] = read_record(folder)
        except UserError as error:
            left_out.append(str(error))
    if missing:
        count = f"{len(missing)} runs are" if len(missing) > 1 else "1 run is"
        left_out.append(f"{runs}: {count} missing: {some(missing)}")
    if not records:
        raise UserError(left_out[0])
    return records, left_out


def remarks(records: Sequence[Record]) -> list[str]:
    """Return a line about each run that cannot be trusted, and about those that have no sums."""
    lines = [
        f"{record.folder.path}: {record.problem}; its results are not used"
        for record in records
        if record.problem
    ]
    before = sum(r.status in ENDED and not r.folder.has_sums(r.state) for r in records)
    if before:
        count = f"{before} runs were" if before > 1 else "1 run was"
        lines.append(f"{count} trained before sha256 sums were kept, so the files are not checked")
    return lines


def read_list(sweep: Path) -> dict[str, Any]:
    """Return what a sweep's sweep.json says: its command, its runs and its studies.

    Raises:
        UserError: it is not the folder of a sweep, or its list is another sweep's.
    """
    file = sweep / "sweep.json"
    try:
        content: dict[str, Any] = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{sweep}: expected the folder of a sweep, with a sweep.json that can be read"
        ) from error
    check(Sweep, content, file)
    named = re.fullmatch(r".*-([0-9a-f]{10})", sweep.resolve().name, re.DOTALL)
    if named and named[1] != sweep_id([run["run_id"] for run in content["runs"]]):
        raise UserError(f"{file}: lists other runs than those of sweep {named[1]}; it was changed")
    return content


def sweep_id(run_ids: Sequence[str]) -> str:
    """Return ten hex digits: the same runs are the same sweep."""
    return hashlib.sha256(" ".join(sorted(run_ids)).encode()).hexdigest()[:10]


def ranked(records: Sequence[Record]) -> list[Group]:
    """Return the configurations, best first; those that diverged or failed come last."""
    groups: dict[str, Group] = defaultdict(Group)
    for record in records:
        groups[config_id(record.config)].records.append(record)
    return sorted(groups.values(), key=Group._rank)


def varied(configs: Sequence[RunConfig]) -> list[str]:
    """Return the keys in which runs differ, but for the seed.

    A setting that only some of the runs have, such as `optimizer.momentum`, counts if those differ.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for config in configs:
        for key, value in settings(config).items():
            values[key].add(str(value))
    return [key for key, different in values.items() if len(different) > 1 and key != "seed"]


def short_names(keys: Sequence[str]) -> list[str]:
    """Leave out the section of each key where the last part alone is unique."""
    last = [key.split(".")[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


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
        "folder": f"../runs/{record.folder.path.name}",  # wherever the results are moved
    }
