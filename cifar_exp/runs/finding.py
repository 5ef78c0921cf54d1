"""Which run someone means: by its folder, its id, or how its name begins."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from cifar_exp.config.schema import Paths
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import RunFolder

RESULTS = Path(Paths().results)
_SHOWN = 3


def run_folders(results: Path) -> list[RunFolder]:
    """Return the folders of all runs, sorted by name.

    Args:
        results: as `paths.results`.

    Raises:
        UserError: there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: there is no such folder; expected that of paths.results")
    configs = (results / "runs").glob("*/config.yaml")
    return sorted((RunFolder(file.parent) for file in configs), key=lambda run: run.path.name)


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
    folders = run_folders(results)
    for matches in (_by_name, _begins):
        found = [folder for folder in folders if given and matches(folder, given)]
        if len(found) == 1:
            return found[0]
        if found:
            names = [folder.path.name for folder in found]
            raise UserError(f"{given}: expected one run, there are {len(found)}: {some(names)}")
    raise UserError(_not_found(given, results, folders))


def _by_name(folder: RunFolder, given: str) -> bool:
    name, _, run_id = folder.path.name.rpartition("-")
    return given in (folder.path.name, name, run_id)


def _begins(folder: RunFolder, given: str) -> bool:
    run_id = folder.path.name.rpartition("-")[2]
    return folder.path.name.startswith(given) or run_id.startswith(given)


def _not_found(given: str, results: Path, folders: Sequence[RunFolder]) -> str:
    runs = results / "runs"
    if Path(given).is_dir():
        return f"{given}: expected the folder of a run, with a config.yaml, as those in {runs}"
    if not folders:
        return f"{given}: there is no such folder, and {runs} holds no runs"
    # with and without their ids, which hide how near a short name is
    names = {folder.path.name.rpartition("-")[0]: folder.path.name for folder in folders}
    near = difflib.get_close_matches(given[:255], names, n=_SHOWN, cutoff=0.5)
    hint = f"; near: {some([names[name] for name in near])}" if near else ""
    return f"{given}: there is no such run in {runs}{hint}; `python -m cifar_exp ls` lists them"


def some(names: Sequence[str]) -> str:
    """Return the first names: "a, b, c, ..."."""
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
