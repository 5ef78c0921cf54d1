"""The runs that a sweep lists, read from their folders."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError
from cifar_exp.files import read_text
from cifar_exp.paths import RUNS, SWEEP_FILE
from cifar_exp.reports.stored import StoredSweep
from cifar_exp.runs.find import some
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, read_record
from cifar_exp.runs.stored import check


def read_sweep(sweep: Path) -> tuple[dict[str, Record], list[str]]:
    """Read the runs that a sweep lists.

    Args:
        sweep: its folder, with sweep.json; the run folders are in `runs` next to it.

    Returns:
        The runs by their ids, and a line about those that are missing or cannot be read.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs can be read.
    """
    listed = {run["run_id"]: run["folder"] for run in read_list(sweep)["runs"]}
    by_name, left_out = read_runs(sweep.parent / RUNS, {name: id for id, name in listed.items()})
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
    folders = {name: RunFolder(runs / name) for name in listed}
    if not all(folder.config_file.exists() for folder in folders.values()):
        stored = RunFolder.by_id(runs)  # they may have been renamed
        for name, folder in folders.items():
            if not folder.config_file.exists():
                folders[name] = stored.get(listed[name], folder)
    for name, folder in folders.items():
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


def read_list(sweep: Path) -> dict[str, Any]:
    """Return what a sweep's sweep.json says: its command, its runs and its studies.

    Raises:
        UserError: it is not the folder of a sweep, or its list is another sweep's.
    """
    file = sweep / SWEEP_FILE
    try:
        content: dict[str, Any] = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{sweep}: expected the folder of a sweep, with a sweep.json that can be read"
        ) from error
    check(StoredSweep, content, file)
    named = re.fullmatch(r".*-([0-9a-f]{10})", sweep.resolve().name, re.DOTALL)
    ids = [run["run_id"] for run in content["runs"]]
    first_runs = content.get("first_runs")
    if named and named[1] != sweep_id(ids[:first_runs], first_runs is not None):
        raise UserError(f"{file}: lists other runs than those of sweep {named[1]}; it was changed")
    return content


def sweep_id(run_ids: Sequence[str], adds_seeds: bool = False) -> str:
    """Return ten hex digits: the same runs are the same sweep.

    Args:
        run_ids: of all runs, or of the first ones where seeds are added.
        adds_seeds: whether a study adds seeds.
    """
    words = [*sorted(run_ids), *["seeds added"] * adds_seeds]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:10]
