"""The runs and sweeps on the disk: how they stand, in what they differ, what came out."""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from cifar_exp.config.identity import differences, settings
from cifar_exp.config.keys import SHORT_NAMES, explain_option, level, short, short_names
from cifar_exp.errors import UserError
from cifar_exp.files import read_text
from cifar_exp.paths import SEARCH_FILE, SWEEP_FILE
from cifar_exp.reports.records import read_list
from cifar_exp.reports.stored import StoredSearch
from cifar_exp.runs.cleaning import size_bytes
from cifar_exp.runs.find import run_folders
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, read_record, remarks
from cifar_exp.runs.stored import check
from cifar_exp.terminal import table

STATUSES = ("pending", "running", "interrupted", "complete", "diverged", "failed", "damaged")
_NARROWEST = 8  # columns that are left of settings and names
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400  # seconds


@dataclass(frozen=True)
class ListedRun:
    """A run on the disk.

    Attributes:
        record: what its folder holds.
        settings: by dotted key.
        accuracy: after the last epoch, on the images it was evaluated on; None before that, and
            where it cannot be trusted.
        changed: when it ended, or else began.
        size_bytes: of all its files.
    """

    record: Record
    settings: Mapping[str, Any]
    accuracy: float | None
    changed: datetime
    size_bytes: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.record.folder.path.name

    @property
    def epochs(self) -> str:
        """How many it has done of how many."""
        return f"{len(self.record.rows)}/{self.record.config.training.epochs}"


@dataclass(frozen=True)
class ListedSweep:
    """A sweep, study or search on the disk.

    Attributes:
        name: of its folder.
        runs: how many it has.
        listed: those of them that are listed.
        changed: when a run of it was last.
        size_bytes: of its own files.
    """

    name: str
    runs: int
    listed: list[ListedRun]
    changed: datetime
    size_bytes: int

    @property
    def statuses(self) -> str:
        """For example "5 complete, 1 diverged"."""
        counts = Counter(run.record.status for run in self.listed)
        return ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)

    @property
    def accuracy(self) -> float | None:
        """The best of its runs, of those on test images if there are any."""
        return next(iter(self.best.values()))

    @property
    def best(self) -> dict[str, float | None]:
        """The best accuracy on each kind of images that runs are evaluated on, test first."""
        by_column: dict[str, list[float | None]] = {}
        for run in sorted(self.listed, key=lambda run: run.record.evaluated_on):
            by_column.setdefault(run.record.evaluated("accuracy"), []).append(run.accuracy)
        return {
            column: max((a for a in accuracies if a is not None), default=None)
            for column, accuracies in by_column.items()
        }


def list_runs(results: Path) -> tuple[list[ListedRun], list[str]]:
    """Read all runs. Args: results: as `paths.results`. Returns: them, and what is wrong."""
    runs, unreadable = [], []
    for folder in run_folders(results):
        try:
            runs.append(_listed(folder))
        except UserError as error:
            unreadable.append(str(error))
    return runs, unreadable + remarks([run.record for run in runs])


def _listed(folder: RunFolder) -> ListedRun:
    record = read_record(folder)
    return ListedRun(
        record,
        settings(record.config),
        record.results.accuracy,
        _changed(record),
        size_bytes(folder.path),
    )


def _changed(record: Record) -> datetime:
    for key in ("ended", "started"):  # the times of files are those of a copy
        with suppress(KeyError, TypeError, ValueError):
            return datetime.fromisoformat(record.state[key]).astimezone(UTC)
    return datetime.fromtimestamp(record.folder.config_file.stat().st_mtime, UTC)


def list_sweeps(results: Path, runs: Sequence[ListedRun]) -> list[ListedSweep]:
    """Read the sweeps, studies and searches that one of these runs belongs to.

    Args:
        results: as `paths.results`.
        runs: of it.

    Returns:
        The newest first; of a search the runs are those of its trials and confirmations.
    """
    by_id = {run.record.folder.run_id: run for run in runs}
    sweeps = []
    files = [file for name in (SWEEP_FILE, SEARCH_FILE) for file in results.glob(f"*/{name}")]
    for file in sorted(files):
        with suppress(UserError):  # `table` and `report` print what is wrong with it
            ids = _ids_of_search(file) if file.name == SEARCH_FILE else _ids_of_sweep(file)
            listed = [by_id[run] for run in ids if run in by_id]
            if listed:
                changed = max(run.changed for run in listed)
                size = size_bytes(file.parent)
                sweeps.append(ListedSweep(file.parent.name, len(ids), listed, changed, size))
    return sorted(sweeps, key=lambda sweep: sweep.changed, reverse=True)


def _ids_of_sweep(file: Path) -> list[str]:
    return [run["run_id"] for run in read_list(file.parent)["runs"]]


def _ids_of_search(file: Path) -> list[str]:
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: expected the list of a search") from error
    check(StoredSearch, content, file)
    folders = [trial["run"] for trial in content["trials"] if trial["run"]]
    for confirmation in content["confirmations"]:
        folders += [*confirmation["found"], *confirmation["start"]]
    return list(dict.fromkeys(folder.rpartition("-")[2] for folder in folders))


def chosen(
    runs: Sequence[ListedRun], statuses: Sequence[str], where: Sequence[str]
) -> list[ListedRun]:
    """Return the runs with one of these statuses and all of these settings.

    Args:
        runs: to choose from.
        statuses: of STATUSES; none for all.
        where: settings as `lr=0.1`, with a dotted key or its last part.

    Raises:
        UserError: there is no such status, a setting has no value, or no run has it.
    """
    for status in statuses:
        if status not in STATUSES:
            raise UserError(f"--status {status}: expected one of {', '.join(STATUSES)}")
    wanted = [_condition(text, runs) for text in where]
    return [
        run
        for run in runs
        if (not statuses or run.record.status in statuses) and all(test(run) for test in wanted)
    ]


def _condition(text: str, runs: Sequence[ListedRun]) -> Callable[[ListedRun], bool]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--where {text}: expected KEY=VALUE, such as lr=0.1")
    keys = _keys(name, runs)
    value = _number_of_level(name, value)
    return lambda run: any(key in run.settings and _same(run.settings[key], value) for key in keys)


def _number_of_level(name: str, value: str) -> str:
    """Return what a level of a short name sets: `lr=high` is `lr=0.01`."""
    name = short(name)
    if name not in SHORT_NAMES or not value[:1].isalpha():
        return value
    number = level(name, value)
    if number is None:
        raise UserError(f"--where {explain_option(name, value)}")
    return str(number)


def _keys(name: str, runs: Sequence[ListedRun]) -> list[str]:
    """Return the settings that a name means: `momentum` is one of each optimizer that has it."""
    known = {key for run in runs for key in run.settings}
    found = [key for key in known if name in (key, key.rpartition(".")[2])]
    if runs and not found:
        near = difflib.get_close_matches(name[:100], {key.rpartition(".")[2] for key in known}, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{name}: none of the runs has such a setting{hint}")
    return found


def _same(value: Any, given: str) -> bool:
    if isinstance(value, bool) or value is None:
        return given.lower() == ("null" if value is None else str(value).lower())
    with suppress(ValueError):
        return bool(float(given) == value)  # 1e-3 is 0.001
    if isinstance(value, list):
        return given.replace(" ", "") == str(value).replace(" ", "")
    return given == str(value)


def in_order(runs: Sequence[ListedRun], key: str) -> list[ListedRun]:
    """Sort runs: newest, best or largest first, all else upwards; those without it come last.

    Args:
        runs: to be sorted.
        key: "age", "accuracy", "size", "status", "name", or a setting.

    Raises:
        UserError: there is no such setting.
    """
    read: dict[str, Callable[[ListedRun], Any]] = {
        "age": lambda run: -run.changed.timestamp(),
        "accuracy": lambda run: None if run.accuracy is None else -run.accuracy,
        "size": lambda run: -run.size_bytes,
        "status": lambda run: STATUSES.index(run.record.status),
        "name": lambda run: run.name,
    }
    if key not in read:
        keys = _keys(key, runs)
        read[key] = lambda run: next((run.settings[k] for k in keys if k in run.settings), None)
    newest_first = sorted(runs, key=read["age"])  # where else they are equal
    return sorted(newest_first, key=lambda run: _sortable(read[key](run)))


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return 0, value
    return (2, "") if value is None else (1, str(value))


def as_text(
    runs: Sequence[ListedRun],
    sweeps: Sequence[ListedSweep],
    width: int | None = None,
    most: int | None = None,
) -> str:
    """Return two tables: a line a run, of which there is one at least, and a line a sweep.

    Args:
        runs: in this order.
        sweeps: in this order.
        width: columns that a line may take: settings and names are cut; None for all.
        most: how many lines each table has; None for all.
    """
    now = datetime.now(UTC)
    shown = runs[:most]
    different = [differences(run.record.config) for run in shown]
    shared = [
        (key, value)
        for key, value in different[0].items()
        if all(key in one and one[key] == value for one in different)
    ]
    rows = [
        [
            run.name.rpartition("-")[2],
            run.record.status,
            _words([pair for pair in one.items() if pair not in shared]),
            _number(run.accuracy),
            run.epochs,
            _age(now, run.changed),
            _size(run.size_bytes),
        ]
        for run, one in zip(shown, different, strict=True)
    ]
    on = "/".join(sorted({run.record.evaluated_on for run in shown}))
    header = ["run", "status", "settings", f"{on} accuracy", "epochs", "age", "size"]
    parts = [_cut_table(rows, header, "settings", width)]
    if shared:
        parts.append(f"all of them: {_words(shared)}")
    if sweeps:
        parts.append(_sweep_table(sweeps[:most], now, width))
    if len(shown) < len(runs):
        parts.append(f"{len(shown)} of {len(runs)} runs; --all lists them all")
    return "\n\n".join(parts)


def _cut_table(rows: list[list[Any]], header: list[str], longest: str, width: int | None) -> str:
    """Return a table with a line a row; the cells of one column are cut to make it fit."""
    place = header.index(longest)
    text = tabulate(rows, header, disable_numparse=True)
    too_wide = 0 if width is None else max(map(len, text.splitlines())) - width
    room = max(_NARROWEST, max(len(row[place]) for row in rows) - too_wide)
    for row in rows:
        row[place] = row[place] if len(row[place]) <= room else row[place][: room - 1] + "…"
    return table(rows, header, width)


def _words(pairs: Sequence[tuple[str, Any]]) -> str:
    names = short_names([key for key, _ in pairs])
    return " ".join(f"{name}={_word(value)}" for name, (_, value) in zip(names, pairs, strict=True))


def _word(value: Any) -> str:
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def _sweep_table(sweeps: Sequence[ListedSweep], now: datetime, width: int | None) -> str:
    rows: list[list[Any]] = [
        [
            sweep.name.rpartition("-")[2],
            sweep.name.rpartition("-")[0],
            sweep.runs,
            sweep.statuses,
            _number(sweep.accuracy),
            _age(now, sweep.changed),
            _size(sweep.size_bytes),
        ]
        for sweep in sweeps
    ]
    header = ["sweep", "name", "runs", "status", "best", "age", "size"]
    return _cut_table(rows, header, "name", width)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _age(now: datetime, then: datetime) -> str:
    seconds = max(0, int((now - then).total_seconds()))
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _size(number: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def as_json(runs: Sequence[ListedRun], sweeps: Sequence[ListedSweep]) -> dict[str, Any]:
    """Return the same as plain values, with all settings."""
    return {
        "runs": [
            {
                "folder": run.name,
                "status": run.record.status,
                "settings": dict(run.settings),
                run.record.evaluated("accuracy"): run.accuracy,
                "epochs": len(run.record.rows),
                "changed": run.changed.isoformat(timespec="seconds"),
                "size_bytes": run.size_bytes,
            }
            for run in runs
        ],
        "sweeps": [
            {
                "folder": sweep.name,
                "runs": sweep.runs,
                "listed": [run.name for run in sweep.listed],
                **{f"best_{key}": value for key, value in sweep.best.items()},
                "changed": sweep.changed.isoformat(timespec="seconds"),
                "size_bytes": sweep.size_bytes,
            }
            for sweep in sweeps
        ],
    }
