"""One run as a scheduler's job, which the scheduler may preempt at any time."""

import os
import sys
import traceback
from typing import Any

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.expressions import hide
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY, free_memory, is_out_of_memory
from cifar_exp.runs.folder import BusyError
from cifar_exp.runs.train_one import train_one
from cifar_exp.signals import Interrupted


def train_job(job: Any) -> str | None:
    """Train one run. This is the task function that Hydra calls in the job.

    Args:
        job: has the checked settings as `run`, and as `folder` the working directory of the
            command that started the sweep.

    Returns:
        Why the run failed; None if it did not. It is returned and not raised because schedulers
        pickle the result, and some exceptions cannot be unpickled.
    """
    os.chdir(job.folder)
    try:
        _train_until_preempted(job.run)
    except BusyError:
        print("another job is training this run", flush=True)
    except UserError as error:
        return _failed(str(error), job.run)
    except Exception as error:
        free_memory(error)
        if is_out_of_memory(error):
            return _failed(TOO_LITTLE_MEMORY, job.run)
        return _failed(f"{type(error).__name__}: {error}", job.run, traceback.format_exc())
    return None


def _failed(reason: str, config: RunConfig, message: str = "") -> str:
    # the job's output and the pickle are saved in files, so values of variables are hidden
    print(hide(message or reason, config), file=sys.stderr, flush=True)
    return f"failed: {hide(reason, config)}"


def _train_until_preempted(config: RunConfig) -> None:
    while True:
        try:
            return train_one(config, in_job=True)
        except Interrupted:
            # Slurm sends SIGTERM before it ends a job, and submitit ignores that signal. The run
            # is saved; use the remaining time.
            continue
