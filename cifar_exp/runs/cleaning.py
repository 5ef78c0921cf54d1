"""Finds and deletes files of finished runs that are no longer needed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.paths import CHECKPOINTS
from cifar_exp.runs.find import run_folders
from cifar_exp.runs.folder import ENDED, RunFolder


@dataclass(frozen=True)
class Leftover:
    """A folder that can be deleted.

    Attributes:
        run: the run that it belongs to.
        path: path of the folder.
        size_bytes: size of all files in it.
    """

    run: RunFolder
    path: Path
    size_bytes: int

    def remove(self) -> str:
        """Delete the folder, unless another process trains the run.

        Returns:
            Why it was kept; "" if it was deleted.
        """
        try:
            with self.run.lock():
                # this process holds the lock, so that "running" means interrupted
                if self.run.status not in (*ENDED, "interrupted", "running"):
                    return "the run is being trained"
                if self.path.name == CHECKPOINTS:
                    self.run.remove_checkpoints()
                else:  # .replaced
                    shutil.rmtree(self.path)
        except UserError:
            return "the run is being trained"
        except OSError as error:
            return str(error.strerror)
        return ""


def leftovers(
    results: Path, replaced: bool = False, interrupted: bool = False
) -> Iterator[Leftover]:
    """Find the checkpoints of finished runs.

    Args:
        results: folder of all results, `paths.results`.
        replaced: also find `.replaced`, the files of runs that were trained again.
        interrupted: also find the checkpoints of interrupted runs, such as pruned trials. These
            runs cannot be resumed without them.
    """
    statuses = [*ENDED, "interrupted"] if interrupted else ENDED
    for run in run_folders(results):
        names = [CHECKPOINTS, ".replaced"] if replaced else [CHECKPOINTS]
        found = [run.path / name for name in names if _is_folder(run.path / name)]
        if found and run.status in statuses:
            yield from (Leftover(run, path, size_bytes(path)) for path in found)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def size_bytes(folder: Path) -> int:
    """Return the total size of all files in a folder."""
    total = 0
    for parent, _, names in os.walk(folder):  # ignores folders that are deleted meanwhile
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
