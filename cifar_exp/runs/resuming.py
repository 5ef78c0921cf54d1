"""Resumes runs: chooses the checkpoint and the hardware settings, and restores the training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cifar_exp.config.identity import config_id, run_id, run_name
from cifar_exp.config.schema import CAN_BE_CUSTOM, RunConfig
from cifar_exp.custom_code import digest
from cifar_exp.errors import UserError
from cifar_exp.paths import CHECKPOINTS, PREDICTIONS_FILE
from cifar_exp.runs.checkpoint import Checkpoints, DamagedError, State
from cifar_exp.runs.continuing import shorter_run
from cifar_exp.runs.failures import CannotResumeError
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.results import Results
from cifar_exp.runs.stored import check_rows
from cifar_exp.sections import CustomCode
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training

_log = logging.getLogger("cifar_exp")


def last_state(folder: RunFolder, checkpoints: Checkpoints) -> State | None:
    """Return the newest checkpoint of a run; None if it has trained less than two epochs.

    Args:
        folder: folder of the run.
        checkpoints: checkpoints of the run.

    Raises:
        CannotResumeError: the checkpoints are missing or damaged.
    """
    try:
        saved = checkpoints.load_latest()
    except DamagedError as error:
        raise CannotResumeError(folder, str(error)) from error
    # one epoch without a checkpoint is possible: metrics are written first
    if saved is None and len(folder.read_metrics()) > 1:
        raise CannotResumeError(folder, "the checkpoints are missing")
    return saved


def continued(
    config: RunConfig,
    checkpoints: Checkpoints,
    data_sha256: str,
    custom_code: Mapping[str, str | None],
    log: logging.Logger,
) -> State | None:
    """Copy the last checkpoint of a shorter run to a new run that continues it.

    Args:
        config: settings of the new run.
        checkpoints: checkpoints of the new run.
        data_sha256: digest of the current images.
        custom_code: digest of each file with custom code, by class.
        log: logger of the new run.

    Returns:
        The checkpoint; None if the new run starts from epoch 1.
    """
    shorter = shorter_run(config)
    if shorter is None:
        return None
    log.info("%s", shorter)
    if shorter.problem:
        return None
    folder = shorter.folder
    source = Checkpoints(folder.path / CHECKPOINTS, folder.run_id, log)
    try:
        saved = source.load_latest()
        problem = "" if saved else "it has no checkpoint"
    except DamagedError as error:
        saved, problem = None, str(error)
    if saved and saved["run"].get("data_sha256") != data_sha256:
        problem = "the images have changed"
    if saved and saved["run"].get("own_code_sha256", {}) != custom_code:
        problem = "the custom code has changed"
    if saved is None or problem:
        name = folder.path.name
        log.warning("starts from epoch 1, does not continue %s: %s", name, problem)
        return None
    began = {"status": "pending", "began_as": folder.run_id}
    saved["run"] = saved["run"] | ids(config) | began
    checkpoints.save(source.saved_steps, saved)
    return saved


def restore(
    training: Training,
    saved: State | None,
    folder: RunFolder,
    data_sha256: str,
    log: logging.Logger,
) -> None:
    """Load a checkpoint, and cut metrics.jsonl to the epochs that it contains.

    Args:
        training: a new training loop.
        saved: the checkpoint; None starts from the first step.
        folder: folder of the run.
        data_sha256: digest of the current images.
        log: logger of the run.

    Raises:
        CannotResumeError: the images have changed, or the checkpoint has another network.
    """
    if saved is not None:
        if saved["run"]["data_sha256"] != data_sha256:
            raise CannotResumeError(folder, "the images have changed since the run started")
        try:
            training.load_state_dict(saved)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CannotResumeError(folder, "the checkpoint does not match the network") from error
        log.info("resumed after epoch %d, step %d", len(training.history), training.steps)
    folder.write_metrics([metrics.as_json() for metrics in training.history])


def compute_as_before(chosen: Compute, before: dict[str, Any], log: logging.Logger) -> Compute:
    """Keep the precision and threads with which a run started; results depend on them bit by bit.

    Args:
        chosen: what a new run would use.
        before: content of run.json; `{}` for a new run.
        log: logger of the run.
    """
    recorded = before.get("compute")
    if recorded is None:
        return chosen
    if recorded["device"] != chosen.device.type:
        log.warning("started on %s, resuming on %s", recorded["device"], chosen.device.type)
        return chosen
    processes = recorded.get("processes", 1)
    if processes != chosen.processes:
        log.warning("started with %d processes, resuming with %d", processes, chosen.processes)
        return replace(chosen, precision=recorded["precision"])
    return Compute(chosen.device, recorded["precision"], recorded["threads"], processes)


def rebuild_state(config: RunConfig, folder: RunFolder) -> None:
    """Rebuild run.json of a complete run without checkpoints if it is missing or damaged.

    The new run.json has no SHA-256 sums, since the files may have been changed. A run with
    checkpoints is resumed instead, which writes its files again.

    Args:
        config: settings of the run.
        folder: folder of the run.
    """
    if folder.has_state or not (folder.path / PREDICTIONS_FILE).exists():
        return
    if not config.rerun and any((folder.path / CHECKPOINTS).glob("step-*")):
        return
    rows, patience = folder.read_metrics(), config.training.patience
    try:
        check_rows(rows, folder.metrics_file)
    except UserError:  # then the run cannot be resumed, unless it has one epoch
        return
    best = Results(rows, config.data.evaluated_on).best_epoch
    ended = len(rows) == config.training.epochs or (patience and len(rows) - best >= patience)
    if not ended:
        return
    folder.write_state(ids(config) | {"status": "complete"} | selected_epochs(config, rows))
    _log.warning(
        "%s: run.json could not be read and was rebuilt without sha256 sums, "
        "so the files are not checked",
        folder.path,
    )


def selected_epochs(config: RunConfig, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return the part of run.json that `training.keep` and `training.patience` determine.

    Args:
        config: settings of a complete run.
        rows: lines of its metrics.jsonl.
    """
    epochs = {}
    if config.training.keep == "best":
        epochs["epoch_kept"] = Results(rows, config.data.evaluated_on).best_epoch
    if config.training.patience is not None:
        epochs["epoch_stopped"] = len(rows)
    return epochs


def custom_code_digests(
    config: RunConfig, saved: State | None, log: logging.Logger
) -> dict[str, str | None]:
    """Return the digest of each file with custom code, and warn if a file has changed.

    Args:
        config: settings of the run.
        saved: checkpoint from which the run resumes.
        log: logger of the run.
    """
    sections = {section: getattr(config, section) for section in CAN_BE_CUSTOM}
    digests = {
        part.target: digest(section, part.target)
        for section, part in sections.items()
        if isinstance(part, CustomCode)
    }
    before = saved["run"] if saved else {}
    for target, old in before.get("own_code_sha256", {}).items():
        if digests.get(target) != old:
            log.warning("the code of %s has changed since the run started", target)
    return digests


def ids(config: RunConfig) -> dict[str, Any]:
    """Return the part of run.json that identifies a run."""
    return {
        "run_id": run_id(config),
        "config_id": config_id(config),
        "name": run_name(config),
        "evaluated_on": config.data.evaluated_on,
    }
