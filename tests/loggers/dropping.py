"""Processes that log to Trackio: one in which it drops epochs, and one that logs a run again."""

import os
import sqlite3
from pathlib import Path

from cifar_exp.config.schema import Logger, RunConfig
from cifar_exp.loggers.base import LoggedRun
from tests.made import an_epoch


def log_two_epochs_while_locked(folder: Path) -> None:
    """Log to Trackio, which drops its first write because the database is locked."""
    os.environ["TRACKIO_DIR"] = str(folder)  # read when Trackio is imported
    from trackio.sqlite_storage import SQLiteStorage

    from cifar_exp.loggers.trackio import Trackio

    write, calls = SQLiteStorage.bulk_log, []

    def locked_at_first(*args: object, **named: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise sqlite3.OperationalError("database is locked")
        write(*args, **named)

    SQLiteStorage.bulk_log = locked_at_first
    run_logger = Trackio()
    run_logger.begin(LoggedRun(RunConfig(logger=Logger(trackio=True)), {}, (), Path()))
    for epoch in (1, 2):
        run_logger.epoch(an_epoch(epoch))
    run_logger.end("complete", {})
    assert len(calls) == 2


def log_starts(folder: Path) -> None:
    """Log two epochs of a run that is interrupted after the first, and a repetition of the run."""
    os.environ["TRACKIO_DIR"] = str(folder)
    from cifar_exp.loggers.trackio import Trackio

    config, first = RunConfig(logger=Logger(trackio=True)), an_epoch(1)
    for started, history, epoch in (("a", (), 1), ("a", (first,), 2), ("b", (), 1)):
        run_logger = Trackio()
        run_logger.begin(LoggedRun(config, {}, history, Path(), started))
        run_logger.epoch(an_epoch(epoch))
        run_logger.end("complete", {})
