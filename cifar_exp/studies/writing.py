"""Writing into the folder of a sweep, which several processes may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from cifar_exp.errors import UserError
from cifar_exp.files import is_disk_full, remove_temporaries


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
            remove_temporaries(folder)
            yield
    except OSError as error:
        reason = "disk full" if is_disk_full(error) else error.strerror or str(error)
        raise UserError(
            f"{reason}: cannot write into {folder}; the runs are kept, and once that is mended "
            "the same command goes on"
        ) from error
