"""Runs and sweeps as `ls` lists them: reading, filtering and sorting."""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import all_settings
from cifar_exp.config.keys import SHORT_NAMES, explain_option, level, short
from cifar_exp.errors import UserError
from cifar_exp.paths import SEARCH_FILE, SWEEP_FILE
from cifar_exp.reports.records import read_list, read_records, read_search, runs_of_search
from cifar_exp.runs.cleaning import size_bytes
from cifar_exp.runs.find import run_folders
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, remarks

STATUSES = (
    "pending", "running", "interrupted", "pruned", "complete", "diverged", "failed", "damaged"
)  # fmt: skip


@dataclass(frozen=True)
class ListedRun:
    """A run as `ls` lists it.

    Attributes:
        record: the content of its folder.
        is_pruned: whether a search pruned it as a trial.
    """

    record: Record
    is_pruned: bool = False

    @property
    def status(self) -> str:
        """One of `STATUSES`; a pruned trial that no other sweep completed is "pruned"."""
        status = self.record.status
        return "pruned" if self.is_pruned and status == "interrupted" else status

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.record.folder.path.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings by dotted key."""
        return all_settings(self.record.config)

    @cached_property
    def accuracy(self) -> float | None:
        """The accuracy on the evaluated split after the last epoch; None if there is none."""
        return self.record.results.accuracy

    @cached_property
    def changed(self) -> datetime:
        """When the run ended, or started if it has not ended."""
        for key in ("ended", "started"):  # copying a folder changes the times of its files
            with suppress(KeyError, TypeError, ValueError):
                return datetime.fromisoformat(self.record.state[key]).astimezone(UTC)
        return datetime.fromtimestamp(self.record.folder.config_file.stat().st_mtime, UTC)

    @cached_property
    def size_bytes(self) -> int:
        """The total size of its files."""
        return size_bytes(self.record.folder.path)

    @property
    def epochs(self) -> str:
        """Completed and configured epochs, such as "3/10"."""
        return f"{len(self.record.rows)}/{self.record.config.training.epochs}"


@dataclass(frozen=True)
class ListedSweep:
    """A sweep, study or search as `ls` lists it.

    Attributes:
        name: of its folder.
        runs: how many runs it has.
        listed: those of its runs that `ls` lists, at least one.
        changed: when one of the listed runs last changed.
        size_bytes: total size of the files in its folder, without the runs.
    """

    name: str
    runs: int
    listed: list[ListedRun]
    changed: datetime
    size_bytes: int

    @property
    def statuses(self) -> str:
        """For example "5 complete, 1 diverged"."""
        counts = Counter(run.status for run in self.listed)
        return ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)

    @property
    def accuracy(self) -> float | None:
        """The best accuracy: on test images if a run is evaluated on them, else on validation."""
        return next(iter(self.best.values()))

    @property
    def best(self) -> dict[str, float | None]:
        """The best accuracy on each evaluated split by its column name, test first."""
        by_column: dict[str, list[float | None]] = {}
        for run in sorted(self.listed, key=lambda run: run.record.evaluated_on):
            by_column.setdefault(run.record.evaluated("accuracy"), []).append(run.accuracy)
        return {
            column: max((a for a in accuracies if a is not None), default=None)
            for column, accuracies in by_column.items()
        }


def list_runs(results: Path) -> tuple[list[ListedRun], list[str]]:
    """Read all runs.

    Args:
        results: the folder `paths.results`.

    Returns:
        The runs that can be read, and a message for each unreadable or damaged run.
    """
    records, unreadable = read_records(run_folders(results))
    pruned = _pruned(results)
    runs = [ListedRun(record, record.folder.run_id in pruned) for record in records]
    return runs, unreadable + remarks(records)


def _pruned(results: Path) -> set[str]:
    """Return the ids of the runs that searches pruned."""
    pruned = set()
    for file in results.glob(f"*/{SEARCH_FILE}"):
        with suppress(UserError):  # `list_sweeps` reports it
            trials = read_search(file.parent).trials
            pruned |= {_id(trial.run) for trial in trials if trial.run and trial.status == "pruned"}
    return pruned


def list_sweeps(results: Path, runs: Sequence[ListedRun]) -> tuple[list[ListedSweep], list[str]]:
    """Read the sweeps, studies and searches that contain any of these runs.

    Args:
        results: the folder `paths.results`.
        runs: runs in this folder.

    Returns:
        The sweeps, newest first, and a message for each unreadable one. The runs of a search are
        its trials and confirmations.
    """
    by_id = {run.record.folder.run_id: run for run in runs}
    sweeps, unreadable = [], []
    files = [file for name in (SWEEP_FILE, SEARCH_FILE) for file in results.glob(f"*/{name}")]
    for file in sorted(files):
        try:
            if file.name == SEARCH_FILE:
                ids = list(dict.fromkeys(runs_of_search(read_search(file.parent)).values()))
            else:
                ids = [run["run_id"] for run in read_list(file.parent)["runs"]]
        except UserError as error:
            unreadable.append(str(error))
            continue
        listed = [by_id[run] for run in ids if run in by_id]
        if listed:
            changed = max(run.changed for run in listed)
            size = size_bytes(file.parent)
            sweeps.append(ListedSweep(file.parent.name, len(ids), listed, changed, size))
    return sorted(sweeps, key=lambda sweep: sweep.changed, reverse=True), unreadable


def _id(folder: str) -> str:
    return RunFolder(Path(folder)).run_id


def filter_runs(
    runs: Sequence[ListedRun], statuses: Sequence[str], where: Sequence[str]
) -> list[ListedRun]:
    """Return the runs that have one of these statuses and all of these settings.

    Args:
        runs: to filter.
        statuses: of `STATUSES`; empty for all.
        where: settings such as `lr=0.1`, by dotted key or by the last part of the key.

    Raises:
        UserError: a status is unknown, a setting has no value, or no run has the setting.
    """
    for status in statuses:
        if status not in STATUSES:
            raise UserError(f"--status {status}: expected one of {', '.join(STATUSES)}")
    conditions = [_condition(text, runs) for text in where]
    return [
        run
        for run in runs
        if (not statuses or run.status in statuses)
        and all(condition(run) for condition in conditions)
    ]


def _condition(text: str, runs: Sequence[ListedRun]) -> Callable[[ListedRun], bool]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UserError(f"--where {text}: expected KEY=VALUE, such as lr=0.1")
    keys = _keys(name, runs)
    value = _value_of_level(name, value)
    return lambda run: any(key in run.settings and _same(run.settings[key], value) for key in keys)


def _value_of_level(name: str, value: str) -> str:
    """Return the value of a named level: `lr=high` is `lr=0.01`."""
    name = short(name)
    if name not in SHORT_NAMES or not value[:1].isalpha():
        return value
    number = level(name, value)
    if number is None:
        raise UserError(f"--where {explain_option(name, value)}")
    return str(number)


def _keys(name: str, runs: Sequence[ListedRun]) -> list[str]:
    """Return the dotted keys with a name: every optimizer may have its `momentum`."""
    known = {key for run in runs for key in run.settings}
    found = [key for key in known if name in (key, key.rpartition(".")[2])]
    if runs and not found:
        near = difflib.get_close_matches(name[:100], {key.rpartition(".")[2] for key in known}, 1)
        hint = f". Did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: none of the runs has this setting{hint}")
    return found


def _same(value: Any, given: str) -> bool:
    if isinstance(value, bool) or value is None:
        return given.lower() == ("null" if value is None else str(value).lower())
    with suppress(ValueError):
        return bool(float(given) == value)  # 1e-3 is 0.001
    if isinstance(value, list):
        return given.replace(" ", "") == str(value).replace(" ", "")
    return given == str(value)


def sort_runs(runs: Sequence[ListedRun], key: str) -> list[ListedRun]:
    """Sort runs: newest, most accurate or largest first; by other keys in ascending order.

    Runs without a value come last. Runs with equal values are sorted by age.

    Args:
        runs: to sort.
        key: "age", "accuracy", "size", "status", "name", or a setting.

    Raises:
        UserError: none of the runs has the setting.
    """
    sort_keys: dict[str, Callable[[ListedRun], Any]] = {
        "age": lambda run: -run.changed.timestamp(),
        "accuracy": lambda run: None if run.accuracy is None else -run.accuracy,
        "size": lambda run: -run.size_bytes,
        "status": lambda run: STATUSES.index(run.status),
        "name": lambda run: run.name,
    }
    if key not in sort_keys:
        keys = _keys(key, runs)
        sort_keys[key] = lambda run: next(
            (run.settings[k] for k in keys if k in run.settings), None
        )
    newest_first = sorted(runs, key=sort_keys["age"])
    return sorted(newest_first, key=lambda run: _sortable(sort_keys[key](run)))


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return 0, value
    return (2, "") if value is None else (1, str(value))
