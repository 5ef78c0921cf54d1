"""Runs one configuration: skips what is complete, resumes what is half done, trains the rest."""

import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch

from cifar_exp.config.identity import can_be_continued, model_and_data, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path, hide
from cifar_exp.files import remove_files
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.loggers.run_loggers import ProcessLoggers, RunLoggers, restore_events
from cifar_exp.loggers.tensorboard import event_folder, needs_events
from cifar_exp.out_of_memory import free_memory, keep_reserve
from cifar_exp.paths import CHECKPOINTS
from cifar_exp.runs.artifacts import write_outputs
from cifar_exp.runs.checkpoint import Checkpoints, State
from cifar_exp.runs.failures import CannotResumeError, run_error
from cifar_exp.runs.folder import ENDED, BusyError, GoneError, RunFolder
from cifar_exp.runs.log import log_to
from cifar_exp.runs.provenance import provenance
from cifar_exp.runs.resuming import (
    compute_as_before,
    continued,
    ids,
    last_state,
    rebuild_state,
    restore,
)
from cifar_exp.signals import Interrupted
from cifar_exp.training.device import Compute, choose_compute
from cifar_exp.training.loop import Training
from cifar_exp.training.process_group import ALONE, ProcessGroup
from cifar_exp.training.progress import EpochMetrics, Progress


class Runner:
    """Trains runs in this process, one after another or taking turns.

    Runs on the same data share it, in memory and on the device.

    Args:
        threads: of the CPU for each run; None leaves PyTorch's choice.
        processes: that train a run together; this one keeps its folder if it is the first.
    """

    def __init__(self, threads: int | None = None, processes: ProcessGroup = ALONE) -> None:
        self._threads = threads
        self._processes = processes
        self._loaded: tuple[dict[str, Any], _Loaded] | None = None
        self._loggers = ProcessLoggers()

    def close(self) -> None:
        """Wait a little for trackers that have not sent everything; no run begins afterwards."""
        self._loggers.close()

    def run(
        self, config: RunConfig, prefix_runs: Sequence[RunConfig] = ()
    ) -> Generator[Progress | EpochMetrics, None, bool]:
        """Bring one run to its end, from wherever it stands, a few steps at a time.

        Throw Interrupted into it to stop it at a yield; the same command goes on there.

        Args:
            config: checked settings.
            prefix_runs: shorter runs that equal the first epochs of this one: each is handed a
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
        try:
            keep_reserve()
            if self.finished(config, folder):  # to see that needs no disk that can be written
                folder.tidy_if_free()
                if needs_events(config):
                    with suppress(BusyError, OSError), folder.lock():  # they are a mirror
                        restore_events(
                            config, folder.path, folder.read_metrics(), folder.read_state()
                        )
                self._processes.broadcast(None)
                return False
            with folder.lock() as check:
                return (yield from self._claimed(config, folder, prefix_runs, check))
        except (OSError, MemoryError) as error:  # before it could be recorded
            free_memory(error)
            raise run_error(error, config, folder) from error

    @staticmethod
    def finished(config: RunConfig, folder: RunFolder) -> bool:
        """Return whether a run has ended and is not to be trained again.

        Raises:
            UserError: its folder holds other settings.
        """
        if folder.status not in ENDED or config.rerun:
            return False
        folder.claim(config)
        return True

    def _claimed(
        self,
        config: RunConfig,
        folder: RunFolder,
        prefix_runs: Sequence[RunConfig],
        check: Callable[[], None],
    ) -> Generator[Progress | EpochMetrics, None, bool]:
        folder.claim(config)
        folder.tidy()
        rebuild_state(config, folder)
        if folder.status in ENDED and not config.rerun:
            self._processes.broadcast(None)
            return False
        if folder.status in (*ENDED, "damaged") and config.rerun:
            _set_aside(config, folder)
        try:
            yield from self._recorded(config, folder, prefix_runs, check)
        except CannotResumeError:
            if config.resume != "fresh":
                raise
            _set_aside(config, folder)
            yield from self._recorded(config, folder, prefix_runs, check)
        return True

    def _recorded(
        self,
        config: RunConfig,
        folder: RunFolder,
        prefix_runs: Sequence[RunConfig],
        check: Callable[[], None],
    ) -> Iterator[Progress | EpochMetrics]:
        """Train, and keep in run.json how it ended."""
        if problem := folder.problem:
            raise CannotResumeError(folder, problem)
        with log_to(folder.log_file, config) as log:
            run = _Run(config, folder, log, tuple(prefix_runs), check)
            try:
                yield from self._train(run)
                return
            except Interrupted as interruption:
                log.info("interrupted by %s; the same command goes on", interruption)
                raise
            except Exception as error:
                free_memory(error)
                log.exception("the run failed")
                failure: UserError = run_error(error, config, folder)
            try:
                check()
                folder.fail(run.ids, hide(str(failure), config))
            except GoneError as gone:  # which is the reason, whatever it came to
                failure = gone
            except OSError:  # a full disk
                pass
            raise failure

    def _train(self, run: "_Run") -> Iterator[Progress | EpochMetrics]:
        checkpoints = run.checkpoints()
        saved = last_state(run.folder, checkpoints)
        chosen = self.compute(run.config)
        loaded = self._data(run.config, chosen)
        custom_code = _digests_of_own_code(run, saved)
        is_new = saved is None and not run.config.rerun
        if is_new:
            saved = continued(run.config, checkpoints, loaded.sha256, custom_code, run.log)
        before = saved["run"] if saved else run.folder.read_state()
        compute = compute_as_before(chosen, before, run.log)
        training = self._training(run.config, loaded, compute)
        restore(training, saved, run.folder, loaded.sha256, run.log)
        self._processes.broadcast((compute.precision, compute.threads, loaded.sha256, saved))
        state = run.ids | {
            "status": "running",
            "started": before.get("started", _now()),
            "compute": dataclasses.asdict(compute) | {"device": compute.device.type},
            "data_sha256": loaded.sha256,
            "evaluated_images": len(loaded.dataset.test),
            "own_code_sha256": custom_code,
            "provenance": provenance(),
        }
        if "began_as" in before:
            state["began_as"] = before["began_as"]
        run.folder.write_state(state)
        run.log.info("%s: %s", model_and_data(run.config), compute)
        logged = LoggedRun(run.config, state["provenance"], tuple(training.history))
        with self._loggers.following(logged, run.folder.path) as mirror:
            try:
                if is_new and self._processes.alone:  # else all processes must yield the same
                    yield from tuple(training.history)
                yield from _epochs(training, run, checkpoints, state, mirror)
                _check_metrics(training, run)
                balance = write_outputs(run.folder.path, training, loaded.dataset)
                run.check()
            except Exception as error:
                free_memory(error)  # the trackers need some
                raise
            status = "diverged" if training.diverged else "complete"
            mirror.end(status)
        kept = (
            status == "complete"
            and can_be_continued(run.config)
            and run.config.keep_checkpoint
            and _save_last(training, state, checkpoints, run.log)
        )
        end = {"status": status, "ended": _now(), "sha256": run.folder.sums()}
        run.folder.write_state(state | end | balance)
        checkpoints.keep_last() if kept else run.folder.remove_checkpoints()
        run.log.info("%s after %d epochs", status, len(training.history))

    def take_part(self, config: RunConfig) -> Generator[Progress | EpochMetrics, None, bool]:
        """Train a run together with the first process, which does all but the computing.

        Args, yields, returns: as of `run`.

        Raises:
            UserError: the images are not the same here, or another process has ended.
        """
        begun = self._processes.broadcast()
        if begun is None:
            return False
        precision, threads, sha256, saved = begun
        compute = replace(self.compute(config), precision=precision, threads=threads)
        loaded = self._data(config, compute)
        if loaded.sha256 != sha256:
            raise UserError("the images are not those of process 0")
        training = self._training(config, loaded, compute)
        if saved is not None:
            training.load_state_dict(saved)
        yield from training.run()
        return True

    def compute(self, config: RunConfig) -> Compute:
        """Return what a run is to compute on.

        Raises:
            UserError: `device=cuda` is set, and PyTorch finds no GPU.
        """
        return replace(choose_compute(config, self._threads), processes=self._processes.size)

    def _training(self, config: RunConfig, loaded: "_Loaded", compute: Compute) -> Training:
        if compute.threads:
            torch.set_num_threads(compute.threads)
        classes = loaded.dataset.classes
        return Training(config, loaded.images, classes, compute, processes=self._processes)

    def _data(self, config: RunConfig, compute: Compute) -> "_Loaded":
        of_batches = {"batch_size", "augment", "cutout", "test_flip", "normalize"}
        key = config.data.model_dump(exclude=of_batches)
        key["device"] = str(compute.device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # frees the last one before the next is loaded
            dataset = load(config.data, as_path(config.paths.cache), config.custom_code)
            images = DeviceImages(dataset, compute.device)
            self._loaded = (key, _Loaded(dataset, dataset.digest(), images))
        return self._loaded[1]


@dataclass(frozen=True)
class _Run:
    config: RunConfig
    folder: RunFolder
    log: logging.Logger
    prefix_runs: tuple[RunConfig, ...]
    check: Callable[[], None]  # that the folder is still there, and the one that is locked

    @property
    def ids(self) -> dict[str, Any]:
        return ids(self.config)

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder.path / CHECKPOINTS, run_id(self.config), self.log)


def _digests_of_own_code(run: _Run, saved: State | None) -> dict[str, str | None]:
    """Return the digest of each file with code of the user's own; warns if one has changed."""
    if not run.config.custom_code:
        return {}
    from cifar_exp.custom_code import digest

    digests = {target: digest(target) for target in sorted(run.config.custom_code)}
    before = saved["run"] if saved else {}
    for target, old in before.get("own_code_sha256", {}).items():
        if digests.get(target) != old:
            run.log.warning("the code of %s has changed since the run began", target)
    return digests


@dataclass(frozen=True)
class _Loaded:
    dataset: Dataset
    sha256: str
    images: DeviceImages


def _epochs(
    training: Training,
    run: _Run,
    checkpoints: Checkpoints,
    state: dict[str, Any],
    mirror: RunLoggers,
) -> Iterator[Progress | EpochMetrics]:
    """Drive the loop; keep every epoch's metrics before they are told, and what can be resumed."""

    def everything() -> State:
        return training.state_dict() | {"run": state}

    for event in training.run():
        run.check()
        ends_epoch = isinstance(event, EpochMetrics)
        if isinstance(event, EpochMetrics):
            run.folder.append_metrics(event.as_json())
            mirror.epoch(event)
            run.log.info("epoch %d: %s", event.epoch, event.as_json())
        if not training.finished:
            checkpoints.save_if_due(training.steps, everything, within_epoch=not ends_epoch)
            if ends_epoch:
                _hand_over(training, run, state)
        try:
            yield event
        except Interrupted:
            run.check()
            _save_what_is_left(training.steps, everything, checkpoints, run.log)
            raise


def _check_metrics(training: Training, run: _Run) -> None:
    """Check that metrics.jsonl has all epochs: it could have been deleted or changed meanwhile."""
    if run.folder.read_metrics() != [metrics.as_json() for metrics in training.history]:
        raise UserError(
            f"{run.folder.metrics_file}: the file was changed while the run was trained, so the "
            "run is not complete; the same command continues it after its last checkpoint"
        )


def _save_what_is_left(
    steps: int, state: Callable[[], State], checkpoints: Checkpoints, log: logging.Logger
) -> None:
    try:
        checkpoints.save_if_new(steps, state)
    except (OSError, RuntimeError) as error:
        log.warning("what came after the last checkpoint is lost: %s", error)


def _save_last(
    training: Training, state: dict[str, Any], checkpoints: Checkpoints, log: logging.Logger
) -> bool:
    """Save what a longer run would continue. Returns: whether there was room for it."""
    try:
        checkpoints.save_if_new(training.steps, lambda: training.state_dict() | {"run": state})
    except (OSError, RuntimeError) as error:
        log.warning("its last checkpoint is not kept, so no longer run can continue it: %s", error)
        return False
    return True


def _hand_over(training: Training, run: _Run, state: dict[str, Any]) -> None:
    """Give shorter runs that end with this epoch the state they would have come to."""
    for config in run.prefix_runs:
        folder = RunFolder.of(config)
        if config.training.epochs != len(training.history):
            continue
        try:
            with folder.lock():
                folder.claim(config)
                if folder.status != "pending":
                    continue  # has been begun already, and goes on from its own checkpoint
                checkpoints = Checkpoints(folder.path / CHECKPOINTS, run_id(config), run.log)
                began = {"status": "pending", "began_as": run_id(run.config)}
                own = state | ids(config) | began
                checkpoints.save(training.steps, training.state_dict() | {"run": own})
                folder.write_state(own)
        except UserError as error:  # another process trains it, or its folder is damaged
            run.log.info("%s takes nothing over: %s", run_name(config), error)


def _set_aside(config: RunConfig, folder: RunFolder) -> None:
    folder.set_aside()
    folder.claim(config)
    remove_files(event_folder(config), "events.out.tfevents*")  # only a mirror


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
