"""Logging: of a run to its train.log, and of warnings to the terminal."""

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
    """Show the warnings of this package, and messages that belong to no run.

    Errors are not shown, since they are raised as well.

    Args:
        write: called with one line for each warning.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                write(f"{record.levelname.lower()}: {record.getMessage()}")
            elif record.levelno == logging.INFO and record.name == _package.name:
                write(record.getMessage())

    _package.handlers = [Handler()]
    _package.setLevel(logging.INFO)
    _package.propagate = False


def logger_of(config: RunConfig) -> logging.Logger:
    """Return the logger of a run. Each run has one, since a process can train several in turn."""
    return _package.getChild(run_id(config))


@contextmanager
def log_to(path: Path, config: RunConfig) -> Iterator[None]:
    """Log to a file while the block runs.

    Args:
        path: path of the file, to which lines are appended.
        config: settings of the run. Each run has its own logger, since a process can train several
            in turn. Values of environment variables in the settings are not written.

    Raises:
        OSError: the file cannot be opened.
    """

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return hide(super().format(record), config)

    log = logger_of(config)
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


class _File(logging.FileHandler):
    """Ignores a full disk, which the other files of the run report."""

    def _open(self) -> Any:
        return open_to_append(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Ignore the error."""

    def close(self) -> None:
        """Close the file, also if the last lines cannot be written."""
        with suppress(OSError):
            super().close()
