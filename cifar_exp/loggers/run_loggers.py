"""The trackers that a run's settings ask for, as one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import Logger, RunConfig
from cifar_exp.loggers.background import Background, InBackground
from cifar_exp.loggers.base import IMAGE_TAGS, Kind, LoggedRun, RunLogger
from cifar_exp.loggers.tensorboard import TensorBoard, needs_events
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics

# A process that ends waits so long for what trackers have not sent.
SECONDS_TO_FINISH = 10.0


def kinds(logger: Logger) -> list[Kind]:
    """Return the kinds of loggers that are on, in the order of their settings."""
    return [import_module(f"cifar_exp.loggers.{name}").LOGGER for name in logger.chosen]


def in_group(config: RunConfig, group: str) -> RunConfig:
    """Return the settings with a group where a service is on and none is given."""
    logger = config.logger
    if logger.group or not any(kind.is_service for kind in kinds(logger)):
        return config
    return config.model_copy(update={"logger": logger.model_copy(update={"group": group})})


class RunLoggers:
    """All trackers of one run. What TensorBoard cannot write raises OSError."""

    def __init__(self, run_loggers: list[RunLogger], folder: Path) -> None:
        self._loggers = run_loggers
        self._folder = folder

    def epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch."""
        for run_logger in self._loggers:
            run_logger.epoch(metrics)

    def end(self, status: str) -> None:
        """End, with the pictures that are in the run's folder. Args: status: as in run.json."""
        paths = {tag: self._folder / name for name, tag in IMAGE_TAGS.items()}
        images = {tag: path for tag, path in paths.items() if path.is_file()}  # no pipe
        for run_logger in self._loggers:
            run_logger.end(status, images)


def restore_events(
    config: RunConfig, folder: Path, rows: Sequence[dict[str, Any]], state: Mapping[str, Any]
) -> bool:
    """Write the event files of a run that has ended, where they are gone.

    Args:
        config: of the run, with the logger that is asked for now.
        folder: of the run, locked.
        rows: of its metrics.jsonl, which hold all that event files show.
        state: its run.json.

    Returns:
        Whether they were gone.

    Raises:
        OSError: they cannot be written.
    """
    if not rows or not needs_events(config):
        return False
    history = tuple(EpochMetrics.from_json(row, config.data.evaluated_on) for row in rows)
    run_logger = TensorBoard()
    run_logger.begin(LoggedRun(config, state.get("provenance", {}), history))
    RunLoggers([run_logger], folder).end(str(state["status"]))
    return True


class ProcessLoggers:
    """The trackers of all runs of this process; each kind of service has a thread."""

    def __init__(self) -> None:
        self._backgrounds: dict[str, Background] = {}

    @contextmanager
    def following(self, run: LoggedRun, folder: Path) -> Iterator[RunLoggers]:
        """Show a run; if the block fails, that is how it ended.

        Args:
            run: its settings and provenance, and the epochs so far.
            folder: of the run.
        """
        run_loggers = list(self._of(run.config.logger))
        for run_logger in run_loggers:
            run_logger.begin(run)
        mirror = RunLoggers(run_loggers, folder)
        try:
            yield mirror
        except BaseException as error:
            stopped = isinstance(error, Interrupted | GeneratorExit)
            # on a full disk or out of memory, which the error that is raised says already
            with suppress(OSError, MemoryError, ImportError):
                mirror.end("interrupted" if stopped else "failed")
            raise

    def _of(self, logger: Logger) -> Iterator[RunLogger]:
        for kind in kinds(logger):
            run_logger = kind.make()
            is_service = kind.is_service
            yield (
                InBackground(run_logger, self._background(kind.title)) if is_service else run_logger
            )

    def _background(self, name: str) -> Background:
        if name not in self._backgrounds:
            self._backgrounds[name] = Background(name)
        return self._backgrounds[name]

    def close(self) -> None:
        """Wait a little for what has not been sent; no run begins afterwards."""
        for background in self._backgrounds.values():
            background.close(SECONDS_TO_FINISH)
