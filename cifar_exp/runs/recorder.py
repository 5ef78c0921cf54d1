"""Saves what a run computes: metrics, logs, checkpoints and its end."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cifar_exp.config.identity import can_be_continued, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.loggers.run_loggers import RunLoggers
from cifar_exp.paths import CHECKPOINTS
from cifar_exp.runs.checkpoint import Checkpoints, State
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.log import logger_of
from cifar_exp.runs.resuming import ids, selected_epochs
from cifar_exp.runs.trust import file_sums
from cifar_exp.signals import Interrupted
from cifar_exp.training.loop import Training
from cifar_exp.training.progress import EpochMetrics, Event


@dataclass(frozen=True)
class ActiveRun:
    """A run whose folder this process has locked.

    Attributes:
        config: its settings.
        folder: its folder.
        prefix_runs: shorter runs that equal the first epochs of this run.
        check: raises GoneError once the folder is no longer the locked one.
    """

    config: RunConfig
    folder: RunFolder
    prefix_runs: tuple[RunConfig, ...]
    check: Callable[[], None]

    @cached_property
    def log(self) -> logging.Logger:
        """Its logger, which writes to train.log."""
        return logger_of(self.config)


class Recorder:
    """Saves metrics and checkpoints of one run. Checkpoints contain `state`, that of run.json."""

    def __init__(
        self, run: ActiveRun, training: Training, checkpoints: Checkpoints, state: dict[str, Any]
    ) -> None:
        self._run = run
        self._training = training
        self._checkpoints = checkpoints
        self._state = state

    def epochs(self, loggers: RunLoggers) -> Iterator[Event]:
        """Train the remaining epochs; metrics are on disk before they are yielded.

        Throw Interrupted into it to stop with a checkpoint.
        """
        run, training = self._run, self._training
        for event in training.run():
            run.check()
            ends_epoch = isinstance(event, EpochMetrics)
            if isinstance(event, EpochMetrics):
                run.folder.append_metrics(event.as_json())
                loggers.epoch(event)
                run.log.info("epoch %d: %s", event.epoch, event.as_json())
            if not training.finished:
                self._checkpoints.save_if_due(
                    training.steps, self._resumable, within_epoch=not ends_epoch
                )
            if ends_epoch and not training.diverged:
                self._save_prefix_runs()
            try:
                yield event
            except Interrupted:
                run.check()
                self._save_if_possible("the steps after the last checkpoint are lost: %s")
                raise

    def check_metrics(self) -> None:
        """Check that metrics.jsonl still has all epochs.

        Raises:
            UserError: the file was changed or deleted during training.
        """
        file, rows = self._run.folder.metrics_file, self._run.folder.read_metrics()
        if rows != [metrics.as_json() for metrics in self._training.history]:
            raise UserError(
                f"{file}: the file was changed during training. "
                "Run the same command again to resume from the last checkpoint."
            )

    def end(self, status: str, balance: dict[str, float]) -> None:
        """Write the end of a complete or diverged run to run.json, and delete its checkpoints.

        The last checkpoint is kept if a longer run can continue from it.

        Args:
            status: "complete" or "diverged".
            balance: result of `class_balance`.
        """
        config, folder, is_complete = self._run.config, self._run.folder, status == "complete"
        keeps_last = (
            is_complete
            and can_be_continued(config)
            and config.keep_checkpoint
            and self._save_if_possible("no last checkpoint, so longer runs cannot continue it: %s")
        )
        end = {"status": status, "ended": now(), "sha256": file_sums(folder.path)}
        epochs = selected_epochs(config, folder.read_metrics()) if is_complete else {}
        folder.write_state(self._state | end | epochs | balance)
        self._checkpoints.keep_last() if keeps_last else folder.remove_checkpoints()
        self._run.log.info("%s after %d epochs", status, len(self._training.history))

    def _resumable(self) -> State:
        return self._training.state_dict() | {"run": self._state}

    def _save_if_possible(self, warning: str) -> bool:
        try:
            self._checkpoints.save_if_new(self._training.steps, self._resumable)
        except (OSError, RuntimeError) as error:
            self._run.log.warning(warning, error)
            return False
        return True

    def _save_prefix_runs(self) -> None:
        """Save a checkpoint for each shorter run that ends with this epoch.

        A run that stops early is equal to all shorter runs that have as many epochs or more.
        """
        epochs = len(self._training.history)
        for config in self._run.prefix_runs:
            ends = config.training.epochs > epochs and self._training.finished
            if config.training.epochs != epochs and not ends:
                continue
            try:
                self._save_prefix_run(config)
            except UserError as error:  # another process trains it, or its folder is damaged
                self._run.log.info("no checkpoint for %s: %s", run_name(config), error)

    def _save_prefix_run(self, config: RunConfig) -> None:
        folder = RunFolder.of(config)
        with folder.lock():
            folder.claim(config)
            if folder.status != "pending":
                return  # it has its own checkpoints
            began = {"status": "pending", "began_as": run_id(self._run.config)}
            state = self._state | ids(config) | began
            checkpoints = Checkpoints(folder.path / CHECKPOINTS, run_id(config), self._run.log)
            checkpoints.save(self._training.steps, self._training.state_dict() | {"run": state})
            folder.write_state(state)


def now() -> str:
    """Return the current time as run.json has it, in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
