"""Launch a sweep through another launcher (Slurm, Ray, joblib): each job trains one run."""

import copy
import os
from collections.abc import Sequence
from typing import Any, cast

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from cifar_exp.cli.hydra_private import allow_objects
from cifar_exp.cli.sweep_launcher import SweepLauncher
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError


class JobsLauncher(SweepLauncher):
    """Submit each run as a job of another launcher, and collect the results.

    Args:
        other: the launcher of the jobs.
    """

    def __init__(self, other: Launcher) -> None:
        super().__init__()
        self._other = other

    def train(self, configs: Sequence[RunConfig]) -> list[float | None]:
        """Train all runs as jobs; called by `launch`."""
        from cifar_exp.sweeps.sweep import print_forecast, run_sweep

        if self.budget():
            raise UserError("budget: expected hydra/launcher=packed, since jobs start at any time")
        if self.plans:
            return print_forecast(configs, None, self.studies, self.study_name, in_jobs=True)
        return run_sweep(configs, None, self.studies, self.study_name, self._run_jobs)

    def _run_jobs(self, configs: Sequence[RunConfig]) -> list[str | None]:
        """Train each run in a job, and return the error message of each, None if it succeeded."""
        from cifar_exp.sweeps.job import train_job

        # else Ray sends usage statistics to its developers
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        assert self.hydra_context is not None
        context = HydraContext(cast(Any, _ComposedConfigs()), self.hydra_context.callbacks)
        self._other.setup(hydra_context=context, task_function=train_job, config=self._sweep_config)
        jobs = [[config.model_dump_json()] for config in configs]
        size = self.max_batch_size or len(jobs)
        return [
            job.return_value
            for first in range(0, len(jobs), size)
            for job in self._other.launch(jobs[first : first + size], initial_job_idx=first)
        ]


class _ComposedConfigs:
    """Replace Hydra's `ConfigLoader` in jobs, so that they compose nothing.

    A job may wait for days, and its run keeps the settings that were checked at submission even
    if a YAML file has changed.
    """

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the argument of `train_job`; the only override is a run's settings as JSON."""
        (settings,) = sweep_overrides
        composed = copy.deepcopy(master_config)
        allow_objects(composed)
        with open_dict(composed):
            composed.run = RunConfig.model_validate_json(settings)
            composed.folder = master_config.hydra.runtime.cwd
        return composed
