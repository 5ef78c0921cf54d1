"""Runs one configuration: skips what is complete, resumes what is half done, trains the rest."""

import dataclasses
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from cifar_exp.config.identity import config_id, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.dataset import Dataset, check, load
from cifar_exp.errors import UserError
from cifar_exp.runs.checkpoint import Checkpoints
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.outputs import write_outputs
from cifar_exp.runs.progress import RunBar, log_to
from cifar_exp.runs.provenance import provenance
from cifar_exp.runs.stopping import Interrupted, StopRequest
from cifar_exp.runs.tensorboard import TensorBoard
from cifar_exp.training.device import Compute, choose_compute
from cifar_exp.training.loop import Training
from cifar_exp.training.metrics import EpochMetrics

log = logging.getLogger("cifar_exp")


class RunError(UserError):
    """A run ended with an error; its folder has the reason and the traceback."""


class Runner:
    """Trains runs one after another in this process; runs on the same data load it once.

    Args:
        stop: asked after every few steps whether to go on.
        on_epoch: told when a run has finished an epoch.
        bar_position: line of the progress bar, from 0.
    """

    def __init__(
        self,
        stop: StopRequest,
        on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
        bar_position: int = 0,
    ) -> None:
        self._stop = stop
        self._on_epoch = on_epoch
        self._bar_position = bar_position
        self._loaded: tuple[dict[str, Any], Dataset, str] | None = None

    def run(self, config: RunConfig, label: str) -> bool:
        """Bring one run to its end, from wherever it stands.

        Args:
            config: checked settings.
            label: of the progress bar.

        Returns:
            Whether it was trained now; False if it had ended before. Its folder holds the rest.

        Raises:
            RunError: an error ended it; the status is failed, and the same command tries again.
            Interrupted: a signal asked to stop; the same command goes on.
            UserError: the folder belongs to another process or holds other settings.
        """
        folder = RunFolder.of(config)
        with folder.lock():
            folder.claim(config)
            status = folder.status
            if status in ENDED and not config.rerun:
                return False
            if status in ENDED:
                folder.set_aside()
                folder.claim(config)
                shutil.rmtree(_logs(config, folder), ignore_errors=True)  # only a mirror
            with log_to(folder.log_file):
                self._recorded(config, folder, label)
        return True

    def _recorded(self, config: RunConfig, folder: RunFolder, label: str) -> None:
        """Train, and keep in run.json how it ended."""
        state = {"run_id": run_id(config), "config_id": config_id(config), "name": run_name(config)}
        try:
            self._train(config, folder, state, label)
        except Interrupted as interruption:
            log.info("interrupted by %s; the same command goes on", interruption)
            raise
        except Exception as error:
            log.exception("the run failed")
            reason = str(error) if isinstance(error, UserError) else _reason(error, folder)
            previous = folder.read_state()
            folder.write_state(previous | state | {"status": "failed", "reason": reason})
            raise RunError(reason) from error

    def _train(
        self, config: RunConfig, folder: RunFolder, state: dict[str, Any], label: str
    ) -> None:
        before = folder.read_state()
        compute = _as_before(choose_compute(config), before)
        if compute.threads:
            torch.set_num_threads(compute.threads)
        dataset, digest = self._dataset(config)
        training = Training(config, dataset, compute)
        checkpoints = Checkpoints(folder.path / "checkpoints", run_id(config))
        _restore(training, checkpoints, folder, digest)
        state |= {
            "status": "running",
            "started": before.get("started", _now()),
            "compute": dataclasses.asdict(compute) | {"device": compute.device.type},
            "data_sha256": digest,
            "provenance": provenance(),
        }
        folder.write_state(state)
        log.info("%s on %s: %s", config.model.name, config.data.name, compute)
        self._epochs(training, folder, checkpoints, label)
        write_outputs(folder.path, training, dataset)
        status = "diverged" if training.diverged else "complete"
        folder.write_state(state | {"status": status, "ended": _now()} | _summary(training))
        checkpoints.remove()
        log.info("%s after %d epochs", status, len(training.history))

    def _epochs(
        self, training: Training, folder: RunFolder, checkpoints: Checkpoints, label: str
    ) -> None:
        """Drive the loop; keep every epoch's metrics before the next one starts."""
        epochs = len(training.history)
        mirror = (
            TensorBoard(_logs(training.config, folder), epochs + 1)
            if training.config.logger.tensorboard
            else None
        )
        steps = epochs * training.batches.steps_per_epoch
        bar = RunBar(label, steps, training.total_steps, self._bar_position)
        try:
            for event in training.run():
                bar.show(event)
                if isinstance(event, EpochMetrics):
                    folder.append_metrics(event.as_json())
                    if mirror:
                        mirror.write(event)
                    if not training.finished:
                        checkpoints.save_if_due(event.epoch, training.state_dict())
                    log.info("epoch %d: %s", event.epoch, event.as_json())
                    self._on_epoch(event)
                self._stop()
        finally:
            bar.close()
            if mirror:
                mirror.close()

    def _dataset(self, config: RunConfig) -> tuple[Dataset, str]:
        key = config.data.model_dump(exclude={"batch_size", "augment", "normalize"})
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees the last one before the next is loaded
            dataset = load(config.data, Path(config.paths.cache))
            self._loaded = (key, dataset, dataset.digest())
        return self._loaded[1], self._loaded[2]


def _logs(config: RunConfig, folder: RunFolder) -> Path:
    return Path(config.paths.logs) / folder.path.name


def preflight(config: RunConfig) -> None:
    """Find what would stop a run, before anything is trained.

    Raises:
        UserError: there is no such device, no data, or a folder cannot be written.
    """
    choose_compute(config)
    check(config.data)
    for folder in (config.paths.results, config.paths.logs):
        _check_writable(Path(folder))


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written ({error.strerror}); "
            "choose others with paths.results=FOLDER and paths.logs=FOLDER"
        ) from error


def _as_before(chosen: Compute, before: dict[str, Any]) -> Compute:
    """Keep the precision and threads a resumed run began with: the bits depend on them."""
    recorded = before.get("compute")
    if recorded is None or recorded["device"] != chosen.device.type:
        if recorded is not None:
            log.warning("began on %s, goes on on %s", recorded["device"], chosen.device.type)
        return chosen
    return Compute(chosen.device, recorded["precision"], recorded["threads"])


def _restore(
    training: Training, checkpoints: Checkpoints, folder: RunFolder, data_sha256: str
) -> None:
    """Go back to the last checkpoint, and let the metrics end where it does."""
    saved = checkpoints.load_latest()
    if saved is not None:
        if folder.read_state().get("data_sha256") != data_sha256:
            raise UserError(
                f"{folder.path}: the data has changed since this run began; "
                "move the folder away to train anew"
            )
        training.load_state_dict(saved)
        log.info("goes on after epoch %d", len(training.history))
    folder.write_metrics([metrics.as_json() for metrics in training.history])


def _summary(training: Training) -> dict[str, Any]:
    history = training.history
    accuracies = [m.test_accuracy for m in history if m.test_accuracy == m.test_accuracy]
    return {
        "epochs": len(history),
        "test_accuracy": history[-1].as_json()["test_accuracy"],
        "best_test_accuracy": max(accuracies, default=None),
        "seconds": sum(metrics.train_seconds + metrics.test_seconds for metrics in history),
        "peak_memory_bytes": max(metrics.peak_memory_bytes for metrics in history),
    }


def _reason(error: Exception, folder: RunFolder) -> str:
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first_line} (traceback in {folder.log_file})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
