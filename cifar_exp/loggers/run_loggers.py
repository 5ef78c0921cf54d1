"""All loggers of a run, and all loggers of a process."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import Logger, RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.loggers.background import BackgroundLogger, LoggerThread
from cifar_exp.loggers.base import IMAGE_TAGS, Kind, LoggedRun, RunLogger
from cifar_exp.loggers.tensorboard import TensorBoard, needs_events
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics

# How long a process waits at its end for services.
SECONDS_TO_FINISH = 30.0


def kinds(logger: Logger) -> list[Kind]:
    """Return the kinds of loggers that are enabled, in the order of their settings."""
    return [import_module(f"cifar_exp.loggers.{name}").LOGGER for name in logger.chosen]


def pages(configs: Iterable[RunConfig], trained: bool = True) -> str:
    """Return how to open the pages of the loggers of some runs, a line for each logger.

    Args:
        configs: settings of the runs.
        trained: whether one of them was trained; services get no data of finished runs.
    """
    lines = {
        f"{kind.title}: {_page(kind)}".format(
            logs=shlex.quote(str(as_path(config.paths.logs))), project=config.logger.project
        )
        for config in configs
        for kind in kinds(config.logger)
        if trained or not kind.is_service
    }
    return "".join(f"{line}\n" for line in sorted(lines))


def _page(kind: Kind) -> str:
    server = next((name for name in kind.servers if os.environ.get(name)), None)
    return f"the server of {server}" if server else kind.page


def in_group(config: RunConfig, group: str) -> RunConfig:
    """Set the group of a run if a service is enabled and no group is set.

    Args:
        config: settings of the run.
        group: name of the group.

    Returns:
        The settings, changed if necessary.
    """
    logger = config.logger
    if logger.group or not any(kind.is_service for kind in kinds(logger)):
        return config
    return config.model_copy(update={"logger": logger.model_copy(update={"group": group})})


class RunLoggers:
    """All loggers of one run.

    Args:
        run_loggers: loggers that have begun the run.
        folder: folder of the run.

    Raises:
        OSError: TensorBoard's event file cannot be written; both methods may raise it.
    """

    def __init__(self, run_loggers: list[RunLogger], folder: Path) -> None:
        self._loggers = run_loggers
        self._folder = folder

    @property
    def has_more(self) -> bool:
        """Whether some loggers have not been ended."""
        return bool(self._loggers)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Log an epoch."""
        for run_logger in self._loggers:
            run_logger.epoch(metrics)

    def end(self, status: str) -> None:
        """Log the end of a run and the figures in its folder.

        After an OSError, a second call ends the remaining loggers.

        Args:
            status: see `RunLogger.end`.
        """
        paths = {tag: self._folder / name for name, tag in IMAGE_TAGS.items()}
        images = {tag: path for tag, path in paths.items() if path.is_file()}
        while self._loggers:
            self._loggers.pop(0).end(status, images)


def restore_events(
    config: RunConfig, folder: Path, rows: Sequence[dict[str, Any]], state: Mapping[str, Any]
) -> bool:
    """Write the event files of a run that has ended, if they are missing.

    Args:
        config: settings of the run, with the current logger settings.
        folder: folder of the run, locked by this process.
        rows: rows of its metrics.jsonl.
        state: its run.json.

    Returns:
        Whether event files were written.

    Raises:
        OSError: they cannot be written.
    """
    if not rows or not needs_events(config):
        return False
    history = tuple(EpochMetrics.from_json(row, config.data.evaluated_on) for row in rows)
    run_logger = TensorBoard()
    run_logger.begin(LoggedRun(config, state.get("provenance", {}), history, folder))
    RunLoggers([run_logger], folder).end(str(state["status"]))
    return True


class ProcessLoggers:
    """The loggers of all runs of this process. Each service has one thread."""

    def __init__(self) -> None:
        self._threads: dict[str, LoggerThread] = {}

    @contextmanager
    def following(self, run: LoggedRun) -> Iterator[RunLoggers]:
        """Log a run during a block; if the block raises, the run has failed or was interrupted.

        Args:
            run: run to log.
        """
        run_loggers = list(self._of(run.config.logger))
        for run_logger in run_loggers:
            run_logger.begin(run)
        all_loggers = RunLoggers(run_loggers, run.folder)
        try:
            yield all_loggers
        except BaseException as error:
            stopped = isinstance(error, Interrupted | GeneratorExit)
            # a full disk or a lack of memory is already reported by the raised error
            while all_loggers.has_more:
                with suppress(OSError, MemoryError, ImportError):
                    all_loggers.end("interrupted" if stopped else "failed")
            raise

    def _of(self, logger: Logger) -> Iterator[RunLogger]:
        for kind in kinds(logger):
            run_logger = kind.make()
            if kind.is_service:
                run_logger = BackgroundLogger(run_logger, self._thread(kind.title))
            yield run_logger

    def _thread(self, name: str) -> LoggerThread:
        if name not in self._threads:
            self._threads[name] = LoggerThread(name)
        return self._threads[name]

    def close(self) -> None:
        """Wait up to 30 s for each service; no run may be logged afterwards."""
        for thread in self._threads.values():
            thread.close(SECONDS_TO_FINISH)
