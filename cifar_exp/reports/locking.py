"""Exclusive write access to the folder of a sweep or search."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cifar_exp.errors import UserError
from cifar_exp.files import disk_full, has_content, refuse_links, remove_temporaries, write_bytes
from cifar_exp.paths import FIGURES, REPORT_PAGE, REPORT_TEXT, SEARCH_FILE, SWEEP_FILE, TABLE_FILE

# The files that the program writes there; all others are the user's.
_FILES = (
    SWEEP_FILE,
    SEARCH_FILE,
    TABLE_FILE,
    REPORT_PAGE,
    REPORT_TEXT,
    "figures/*.svg",
    "figures/*.png",
)
_LOCK = ".lock"


@contextmanager
def writing(folder: Path, first: Path) -> Iterator[None]:
    """Lock the folder of a sweep or search; other writers wait, a few seconds at most.

    Args:
        folder: created if missing.
        first: the first file that will be written.

    Raises:
        UserError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK):
            refuse_links(folder / FIGURES, folder)
            remove_temporaries(folder, *_FILES)
            yield
    except OSError as error:
        reason = "disk full" if disk_full(error) else error.strerror or str(error)
        failed = Path(error.filename or folder)
        if isinstance(error, FileExistsError):
            reason = "expected a folder, got a file; move or rename it"
        elif failed.name in (folder.name, _LOCK):
            failed = first
        raise UserError(
            f"{failed}: cannot be written ({reason}). The runs are kept. Fix the cause and run the "
            "same command again."
        ) from error


def write_locked(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a sweep or search, unless all have their content already.

    Args:
        folder: created if missing; it may be read-only if nothing changes.
        files: content of each file by name.

    Raises:
        UserError: a file cannot be written.
    """
    changed = [name for name, content in files.items() if not has_content(folder / name, content)]
    if not changed:
        return
    with writing(folder, folder / changed[0]):
        for name in changed:
            write_bytes(folder / name, files[name])
