"""The runs of a sweep as jobs of another launcher, on machines that share the results' folder."""

import time
from collections.abc import Callable, Sequence

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import ENDED, RunFolder

# Trains runs, a job each, and says for each what went wrong, if anything.
RunJobs = Callable[[Sequence[RunConfig]], Sequence[str | None]]
_POLL_SECONDS = 2.0


def train_as_jobs(
    runs: Sequence[tuple[RunConfig, RunFolder]], run_jobs: RunJobs
) -> list[str | None]:
    """Bring runs to their ends.

    Args:
        runs: that have not ended; those that another process trains now are waited for.
        run_jobs: trains the others.

    Returns:
        For each run why it has not come to its end, None if it has.

    Raises:
        UserError: jobs could not be submitted, or were lost.
    """
    for config, folder in runs:
        folder.claim(config)  # from now on, edited YAML changes nothing
    free = [(config, folder) for config, folder in runs if folder.status != "running"]
    problems = _told([config for config, _ in free], run_jobs)
    message = {folder: problem for (_, folder), problem in zip(free, problems, strict=True)}
    _wait([folder for _, folder in runs])
    return [message.get(folder) or _problem(folder) for _, folder in runs]


def _told(configs: Sequence[RunConfig], run_jobs: RunJobs) -> Sequence[str | None]:
    try:
        return run_jobs(configs) if configs else []
    except Exception as error:  # whatever a launcher raises when a job is gone
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the launcher of the jobs failed: {first_line}\n"
            "jobs that were submitted go on; the same command trains what is left"
        ) from error


def _wait(folders: Sequence[RunFolder]) -> None:
    """Wait for runs that were busy when their job came: other jobs are training them."""
    busy = [folder for folder in folders if folder.is_held]
    if busy:
        print(f"waiting for {len(busy)} runs that other jobs train", flush=True)
    while any(folder.is_held for folder in busy):
        time.sleep(_POLL_SECONDS)


def _problem(folder: RunFolder) -> str | None:
    status = folder.status
    if status in ENDED:
        return None
    reason = folder.read_state().get("reason") if status == "failed" else None
    return f"{status}: {reason or 'its job has ended before it'}"
