"""The launcher of `-m`: composes and checks every run, then hands all of them over as one sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cifar_exp.config.load import load_config
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError


@dataclass
class SequentialLauncherConfig:
    """How Hydra finds the launcher; it has no settings of its own."""

    _target_: str = "hydra_plugins.cifar_exp.sequential_launcher.SequentialLauncher"


ConfigStore.instance().store(
    group="hydra/launcher",
    name="sequential",
    node=SequentialLauncherConfig,
    provider="cifar_exp",
)


class SequentialLauncher(Launcher):
    """Trains the runs of a sweep one after another in this process.

    Hydra's basic launcher composes each run when it starts; a mistake in the last one would be
    found after the first was trained, and YAML edited meanwhile would change what is studied.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs; called by Hydra."""
        self._config_loader = hydra_context.config_loader
        self._config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Compose, check and train all runs.

        Args:
            job_overrides: the overrides of each run.
            initial_job_idx: number of the first run, if there was a batch before.

        Returns:
            For each run its final test accuracy, a fraction (None if it diverged).

        Raises:
            UserError: a run has wrong settings (none is trained), or some runs failed.
        """
        setup_globals()
        configs = [self._composed(overrides) for overrides in job_overrides]
        from cifar_exp.studies.sweep import run_sweep

        accuracies = run_sweep(configs)
        return [
            JobReturn(overrides=overrides, _return_value=accuracy, status=JobStatus.COMPLETED)
            for overrides, accuracy in zip(job_overrides, accuracies, strict=True)
        ]

    def _composed(self, overrides: Sequence[str]) -> RunConfig:
        composed = self._config_loader.load_sweep_config(self._config, list(overrides))
        HydraConfig.instance().set_config(composed)  # for ${hydra:...} in the settings
        with open_dict(composed):
            del composed["hydra"]
        try:
            return load_config(composed)
        except UserError as error:
            raise UserError(f"{error}\nin the run {' '.join(overrides)}") from error
