"""What happens is logged: to a run's train.log, and warnings to the person as well."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cifar_exp.config.identity import run_id
from cifar_exp.config.paths import hide
from cifar_exp.config.schema import RunConfig

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
            apart.
    """

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return hide(super().format(record), config)

    log = _package.getChild(run_id(config))
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()
