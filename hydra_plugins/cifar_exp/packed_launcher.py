"""The launcher of `-m`: composes and checks every run, then hands all of them over as one sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cifar_exp.config.load import load_config
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError
from cifar_exp.runs.workers import prepare


@dataclass
class PackedLauncherConfig:
    """The settings under `hydra.launcher`."""

    _target_: str = "hydra_plugins.cifar_exp.packed_launcher.PackedLauncher"
    runs_per_device: Any = "auto"


ConfigStore.instance().store(
    group="hydra/launcher",
    name="packed",
    node=PackedLauncherConfig,
    provider="cifar_exp",
)


class PackedLauncher(BasicLauncher):
    """Trains the runs of a sweep side by side, several on each device.

    Hydra's basic launcher composes each run when it starts; a mistake in the last one would be
    found after the first was trained, and YAML edited meanwhile would change what is studied.
    What is not a training run, the task of another application, is left to the basic launcher.

    Args:
        runs_per_device: how many runs at once on each GPU, or on the CPU; "auto" for as many as
            pay.
    """

    def __init__(self, runs_per_device: Any = "auto") -> None:
        super().__init__()
        self._runs_per_device = runs_per_device
        # set by the sweeper of studies: each with the numbers of its runs
        self.study_name: str | None = None
        self.studies: Sequence[tuple[Study, Sequence[int]]] = ()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs; called by Hydra."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._composes = hydra_context.config_loader.load_sweep_config
        self._sweep_config = config
        self._trains = getattr(task_function, "trains_a_run", False)

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
        if not self._trains:
            return super().launch(job_overrides, initial_job_idx)
        runs_per_device = self.begin()
        configs = [self.compose(overrides) for overrides in job_overrides]
        from cifar_exp.studies.sweep import run_sweep

        accuracies = run_sweep(configs, runs_per_device, self.studies, self.study_name)
        return [
            JobReturn(overrides=overrides, _return_value=accuracy, status=JobStatus.COMPLETED)
            for overrides, accuracy in zip(job_overrides, accuracies, strict=True)
        ]

    def begin(self) -> int | None:
        """Prepare for runs. Returns: how many at once on a device; None for as many as pay."""
        runs_per_device = _checked(self._runs_per_device)
        prepare()
        setup_globals()
        return runs_per_device

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """Return the checked settings of a run.

        Raises:
            UserError: they are wrong.
        """
        composed = self._composes(self._sweep_config, list(overrides))
        HydraConfig.instance().set_config(composed)  # for ${hydra:...} in the settings
        with open_dict(composed):
            del composed["hydra"]
        try:
            return load_config(composed)
        except UserError as error:
            raise UserError(f"{error}\nin the run {' '.join(overrides)}") from error


def _checked(runs_per_device: Any) -> int | None:
    """Return the number, or None for "auto"."""
    if runs_per_device == "auto":
        return None
    if isinstance(runs_per_device, int) and runs_per_device >= 1:
        return runs_per_device
    raise UserError(
        f"hydra.launcher.runs_per_device: expected auto or 1 and above, got {runs_per_device}"
    )
