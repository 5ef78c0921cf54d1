"""Runs one configuration: skips finished runs, resumes interrupted ones, trains new ones."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from cifar_exp.config.identity import model_and_data, run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path, hide
from cifar_exp.files import remove_files
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.run_loggers import ProcessLoggers, restore_events
from cifar_exp.loggers.tensorboard import event_folder, needs_events
from cifar_exp.out_of_memory import free_memory, keep_reserve
from cifar_exp.paths import CHECKPOINTS
from cifar_exp.runs.artifacts import write_outputs
from cifar_exp.runs.checkpoint import Checkpoints, State
from cifar_exp.runs.failures import CannotResumeError, run_error
from cifar_exp.runs.folder import ENDED, BusyError, GoneError, RunFolder
from cifar_exp.runs.initial_weights import initial_weights
from cifar_exp.runs.log import log_to
from cifar_exp.runs.provenance import earlier_parts, provenance
from cifar_exp.runs.recorder import ActiveRun, Recorder, now
from cifar_exp.runs.resuming import (
    compute_as_before,
    continued,
    custom_code_digests,
    ids,
    last_state,
    rebuild_state,
    restore,
)
from cifar_exp.signals import Interrupted
from cifar_exp.training.device import Compute, choose_compute
from cifar_exp.training.loop import Training
from cifar_exp.training.process_group import ALONE, OthersEndedError, ProcessGroup
from cifar_exp.training.progress import Event, Events

_log = logging.getLogger("cifar_exp")


class Runner:
    """Trains runs in this process, one after another or a few steps of each in turn.

    Runs on the same data share it in memory and on the device.

    Args:
        threads: CPU threads for each run; None uses PyTorch's default.
        processes: processes that train a run together; only rank 0 writes files.
    """

    def __init__(self, threads: int | None = None, processes: ProcessGroup = ALONE) -> None:
        self._threads = threads
        self._processes = processes
        self._loaded: tuple[dict[str, Any], _Loaded] | None = None
        self._loggers = ProcessLoggers()

    def close(self) -> None:
        """Wait a few seconds for loggers that are still sending; call it after the last run."""
        self._loggers.close()

    def run(self, config: RunConfig, prefix_runs: Sequence[RunConfig] = ()) -> Events:
        """Train a run to its end, or from its last checkpoint if it was interrupted.

        Throw Interrupted into the generator to stop with a checkpoint.

        Args:
            config: checked settings.
            prefix_runs: shorter runs that equal the first epochs of this run. Each gets a
                checkpoint when this run has trained its last epoch.

        Yields:
            Progress every few steps, and the metrics of each epoch once they are on disk.

        Returns:
            Whether it was trained; False if it had finished before. Results are in its folder.

        Raises:
            RunError: the run failed. Its status is `failed`; running it again resumes it.
            UserError: another process trains the run, or its folder has other settings.
        """
        folder = RunFolder.of(config)
        try:
            keep_reserve()
            if self.finished(config, folder):  # also on a read-only disk
                folder.tidy_if_free()
                if needs_events(config):
                    _restore_events(config, folder)
                self._processes.broadcast(None)
                return False
            with folder.lock() as check:
                run = ActiveRun(config, folder, tuple(prefix_runs), check)
                return (yield from self._locked(run))
        except (OSError, MemoryError) as error:  # before run.json could be written
            free_memory(error)
            raise run_error(error, config, folder) from error

    @staticmethod
    def finished(config: RunConfig, folder: RunFolder) -> bool:
        """Return whether a run has finished and is not trained again.

        Args:
            config: settings of the run; `rerun=true` trains it again.
            folder: folder of the run.

        Raises:
            UserError: the folder has other settings.
        """
        if folder.status not in ENDED or config.rerun:
            return False
        folder.claim(config)
        return True

    def _locked(self, run: ActiveRun) -> Events:
        config, folder = run.config, run.folder
        folder.claim(config)
        folder.tidy()
        rebuild_state(config, folder)
        if folder.status in ENDED and not config.rerun:
            self._processes.broadcast(None)
            return False
        if folder.status in (*ENDED, "damaged") and config.rerun:
            _set_aside(config, folder)
        try:
            yield from self._recorded(run)
        except CannotResumeError:
            if config.resume != "fresh":
                raise
            _set_aside(config, folder)
            yield from self._recorded(run)
        return True

    def _recorded(self, run: ActiveRun) -> Iterator[Event]:
        """Train a run, and write the reason to run.json if it fails."""
        config, folder, log = run.config, run.folder, run.log
        if problem := folder.problem:
            raise CannotResumeError(folder, problem)
        with log_to(folder.log_file, config):
            try:
                yield from self._train(run)
                return
            except Interrupted as interruption:
                log.info("interrupted by %s; run the same command again to resume", interruption)
                raise
            except CannotResumeError as error:  # its files can still be restored
                log.error("%s", error)
                raise
            except Exception as error:
                free_memory(error)
                log.exception("the run failed")
                others_ended = isinstance(error, OthersEndedError)
                failure = error if others_ended else run_error(error, config, folder)
            try:
                run.check()
                folder.fail(ids(config), hide(str(failure), config))
            except GoneError as gone:  # the cause of the failure
                failure = gone
            except OSError:  # the disk is full
                pass
            raise failure

    def _train(self, run: ActiveRun) -> Iterator[Event]:
        config, folder, log = run.config, run.folder, run.log
        checkpoints = Checkpoints(folder.path / CHECKPOINTS, run_id(config), log)
        saved = last_state(folder, checkpoints)
        compute = self.compute(config)
        loaded = self._data(config, compute)
        custom_code = custom_code_digests(config, saved, log)
        is_new = saved is None and not config.rerun
        if is_new:
            saved = continued(config, checkpoints, loaded.sha256, custom_code, log)
        before = saved["run"] if saved else folder.read_state()
        compute = compute_as_before(compute, before, log)
        training = self._training(config, loaded, compute, saved)
        known = provenance()  # takes a while, in which metrics.jsonl and run.json would differ
        restore(training, saved, folder, loaded.sha256, log)
        self._processes.broadcast((compute.precision, compute.threads, loaded.sha256, saved))
        state = ids(config) | {
            "status": "running",
            "started": before.get("started", now()),
            "compute": dataclasses.asdict(compute) | {"device": compute.device.type},
            "data_sha256": loaded.sha256,
            "evaluated_images": len(loaded.dataset.test),
            "shared_images": loaded.dataset.shared,
            "own_code_sha256": custom_code,
            "provenance": known,
        }
        if saved and (earlier := earlier_parts(before, state)):
            state["earlier"] = earlier
        if "began_as" in before:
            state["began_as"] = before["began_as"]
        folder.write_state(state)
        log.info("%s: %s", model_and_data(config), compute)
        recorder = Recorder(run, training, checkpoints, state)
        history = tuple(training.history)
        logged = LoggedRun(config, state["provenance"], history, folder.path, state["started"])
        with self._loggers.following(logged) as loggers:
            try:
                if is_new and self._processes.alone:  # else all processes must yield the same
                    yield from history
                yield from recorder.epochs(loggers)
                recorder.check_metrics()
                folder.claim(config)  # config.yaml may have been deleted or edited
                with training.kept_weights():
                    balance = write_outputs(folder.path, training, loaded.dataset)
                run.check()
            except Exception as error:
                free_memory(error)  # the loggers need some
                raise
            status = "diverged" if training.diverged else "complete"
            loggers.end(status)
        recorder.end(status, balance)

    def take_part(self, config: RunConfig) -> Events:
        """Train a run together with rank 0, which alone writes files.

        Args:
            config: checked settings, the same in all processes.

        Yields:
            The same events as `run` in rank 0.

        Returns:
            Whether the run was trained; False if it had finished before.

        Raises:
            UserError: the images differ from those of rank 0, or another process has ended.
        """
        begun = self._processes.broadcast()
        if begun is None:
            return False
        precision, threads, sha256, saved = begun
        compute = replace(self.compute(config), precision=precision, threads=threads)
        loaded = self._data(config, compute)
        if loaded.sha256 != sha256:
            raise UserError("the images of this process differ from those of process 0")
        training = self._training(config, loaded, compute, saved)
        if saved is not None:
            training.load_state_dict(saved)
        yield from training.run()
        return True

    def compute(self, config: RunConfig) -> Compute:
        """Choose the device, precision and threads of a run.

        Raises:
            UserError: `device=cuda` is set, and PyTorch finds no GPU.
        """
        return replace(choose_compute(config, self._threads), processes=self._processes.size)

    def _training(
        self, config: RunConfig, loaded: "_Loaded", compute: Compute, saved: State | None
    ) -> Training:
        if compute.threads:
            torch.set_num_threads(compute.threads)
        classes = loaded.dataset.classes
        training = Training(config, loaded.images, classes, compute, processes=self._processes)
        if saved is None and (weights := initial_weights(config, classes, training.model)):
            training.load_weights(weights)
        return training

    def _data(self, config: RunConfig, compute: Compute) -> "_Loaded":
        batch_settings = {"batch_size", "augment", "cutout", "test_flip", "normalize"}
        key = config.data.model_dump(exclude=batch_settings)
        key["device"] = str(compute.device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # free the previous data first
            dataset = load(config.data, as_path(config.paths.cache), config.custom_code)
            images = DeviceImages(dataset, compute.device)
            self._loaded = (key, _Loaded(dataset, dataset.digest(), images))
        return self._loaded[1]


@dataclass(frozen=True)
class _Loaded:
    dataset: Dataset
    sha256: str
    images: DeviceImages


def _restore_events(config: RunConfig, folder: RunFolder) -> None:
    """Restore deleted TensorBoard files, or warn; they are optional."""
    try:
        with suppress(BusyError), folder.lock():
            restore_events(config, folder.path, folder.read_metrics(), folder.read_state())
            declare([config])
    except OSError as error:
        _log.warning("%s: cannot restore the TensorBoard files: %s", error.filename, error.strerror)


def _set_aside(config: RunConfig, folder: RunFolder) -> None:
    folder.set_aside()
    folder.claim(config)
    remove_files(event_folder(config), "events.out.tfevents*")  # repeats metrics.jsonl
