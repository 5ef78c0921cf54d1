"""TensorBoard: curves, the HParams page, images and texts of a run."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.files import refuse_links
from cifar_exp.loggers.base import (
    CONFIG_TAG,
    PROVENANCE_TAG,
    Kind,
    LoggedRun,
    scalars,
    short_name,
)
from cifar_exp.loggers.hparams import values
from cifar_exp.training.progress import EpochMetrics

if TYPE_CHECKING:  # TensorBoard is imported after the first epoch
    from cifar_exp.loggers.event_file import EventFile

_PREFIX = "events.out.tfevents"
# The file of how the run ended is separate and is removed when the run is resumed, since
# TensorBoard uses the first end that it reads.
_END = ".end"


def event_folder(config: RunConfig) -> Path:
    """Return the folder of a run's event files, an existing one or a new name."""
    logs = as_path(config.paths.logs)
    usual = logs / short_name(config)  # others are renamed folders or copies
    if usual.exists():  # listing all folders for each run would be slow
        return usual
    found = sorted(logs.glob(f"*-{run_id(config)}")) if logs.is_dir() else []
    return found[0] if found else usual


def needs_events(config: RunConfig) -> bool:
    """Return whether TensorBoard is enabled and lacks the end of a run that has ended."""
    return config.logger.tensorboard and not any(event_folder(config).glob(f"{_PREFIX}*{_END}"))


class TensorBoard:
    """Writes the event files of a run. All methods but `begin` may raise OSError."""

    def __init__(self) -> None:
        self._run: LoggedRun | None = None
        self._events: EventFile | None = None
        self._last_epoch = 0

    def begin(self, run: LoggedRun) -> None:
        """See `RunLogger`; the event file is created with the first epoch."""
        self._run = run
        self._last_epoch = len(run.history)

    def epoch(self, metrics: EpochMetrics) -> None:
        """See `RunLogger`."""
        self._last_epoch = metrics.epoch
        self._open().add_scalars(scalars(metrics), metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """See `RunLogger`."""
        from cifar_exp.loggers.event_file import EventFile, session_end

        with self._open() as events:
            for tag, path in images.items():
                events.add_image(tag, path.read_bytes(), self._last_epoch)
        folder = events.path.parent
        # the same command restores a folder that was deleted during training
        if status != "interrupted" and folder.exists():
            with EventFile(folder / f"{_next_name(folder)}{_END}") as last:
                last.add(session_end(succeeded=status == "complete"))

    def _open(self) -> "EventFile":
        if self._events is None:
            assert self._run is not None
            self._begin_file(self._run)
        assert self._events is not None
        return self._events

    def _begin_file(self, run: LoggedRun) -> None:
        """Create the next event file, with the history: earlier files may lack some epochs."""
        from cifar_exp.loggers.event_file import EventFile

        folder = event_folder(run.config)
        refuse_links(folder, folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        earlier = list(folder.glob(f"{_PREFIX}*"))
        self._events = EventFile(folder / _next_name(folder))
        for end in folder.glob(f"{_PREFIX}*{_END}"):
            end.unlink()
        if earlier:
            self._events.hide_from(1)
        _describe(run, self._events)
        for metrics in run.history:
            self._events.add_scalars(scalars(metrics), metrics.epoch)


def _describe(run: LoggedRun, events: "EventFile") -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    # The page averages over the runs of a group, which differ in the seed. Its name is the id of
    # the run with seed 0, which `ls` lists.
    first = run.config.model_copy(update={"seed": 0})
    events.add(hparams_pb(values(run.config), trial_id=run_id(first)))
    events.add_text(CONFIG_TAG, run.as_yaml)
    provenance = yaml.safe_dump(run.provenance, sort_keys=False, allow_unicode=True)
    events.add_text(PROVENANCE_TAG, provenance, step=len(run.history))


def _next_name(folder: Path) -> str:
    """Return a file name that sorts after those of earlier files, even if the clock was set back.

    TensorBoard reads event files in the order of their names, which contain the time in seconds.
    """
    found = [re.match(rf"{_PREFIX}\.(\d+)", name) for name in os.listdir(folder)]
    latest = max((int(match[1]) for match in found if match), default=0)
    return f"{_PREFIX}.{max(int(time.time()), latest + 1):010d}.{os.getpid()}"


LOGGER = Kind(
    TensorBoard,
    title="TensorBoard",
    package="tensorboard",
    page="tensorboard --logdir={logs}",
    is_service=False,
)
