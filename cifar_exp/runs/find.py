"""Which run or sweep is meant: by its folder, its id, or how its name begins."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifar_exp.config.schema import Paths
from cifar_exp.errors import UserError
from cifar_exp.paths import CONFIG_FILE, RUNS, SEARCH_FILE, STATE_FILE, SWEEP_FILE
from cifar_exp.runs.folder import RunFolder, original

RESULTS = Path(Paths().results)
_SHOWN = 3
_LISTS = (SWEEP_FILE, SEARCH_FILE)
# What is looked for, and what its folder holds.
_RUN = ("run", "a config.yaml")
_SWEEP = ("sweep", "a sweep.json that can be read, or a search.json")


def run_folders(results: Path) -> list[RunFolder]:
    """Return the folders of all runs, sorted by name; copies of a folder are left out.

    Args:
        results: as `paths.results`.

    Raises:
        UserError: there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: there is no such folder; expected that of paths.results")
    by_id: dict[str, list[RunFolder]] = {}
    for path in sorted((results / RUNS).glob("*")):
        if not any(os.path.lexists(path / name) for name in (CONFIG_FILE, STATE_FILE)):
            continue
        folder = RunFolder(path)
        by_id.setdefault(folder.run_id or folder.path.name, []).append(folder)
    return sorted(map(original, by_id.values()), key=lambda run: run.path.name)


def find_run(given: str, results: Path = RESULTS) -> RunFolder:
    """Find a run on the disk.

    Args:
        given: its folder, its name with or without the id, its id, or how one of these begins.
        results: where runs are looked for, as `paths.results`.

    Raises:
        UserError: there is no such run, or there are several.
    """
    if RunFolder(Path(given)).config_file.is_file():
        return RunFolder(Path(given))
    runs = {folder.path: folder.run_id for folder in run_folders(results)}
    return RunFolder(_find(given, runs, _RUN, results / RUNS))


def find_sweep(given: str, results: Path = RESULTS) -> Path:
    """Find the folder of a sweep, a study or a search on the disk.

    Args:
        given: as in `find_run`.
        results: where sweeps are looked for, as `paths.results`.

    Raises:
        UserError: there is no such sweep, or there are several.
    """
    if any((Path(given) / name).is_file() for name in _LISTS):
        return Path(given)
    if not results.is_dir():
        raise UserError(f"{results}: there is no such folder; expected that of paths.results")
    listed = sorted({file.parent for name in _LISTS for file in results.glob(f"*/{name}")})
    ids = {folder: folder.name.rpartition("-")[2] for folder in listed}
    return _find(given, ids, _SWEEP, results)


def _find(given: str, ids: Mapping[Path, str], kind: tuple[str, str], place: Path) -> Path:
    noun, _ = kind
    for matches in (_by_name, _begins):
        found = [folder for folder, own in ids.items() if given and matches(folder, own, given)]
        if len(found) == 1:
            return found[0]
        if found:
            names = [folder.name for folder in found]
            raise UserError(f"{given}: expected one {noun}, there are {len(found)}: {some(names)}")
    raise UserError(_not_found(given, list(ids), kind, place))


def _by_name(folder: Path, own_id: str, given: str) -> bool:
    return given in (folder.name, folder.name.rpartition("-")[0], own_id)


def _begins(folder: Path, own_id: str, given: str) -> bool:
    return folder.name.startswith(given) or own_id.startswith(given)


def _not_found(given: str, folders: Sequence[Path], kind: tuple[str, str], place: Path) -> str:
    noun, holds = kind
    if Path(given).is_dir():
        return f"{given}: expected the folder of a {noun}, with {holds}, as those in {place}"
    if not folders:
        return f"{given}: there is no such folder, and {place} holds no {noun}s"
    # with and without their ids, which hide how near a short name is
    names = {folder.name.rpartition("-")[0]: folder.name for folder in folders}
    near = difflib.get_close_matches(given[:255], names, n=_SHOWN, cutoff=0.5)
    hint = f"; near: {some([names[name] for name in near])}" if near else ""
    return f"{given}: there is no such {noun} in {place}{hint}; `python -m cifar_exp ls` lists them"


def some(names: Sequence[str]) -> str:
    """Return the first names: "a, b, c, ..."."""
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
