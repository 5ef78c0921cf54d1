"""A run as the job of a scheduler, such as Slurm, which may take the machine away at any time."""

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
    """Train one run, wherever the job is; a task of Hydra.

    Args:
        job: has the checked settings as `run`, and the `folder` that the sweep was started in.

    Returns:
        Why the run failed, if it did. Not an error: schedulers pass it on as a pickle, and not all
        errors can be read again.
    """
    os.chdir(job.folder)
    try:
        _train_until_taken_away(job.run)
    except BusyError:
        print("another job trains this run", flush=True)
    except UserError as error:
        return _failed(str(error), job.run)
    except Exception as error:
        free_memory(error)
        if is_out_of_memory(error):
            return _failed(TOO_LITTLE_MEMORY, job.run)
        return _failed(f"{type(error).__name__}: {error}", job.run, traceback.format_exc())
    return None


def _failed(reason: str, config: RunConfig, message: str = "") -> str:
    # the job's output and the pickle are files
    print(hide(message or reason, config), file=sys.stderr, flush=True)
    return f"failed: {hide(reason, config)}"


def _train_until_taken_away(config: RunConfig) -> None:
    while True:
        try:
            return train_one(config, in_job=True)
        except Interrupted:
            # the run is saved, and whoever listens to the signal has let the job go on: Slurm
            # sends SIGTERM some time before it ends a job, and submitit hears it and does nothing
            continue
