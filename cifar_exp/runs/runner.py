"""Runs one configuration: skips what is complete, resumes what is half done, trains the rest."""

import dataclasses
import logging
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch

from cifar_exp.config.identity import config_id, run_id, run_name
from cifar_exp.config.paths import as_path, hide
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset, check, load
from cifar_exp.errors import UserError
from cifar_exp.runs.checkpoint import Checkpoints
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.runs.log import log_to
from cifar_exp.runs.outputs import write_outputs
from cifar_exp.runs.provenance import provenance
from cifar_exp.runs.stopping import Interrupted
from cifar_exp.runs.tensorboard import TensorBoard
from cifar_exp.training.device import Compute, choose_compute
from cifar_exp.training.events import EpochMetrics, Progress
from cifar_exp.training.loop import Training


class RunError(UserError):
    """A run ended with an error; its folder has the reason and the traceback."""


class Runner:
    """Trains runs in this process, one after another or taking turns.

    Runs on the same data share it, in memory and on the device.

    Args:
        threads: of the CPU for each run; None leaves PyTorch's choice.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._loaded: tuple[dict[str, Any], _Loaded] | None = None

    def run(
        self, config: RunConfig, beginnings: Sequence[RunConfig] = ()
    ) -> Generator[Progress | EpochMetrics, None, bool]:
        """Bring one run to its end, from wherever it stands, a few steps at a time.

        Throw Interrupted into it to stop it at a yield; the same command goes on there.

        Args:
            config: checked settings.
            beginnings: shorter runs that equal the first epochs of this one: each is handed a
                checkpoint when this run has come to its last epoch.

        Yields:
            Progress every few steps, and the metrics of each epoch once they are on disk.

        Returns:
            Whether it was trained now; False if it had ended before. Its folder holds the rest.

        Raises:
            RunError: an error ended it; the status is failed, and the same command tries again.
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
            with log_to(folder.log_file, config) as log:
                yield from self._recorded(_Run(config, folder, log, tuple(beginnings)))
        return True

    def _recorded(self, run: "_Run") -> Iterator[Progress | EpochMetrics]:
        """Train, and keep in run.json how it ended."""
        try:
            yield from self._train(run)
        except Interrupted as interruption:
            run.log.info("interrupted by %s; the same command goes on", interruption)
            raise
        except Exception as error:
            run.log.exception("the run failed")
            reason = str(error) if isinstance(error, UserError) else _reason(error, run.folder)
            reason = hide(reason, run.config)
            state = run.folder.read_state() | run.ids | {"status": "failed", "reason": reason}
            run.folder.write_state(state)
            raise RunError(reason) from error

    def _train(self, run: "_Run") -> Iterator[Progress | EpochMetrics]:
        before = run.folder.read_state()
        compute = _as_before(choose_compute(run.config, self._threads), before, run.log)
        if compute.threads:
            torch.set_num_threads(compute.threads)
        loaded = self._data(run.config, compute)
        training = Training(run.config, loaded.images, loaded.dataset.classes, compute)
        checkpoints = run.checkpoints()
        _restore(training, checkpoints, run, loaded.sha256)
        state = run.ids | {
            "status": "running",
            "started": before.get("started", _now()),
            "compute": dataclasses.asdict(compute) | {"device": compute.device.type},
            "data_sha256": loaded.sha256,
            "provenance": provenance(),
        }
        if "began_as" in before:
            state["began_as"] = before["began_as"]
        run.folder.write_state(state)
        run.log.info("%s on %s: %s", run.config.model.name, run.config.data.name, compute)
        yield from _epochs(training, run, checkpoints, state)
        write_outputs(run.folder.path, training, loaded.dataset)
        status = "diverged" if training.diverged else "complete"
        run.folder.write_state(state | {"status": status, "ended": _now()} | _summary(training))
        checkpoints.remove()
        run.log.info("%s after %d epochs", status, len(training.history))

    def _data(self, config: RunConfig, compute: Compute) -> "_Loaded":
        names_source = {"name", "root", "image_size", "train_size", "test_size"}
        limits = {"limit_train", "limit_test"}
        key = config.data.model_dump(include=names_source | limits)
        key["device"] = str(compute.device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees the last one before the next is loaded
            dataset = load(config.data, as_path(config.paths.cache))
            images = DeviceImages(dataset, compute.device)
            self._loaded = (key, _Loaded(dataset, dataset.digest(), images))
        return self._loaded[1]


@dataclass(frozen=True)
class _Run:
    config: RunConfig
    folder: RunFolder
    log: logging.Logger
    beginnings: tuple[RunConfig, ...]

    @property
    def ids(self) -> dict[str, Any]:
        return _ids(self.config)

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder.path / "checkpoints", run_id(self.config), self.log)


@dataclass(frozen=True)
class _Loaded:
    dataset: Dataset
    sha256: str
    images: DeviceImages


def _ids(config: RunConfig) -> dict[str, Any]:
    return {"run_id": run_id(config), "config_id": config_id(config), "name": run_name(config)}


def _epochs(
    training: Training, run: _Run, checkpoints: Checkpoints, state: dict[str, Any]
) -> Iterator[Progress | EpochMetrics]:
    """Drive the loop; keep every epoch's metrics before they are told."""
    with _mirror(training, run, handed_over="began_as" in state) as mirror:
        for event in training.run():
            if isinstance(event, EpochMetrics):
                run.folder.append_metrics(event.as_json())
                mirror.write(event)
                if not training.finished:
                    checkpoints.save_if_due(event.epoch, training.state_dict())
                    _hand_over(training, run, state)
                run.log.info("epoch %d: %s", event.epoch, event.as_json())
            yield event


def _mirror(training: Training, run: _Run, handed_over: bool) -> TensorBoard:
    """Return the event files of the run, where it wants some."""
    folder = _logs(run.config, run.folder) if run.config.logger.tensorboard else None
    mirror = TensorBoard(folder, 1 if handed_over else len(training.history) + 1)
    if handed_over:  # its epochs were trained elsewhere
        for metrics in training.history:
            mirror.write(metrics)
    return mirror


def _hand_over(training: Training, run: _Run, state: dict[str, Any]) -> None:
    """Give shorter runs that end with this epoch the state they would have come to."""
    for config in run.beginnings:
        folder = RunFolder.of(config)
        if config.training.epochs != len(training.history):
            continue
        try:
            with folder.lock():
                folder.claim(config)
                if folder.status != "pending":
                    continue  # has been begun already, and goes on from its own checkpoint
                checkpoints = Checkpoints(folder.path / "checkpoints", run_id(config), run.log)
                checkpoints.save(config.training.epochs, training.state_dict())
                began = {"status": "pending", "began_as": run_id(run.config)}
                folder.write_state(state | _ids(config) | began)
        except BusyError:
            run.log.info("%s trains elsewhere", run_name(config))


def _logs(config: RunConfig, folder: RunFolder) -> Path:
    return as_path(config.paths.logs) / folder.path.name


def preflight(config: RunConfig) -> None:
    """Find what would stop a run, before anything is trained.

    Raises:
        UserError: there is no such device, no data, or a folder cannot be written.
    """
    choose_compute(config)
    check(config.data)
    for folder in (config.paths.results, config.paths.logs):
        _check_writable(as_path(folder))


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


def _as_before(chosen: Compute, before: dict[str, Any], log: logging.Logger) -> Compute:
    """Keep the precision and threads a resumed run began with: the bits depend on them."""
    recorded = before.get("compute")
    if recorded is None or recorded["device"] != chosen.device.type:
        if recorded is not None:
            log.warning("began on %s, goes on on %s", recorded["device"], chosen.device.type)
        return chosen
    return Compute(chosen.device, recorded["precision"], recorded["threads"])


def _restore(training: Training, checkpoints: Checkpoints, run: _Run, data_sha256: str) -> None:
    """Go back to the last checkpoint, and let the metrics end where it does."""
    saved = checkpoints.load_latest()
    if saved is not None:
        if run.folder.read_state().get("data_sha256") != data_sha256:
            raise UserError(
                f"{run.folder.path}: the data has changed since this run began; "
                "move the folder away to train anew"
            )
        training.load_state_dict(saved)
        run.log.info("goes on after epoch %d", len(training.history))
    run.folder.write_metrics([metrics.as_json() for metrics in training.history])


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
