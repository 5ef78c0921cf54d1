"""Base class of the launchers: compose and check all runs of a sweep before training starts."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cifar_exp.cli.command_line import show_settings
from cifar_exp.cli.error_messages import explain
from cifar_exp.cli.overrides import check_groups, key_of
from cifar_exp.config.command_settings import OF_COMMAND, budget_seconds, is_plan
from cifar_exp.config.identity import all_settings, run_id, varied
from cifar_exp.config.load import load_config, to_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError, some
from cifar_exp.runs.initial_weights import with_initial_weights
from cifar_exp.sweeps.run_times import Budget


class SweepLauncher(BasicLauncher):
    """Train the runs of a sweep, and write a table and a report.

    Hydra's basic launcher composes each run when it starts: a mistake in the last run would be
    reported after the others are trained, and a YAML file edited during the sweep would change it.
    Tasks of other applications are left to the basic launcher.

    Attributes:
        plans: whether to print what would be trained, and train nothing.
        study_name: name of the study, None for a sweep without one; set by `StudySweeper`.
        studies: the parts of the study, each with the indices of its runs; set by `StudySweeper`.
        max_batch_size: number of jobs that another launcher gets at a time, None for all; set by
            `StudySweeper`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.study_name: str | None = None
        self.studies: Sequence[tuple[Study, Sequence[int]]] = ()
        self.max_batch_size: int | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what `launch` needs; called by Hydra, also for a search."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._composes = hydra_context.config_loader.load_sweep_config
        self._sweep_config = config
        self._trains = trains_runs(task_function)
        if self._trains and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(
                "torchrun: expected one run and no -m, since a sweep uses all devices itself"
            )
        self._shows_settings = task_function is show_settings
        self.plans = is_plan(config)
        self._budget_seconds = budget_seconds(config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Compose, check and train all runs.

        Args:
            job_overrides: the overrides of each run.
            initial_job_idx: index of the first run, if the runs are a later batch.

        Returns:
            The final test accuracy of each run, in [0, 1] (None if the run diverged).

        Raises:
            UserError: a run has invalid settings (then no run is trained), or some runs failed.
        """
        if not self._trains:
            return super().launch(job_overrides, initial_job_idx)
        if not self._shows_settings:
            self.prepare()
        setup_globals()
        from tqdm import tqdm

        bar = tqdm(job_overrides, "settings", unit="run", delay=2, leave=False, disable=None)
        configs = [self.compose(overrides) for overrides in bar]
        if self._shows_settings:
            print(_first_run(configs, job_overrides), end="")
            return []
        results = self.train(configs)
        if self.plans:
            return []
        return [
            JobReturn(overrides=overrides, _return_value=accuracy, status=JobStatus.COMPLETED)
            for overrides, accuracy in zip(job_overrides, results, strict=True)
        ]

    def budget(self) -> Budget | None:
        """Return the time that the sweep may take, which starts now; None for any time."""
        return None if self._budget_seconds is None else Budget(self._budget_seconds)

    def prepare(self) -> None:
        """Check the launcher's settings, and start slow preparations."""
        return

    @abstractmethod
    def train(self, configs: Sequence[RunConfig]) -> list[float | None]:
        """Train runs, and return the final test accuracy of each, None if it diverged.

        If `plans`, print what would be trained.
        """

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """Compose and check the settings of a run.

        Args:
            overrides: of the run.

        Raises:
            UserError: a setting is invalid.
        """
        try:
            composed = self._composes(self._sweep_config, check_groups(overrides))
            self._refuse_other_sweep(composed)
            # for ${hydra:...} in the settings; set_config would copy the node, which takes 4 ms
            HydraConfig.instance().cfg = cast(Any, composed)
            nodes = dict(composed.items_ex(resolve=False))
            for key in ("hydra", *OF_COMMAND):
                nodes.pop(key, None)
            # OmegaConf.masked_copy would copy all nodes
            without_hydra = DictConfig(nodes, flags={"no_deepcopy_set_nodes": True})
            return with_initial_weights(load_config(without_hydra))
        except Exception as error:
            if (message := explain(error)) is None:
                raise
            raise UserError(f"{message}\nin the run {_of_run(overrides)}") from error

    def _refuse_other_sweep(self, composed: DictConfig) -> None:
        """Refuse a run that changes the sweeper, the launcher or the budget of all runs."""
        for key in OF_COMMAND:
            if composed.get(key) != self._sweep_config.get(key):
                raise UserError(f"{key}: expected one value for all runs")
        for section in ("sweeper", "launcher"):
            if composed.hydra[section] != self._sweep_config.hydra[section]:
                raise UserError(
                    f"hydra.{section}: expected the same for all runs, but a file that only some "
                    "runs choose sets it; set it on the command line"
                )


def _first_run(configs: Sequence[RunConfig], job_overrides: Sequence[Sequence[str]]) -> str:
    """Return the settings of the first run as YAML, and in what the runs differ."""
    keys = varied(configs)
    if len({config.seed for config in configs}) > 1:
        keys.append("seed")
    count = len({run_id(config) for config in configs})
    text = f"# the first of {count} run{'s' * (count > 1)}: {_of_run(job_overrides[0])}\n"
    settings = [all_settings(config) for config in configs]
    for key in keys:
        levels = dict.fromkeys(str(flat[key]) for flat in settings if key in flat)
        text += f"# the runs differ in {key}: {some(list(levels))}\n"
    return text + to_yaml(configs[0])


def _of_run(overrides: Sequence[str]) -> str:
    return " ".join(word for word in overrides if key_of(word) not in OF_COMMAND)


def trains_runs(task: TaskFunction) -> bool:
    """Return whether a task trains runs of this project; see `config.load.trains_a_run`."""
    return getattr(task, "trains_a_run", False)
