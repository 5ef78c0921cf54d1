"""Exclusive write access to the folder of a sweep or search."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cifar_exp.errors import UserError
from cifar_exp.files import disk_full, refuse_links, remove_temporaries
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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock the folder of a sweep or search; other writers wait, a few seconds at most.

    Args:
        folder: an existing folder.

    Raises:
        UserError: the folder is not writable.
    """
    try:
        with FileLock(folder / ".lock"):
            refuse_links(folder / FIGURES, folder)
            remove_temporaries(folder, *_FILES)
            yield
    except OSError as error:
        reason = "disk full" if disk_full(error) else error.strerror or str(error)
        failed = Path(error.filename).parent if error.filename else folder
        raise UserError(
            f"{failed}: cannot write into the folder ({reason}). The runs are kept. Fix the cause "
            "and run the same command again."
        ) from error
