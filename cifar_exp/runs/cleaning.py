"""What finished runs left on the disk and nobody needs any more."""

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
    """A folder that can be removed.

    Attributes:
        run: that it belongs to.
        path: of the folder.
        size_bytes: of all files in it.
    """

    run: RunFolder
    path: Path
    size_bytes: int

    def remove(self) -> str:
        """Remove it, unless another process has begun to train the run again.

        Returns:
            Why it was kept; "" if it was removed.
        """
        try:
            with self.run.lock():
                # with the lock held here, nobody else is running it
                if self.run.status not in (*ENDED, "interrupted", "running"):
                    return "the run is being trained"
                if self.path.name == CHECKPOINTS:
                    self.run.remove_checkpoints()
                else:  # what `set_aside` has moved into it
                    shutil.rmtree(self.path)
        except UserError:
            return "the run is being trained"
        except OSError as error:
            return str(error.strerror)
        return ""


def leftovers(
    results: Path, replaced: bool = False, interrupted: bool = False
) -> Iterator[Leftover]:
    """Find checkpoints of runs that have ended; those of others are what they go on from.

    Args:
        results: as `paths.results`.
        replaced: whether to find `.replaced` as well, the files from before a run was trained anew.
        interrupted: whether to find checkpoints of interrupted runs as well, which cannot go on
            without: trials that a search gave up, for instance.
    """
    statuses = [*ENDED, "interrupted"] if interrupted else ENDED
    for run in run_folders(results):
        names = [CHECKPOINTS, ".replaced"] if replaced else [CHECKPOINTS]
        found = [run.path / name for name in names if _is_own(run.path / name)]
        if found and run.status in statuses:
            yield from (Leftover(run, path, size_bytes(path)) for path in found)


def _is_own(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()  # a link leads to what is elsewhere


def size_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; what vanishes meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
