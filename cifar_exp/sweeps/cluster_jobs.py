"""Sweeps whose runs are jobs of another launcher, on machines that share the results folder."""

import time
from collections.abc import Callable, Sequence

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import ENDED, RunFolder

# Trains each run in a job. Returns for each run why it failed, or None.
RunJobs = Callable[[Sequence[RunConfig]], Sequence[str | None]]
_POLL_SECONDS = 2.0


def train_as_jobs(
    runs: Sequence[tuple[RunConfig, RunFolder]], run_jobs: RunJobs
) -> list[str | None]:
    """Train runs in jobs, and wait until all of them have ended.

    Args:
        runs: unfinished runs. Those that another process is training are only waited for.
        run_jobs: submits the jobs of the other runs.

    Returns:
        For each run why it has not ended; None if it has.

    Raises:
        UserError: jobs could not be submitted, or were lost.
    """
    message: dict[RunFolder, str | None] = {}
    for config, folder in runs:
        try:
            folder.claim(config)  # later changes of the YAML files have no effect
        except UserError as error:
            message[folder] = str(error)
    free = [it for it in runs if it[1] not in message and it[1].status != "running"]
    problems = _run([config for config, _ in free], run_jobs)
    message |= {folder: problem for (_, folder), problem in zip(free, problems, strict=True)}
    _wait([folder for _, folder in runs])
    return [message.get(folder) or _problem(folder) for _, folder in runs]


def _run(configs: Sequence[RunConfig], run_jobs: RunJobs) -> Sequence[str | None]:
    try:
        return run_jobs(configs) if configs else []
    except Exception as error:  # launchers raise various exceptions when a job is lost
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The job launcher failed: {first_line}\n"
            "Submitted jobs continue. Run the same command again to train the remaining runs."
        ) from error


def _wait(folders: Sequence[RunFolder]) -> None:
    """Wait for runs that other jobs are training: their own jobs ended without training."""
    busy = [folder for folder in folders if folder.is_held]
    if busy:
        print(f"waiting for {len(busy)} run{'s' * (len(busy) > 1)} of other jobs", flush=True)
    while any(folder.is_held for folder in busy):
        time.sleep(_POLL_SECONDS)


def _problem(folder: RunFolder) -> str | None:
    status = folder.status
    if status in ENDED:
        return None
    reason = folder.read_state().get("reason") if status == "failed" else None
    return f"{status}: {reason or 'its job ended before the run was complete'}"
