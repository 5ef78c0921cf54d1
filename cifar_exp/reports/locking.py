"""Writing into the folder of a sweep, which several processes may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cifar_exp.errors import UserError
from cifar_exp.files import disk_full, refuse_links, remove_temporaries
from cifar_exp.paths import FIGURES, REPORT_PAGE, REPORT_TEXT, SEARCH_FILE, SWEEP_FILE, TABLE_FILE

# What is written into the folder of a sweep or search; anything else there is the user's.
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
    """Hold the folder for one writer; another waits here, which never takes long.

    Args:
        folder: of a sweep, there already.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with FileLock(folder / ".lock"):
            refuse_links(folder / FIGURES, folder)
            remove_temporaries(folder, *_FILES)
            yield
    except OSError as error:
        reason = "disk full" if disk_full(error) else error.strerror or str(error)
        place = Path(error.filename).parent if error.filename else folder
        raise UserError(
            f"{reason}: cannot write into {place}; the runs are kept, and once that is mended "
            "the same command goes on"
        ) from error
