"""Finds runs and sweeps by folder, name or id, or by the start of a name or id."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cifar_exp.config.schema import Paths
from cifar_exp.errors import UserError, some
from cifar_exp.paths import CONFIG_FILE, RUNS, SEARCH_FILE, STATE_FILE, SWEEP_FILE
from cifar_exp.runs.folder import RunFolder, original

RESULTS = Path(Paths().results)
_MOST_SIMILAR = 3
_LISTS = (SWEEP_FILE, SEARCH_FILE)
# A noun, and the files in its folder.
_RUN = ("run", "a config.yaml")
_SWEEP = ("sweep", "a sweep.json that can be read, or a search.json")


def run_folders(results: Path) -> list[RunFolder]:
    """Return the folders of all runs, sorted by name, without copies of the same run.

    Args:
        results: folder of all results, `paths.results`.

    Raises:
        UserError: the folder does not exist.
    """
    _check_results(results)
    by_id: dict[str, list[RunFolder]] = {}
    for path in sorted((results / RUNS).glob("*")):
        if not any(os.path.lexists(path / name) for name in (CONFIG_FILE, STATE_FILE)):
            continue
        folder = RunFolder(path)
        by_id.setdefault(folder.run_id or folder.path.name, []).append(folder)
    return sorted(map(original, by_id.values()), key=lambda run: run.path.name)


def find_run(given: str, results: Path = RESULTS) -> RunFolder:
    """Find the folder of a run.

    Args:
        given: its folder, its name with or without the id, its id, or the start of one of these.
        results: folder of all results, `paths.results`.

    Raises:
        UserError: no run or several runs match.
    """
    if _has_file(given, [CONFIG_FILE]):
        return RunFolder(_with_own_name(Path(given)))
    runs = {folder.path: folder.run_id for folder in run_folders(results)}
    named = results / RUNS / given
    if named.name == given and _has_file(
        str(named), [CONFIG_FILE]
    ):  # of two copies, `run_folders` has one
        return RunFolder(named)
    return RunFolder(_find(given, runs, _RUN, results / RUNS))


def find_sweep(given: str, results: Path = RESULTS) -> Path:
    """Find the folder of a sweep, study or search.

    Args:
        given: same as for `find_run`.
        results: folder of all results, `paths.results`.

    Raises:
        UserError: no sweep or several sweeps match.
    """
    if _has_file(given, _LISTS):
        return _with_own_name(Path(given))
    if os.path.isdir(given) and not results.is_dir():  # a folder of something else
        raise UserError(_not_found(given, [], _SWEEP, results))
    _check_results(results)
    listed = sorted({file.parent for name in _LISTS for file in results.glob(f"*/{name}")})
    ids = {folder: folder.name.rpartition("-")[2] for folder in listed}
    return _find(given, ids, _SWEEP, results)


def _has_file(folder: str, names: Sequence[str]) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def _with_own_name(folder: Path) -> Path:
    """Return a path that ends with the name of the folder, also for `.` and for links."""
    return folder.resolve() if folder.name in ("", "..") or folder.is_symlink() else folder


def _check_results(results: Path) -> None:
    if not results.is_dir():
        raise UserError(f"{results}: folder not found. Expected the folder of paths.results.")
    if (results / RUNS).is_dir() or not _holds_results(results):
        return
    whole = next((path for path in results.resolve().parents if (path / RUNS).is_dir()), None)
    if whole:
        raise UserError(
            f"{results}: expected the folder of all results (paths.results), got a folder in it. "
            f"Use {os.path.relpath(whole) if not results.is_absolute() else whole}."
        )


def _holds_results(folder: Path) -> bool:
    """Return whether a folder is a run or a sweep, or has runs in it."""
    files = (CONFIG_FILE, *_LISTS)
    return _has_file(str(folder), files) or any(folder.glob(f"*/{CONFIG_FILE}"))


def _find(given: str, ids: Mapping[Path, str], kind: tuple[str, str], parent: Path) -> Path:
    noun, _ = kind
    for matches in (_by_name, _begins):
        found = [folder for folder, id in ids.items() if given and matches(folder, id, given)]
        if len(found) == 1:
            return found[0]
        if found:
            names = [folder.name for folder in found]
            raise UserError(f"{given}: expected one {noun}, found {len(found)}: {some(names)}")
    raise UserError(_not_found(given, list(ids), kind, parent))


def _by_name(folder: Path, id: str, given: str) -> bool:
    return given in (folder.name, folder.name.rpartition("-")[0], id)


def _begins(folder: Path, id: str, given: str) -> bool:
    return folder.name.startswith(given) or id.startswith(given)


def _not_found(given: str, folders: Sequence[Path], kind: tuple[str, str], parent: Path) -> str:
    noun, files = kind
    if not given:
        return f"expected the name, id or folder of a {noun}, got an empty text"
    if os.path.isdir(given):
        return f"{given}: expected the folder of a {noun}, with {files}, such as those in {parent}"
    if not folders:
        return f"{given}: folder not found, and {parent} has no {noun}s"
    # without ids, which would hide the similarity of short names
    names = {folder.name.rpartition("-")[0]: folder.name for folder in folders}
    near = difflib.get_close_matches(given[:255], names, n=_MOST_SIMILAR, cutoff=0.5)
    hint = f" Did you mean {some([names[name] for name in near])}?" if near else ""
    return f"{given}: {noun} not found in {parent}.{hint} `python -m cifar_exp ls` lists all."
