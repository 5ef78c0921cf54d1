"""The runs that a sweep lists, read from their folders."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.config.study import Study, read_study
from cifar_exp.errors import UserError, some
from cifar_exp.files import read_text
from cifar_exp.paths import RUNS, SEARCH_FILE, SWEEP_FILE
from cifar_exp.reports.stored import StoredSearch, StoredSweep
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, read_record
from cifar_exp.runs.stored import check
from cifar_exp.runs.trust import id_in_name


def read_sweep(sweep: Path) -> tuple[dict[str, Record], list[str]]:
    """Read the runs that a sweep lists.

    Args:
        sweep: the folder with sweep.json; the run folders are in `runs` next to it.

    Returns:
        The runs by id, and messages about those that are missing or unreadable.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs can be read.
    """
    return read_listed(sweep.parent, read_list(sweep))


def read_listed(results: Path, content: Mapping[str, Any]) -> tuple[dict[str, Record], list[str]]:
    """Return the same as `read_sweep`.

    Args:
        results: the folder `paths.results`.
        content: of sweep.json.
    """
    listed = {run["run_id"]: run["folder"] for run in content["runs"]}
    by_name, problems = read_runs(results / RUNS, {name: id for id, name in listed.items()})
    return {id: by_name[name] for id, name in listed.items() if name in by_name}, problems


def runs_of_search(search: StoredSearch) -> dict[str, str]:
    """Return the ids of the runs of a search, its trials and tests, by folder name."""
    tested = [name for test in search.confirmations for name in (*test.found, *test.start)]
    names = [*(trial.run for trial in search.trials if trial.run), *tested]
    return {name: RunFolder(Path(name)).run_id for name in names}


def read_runs(runs: Path, listed: Mapping[str, str]) -> tuple[dict[str, Record], list[str]]:
    """Read runs, whose folders may have been renamed.

    Args:
        runs: the folder that contains the run folders.
        listed: original folder names and ids of the runs, at least one.

    Returns:
        The runs by original name, and messages about those that are missing or unreadable.

    Raises:
        UserError: none of the runs can be read.
    """
    records, problems, missing = {}, [], []
    # os.path.exists, because Path.exists raises PermissionError before Python 3.14
    folders = {name: RunFolder(runs / name) for name in listed}
    renamed = [name for name, run in folders.items() if not os.path.exists(run.config_file)]
    if renamed:
        by_id = RunFolder.by_id(runs)
        folders |= {name: by_id.get(listed[name], folders[name]) for name in renamed}
    for name, folder in folders.items():
        if not os.path.exists(folder.path):
            missing.append(name)
            continue
        try:
            records[name] = read_record(folder)
        except UserError as error:
            problems.append(str(error))
    if missing:
        count = f"{len(missing)} runs are" if len(missing) > 1 else "1 run is"
        problems.append(f"{runs}: {count} missing: {some(missing)}")
    if not records:
        raise UserError(problems[0])
    return records, problems


def read_records(folders: Iterable[RunFolder]) -> tuple[list[Record], list[str]]:
    """Read runs.

    Returns:
        The runs in the same order, and a message for each run that cannot be read.
    """
    records, unreadable = [], []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except UserError as error:
            unreadable.append(str(error))
    return records, unreadable


def read_list(sweep: Path) -> dict[str, Any]:
    """Read sweep.json: the command, the runs and the studies of a sweep.

    Args:
        sweep: the folder with sweep.json.

    Raises:
        UserError: it is not the folder of a sweep, or sweep.json belongs to another sweep.
    """
    file = sweep / SWEEP_FILE
    try:
        content: dict[str, Any] = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{sweep}: expected a sweep folder with a readable {SWEEP_FILE}") from error
    check(StoredSweep, content, file)
    expected = id_in_name(sweep.resolve())
    ids, first = [run["run_id"] for run in content["runs"]], content.get("first_runs")
    if expected not in (None, sweep_id(ids[:first], first is not None)):
        raise UserError(
            f"{file}: expected the runs of sweep {expected}, got others; the file was changed"
        )
    return content


def runs_of_studies(
    content: Mapping[str, Any], by_id: Mapping[str, Record]
) -> list[tuple[Study, list[Record]]]:
    """Return the studies of a sweep that have runs, each with its runs.

    Args:
        content: of sweep.json.
        by_id: the runs of the sweep.
    """
    parts = [
        (read_study(part["study"]), [by_id[run] for run in part["runs"] if run in by_id])
        for part in content.get("studies", [])
    ]
    return [(study, runs) for study, runs in parts if runs]


def sweep_id(run_ids: Sequence[str], add_seeds: bool = False) -> str:
    """Return ten hexadecimal digits that identify a set of runs, in any order.

    Args:
        run_ids: ids of all runs, or of the first runs if seeds are added.
        add_seeds: whether a study of the sweep adds seeds.
    """
    words = [*sorted(run_ids), *["add_seeds"] * add_seeds]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:10]


def read_search(folder: Path) -> StoredSearch:
    """Read the search.json of a search.

    Raises:
        UserError: it is not the folder of a search, or the file belongs to another search.
    """
    file = folder / SEARCH_FILE
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{folder}: expected the folder of a search, with a readable search.json"
        ) from error
    search: StoredSearch = check(StoredSearch, content, file)
    expected = id_in_name(folder.resolve())
    if search.id and expected not in (None, search.id):
        raise UserError(f"{file}: belongs to search {search.id}, expected search {expected}")
    return search
