"""What happens is logged: to a run's train.log, and warnings to the person as well."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import hide
from cifar_exp.files import open_to_append

_package = logging.getLogger("cifar_exp")


def show_warnings(write: Callable[[str], None]) -> None:
    """Show warnings of this package; errors have lines of their own.

    Args:
        write: is given one line each time.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno < logging.ERROR:
                write(f"{record.levelname.lower()}: {record.getMessage()}")

    _package.handlers = [Handler(logging.WARNING)]
    _package.setLevel(logging.INFO)
    _package.propagate = False


@contextmanager
def log_to(path: Path, config: RunConfig) -> Iterator[logging.Logger]:
    """Give a run a logger of its own, which writes to a file while the block runs.

    Args:
        path: of the file; lines are added at its end.
        config: of the run. Its id names the logger, so that runs that take turns keep their lines
            apart; values of environment variables that it names are not written.

    Raises:
        OSError: the file cannot be opened.
    """

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return hide(super().format(record), config)

    log = _package.getChild(run_id(config))
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()


class _File(logging.FileHandler):
    """Leaves it to the run's other files to tell that a disk is full."""

    def _open(self) -> Any:
        return open_to_append(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the line."""

    def close(self) -> None:
        """Close the file, if what is left can be written or not."""
        with suppress(OSError):
            super().close()
