"""How a run goes on: from which checkpoint, on what, and when it cannot."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cifar_exp.config.identity import config_id, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.paths import CHECKPOINTS, PREDICTIONS_FILE
from cifar_exp.runs.checkpoint import Checkpoints, DamagedError, State
from cifar_exp.runs.continuing import shorter_run
from cifar_exp.runs.failures import CannotResumeError
from cifar_exp.runs.folder import RunFolder
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training

_log = logging.getLogger("cifar_exp")


def last_state(folder: RunFolder, checkpoints: Checkpoints) -> State | None:
    """Return what a run can go on from; None for one that has hardly begun.

    Args:
        folder: of the run.
        checkpoints: of the run.

    Raises:
        CannotResumeError: there was more, and it is lost.
    """
    try:
        saved = checkpoints.load_latest()
    except DamagedError as error:
        raise CannotResumeError(folder, str(error)) from error
    # a kill can come between an epoch's metrics and its checkpoint, but not twice
    if saved is None and len(folder.read_metrics()) > 1:
        raise CannotResumeError(folder, "its checkpoints are gone")
    return saved


def continued(
    config: RunConfig,
    checkpoints: Checkpoints,
    data_sha256: str,
    custom_code: Mapping[str, str | None],
    log: logging.Logger,
) -> State | None:
    """Make the last state of a shorter run the first checkpoint of one that continues it.

    Args:
        config: of the longer run, which has not begun.
        checkpoints: of the longer run.
        data_sha256: of the images as they are now.
        custom_code: the digest of each file with custom code, as they are now.
        log: of the longer run.

    Returns:
        The state; None if there is no shorter run, or none that it can continue.
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
        problem = "" if saved else "it has no checkpoint left"
    except DamagedError as error:
        saved, problem = None, str(error)
    if saved and saved["run"].get("data_sha256") != data_sha256:
        problem = "the images have changed since"
    if saved and saved["run"].get("own_code_sha256", {}) != custom_code:
        problem = "the custom code has changed since"
    if saved is None or problem:
        name = folder.path.name
        log.warning("it begins at epoch 1 and does not continue %s: %s", name, problem)
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
    """Go back to the last checkpoint, and let the metrics end where it does.

    Args:
        training: new.
        saved: what `last_state` returned.
        folder: of the run.
        data_sha256: of the images as they are now.
        log: of the run.

    Raises:
        CannotResumeError: the data or the network is another one.
    """
    if saved is not None:
        if saved["run"]["data_sha256"] != data_sha256:
            raise CannotResumeError(folder, "the data has changed since it began")
        try:
            training.load_state_dict(saved)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CannotResumeError(folder, "its checkpoint does not fit it") from error
        log.info("goes on after epoch %d, step %d", len(training.history), training.steps)
    folder.write_metrics([metrics.as_json() for metrics in training.history])


def compute_as_before(chosen: Compute, before: dict[str, Any], log: logging.Logger) -> Compute:
    """Keep the precision and threads a resumed run began with: the bits depend on them.

    Args:
        chosen: what a new run would take.
        before: what run.json said of the run, `{}` if it is new.
        log: of the run.
    """
    recorded = before.get("compute")
    if recorded is None or recorded["device"] != chosen.device.type:
        if recorded is not None:
            log.warning("began on %s, goes on on %s", recorded["device"], chosen.device.type)
        return chosen
    processes = recorded.get("processes", 1)
    if processes != chosen.processes:
        log.warning("began with %d processes, goes on with %d", processes, chosen.processes)
        return replace(chosen, precision=recorded["precision"])
    return Compute(chosen.device, recorded["precision"], recorded["threads"], processes)


def rebuild_state(config: RunConfig, folder: RunFolder) -> None:
    """Make run.json anew where it was lost after all of the run had been written.

    Args:
        config: of the run.
        folder: of the run.
    """
    rows = folder.read_metrics()
    written = len(rows) == config.training.epochs and (folder.path / PREDICTIONS_FILE).exists()
    if folder.has_state or not written:
        return
    folder.write_state(ids(config) | {"status": "complete", "sha256": folder.sums()})
    _log.warning("%s: run.json could not be read, and was made anew", folder.path)


def ids(config: RunConfig) -> dict[str, Any]:
    """Return what run.json calls a run by, and on which images it is evaluated."""
    return {
        "run_id": run_id(config),
        "config_id": config_id(config),
        "name": run_name(config),
        "evaluated_on": config.data.evaluated_on,
    }
