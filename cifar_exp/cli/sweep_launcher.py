"""What launchers of sweeps share: every run is composed and checked before one is trained."""

import os
from abc import abstractmethod
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.cli.command_line import chosen_groups, explain, shows_settings
from cifar_exp.config.identity import run_id
from cifar_exp.config.load import load_config, to_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError


class SweepLauncher(BasicLauncher):
    """Hands the checked runs over as one sweep, with a table and a report.

    Hydra's basic launcher composes each run when it starts; a mistake in the last one would be
    found after the first was trained, and YAML edited meanwhile would change what is studied.
    What is not a training run, the task of another application, is left to the basic launcher.

    Attributes:
        study_name: set by the sweeper of studies: the name of the study, None for a plain sweep.
        studies: set by it as well: each with the numbers of its runs.
        max_batch_size: set by it as well: how many jobs another launcher gets at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.study_name: str | None = None
        self.studies: Sequence[tuple[Study, Sequence[int]]] = ()
        self.max_batch_size: int | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs; called by Hydra."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._composes = hydra_context.config_loader.load_sweep_config
        self._sweep_config = config
        self._trains = trains_runs(task_function)

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
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(
                "torchrun: expected one run and no -m; a sweep shares out the machine by itself"
            )
        shows = shows_settings.get()
        if not shows:
            self.prepare()
        setup_globals()
        configs = [self.compose(overrides) for overrides in job_overrides]
        if shows:
            print(first_of(configs, job_overrides), end="")
            return []
        return [
            JobReturn(overrides=overrides, _return_value=accuracy, status=JobStatus.COMPLETED)
            for overrides, accuracy in zip(job_overrides, self.train(configs), strict=True)
        ]

    def prepare(self) -> None:
        """Begin with what takes long, and refuse what is wrong with the launcher's settings."""
        return

    @abstractmethod
    def train(self, configs: Sequence[RunConfig]) -> list[float | None]:
        """Train checked runs. Returns: for each its final test accuracy, None if it diverged."""

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """Return the checked settings of a run.

        Raises:
            UserError: they are wrong.
        """
        try:
            composed = self._composes(self._sweep_config, chosen_groups(overrides))
            self._refuse_other_sweep(composed)
            HydraConfig.instance().set_config(composed)  # for ${hydra:...} in the settings
            with open_dict(composed):
                del composed["hydra"]
            return load_config(composed)
        except Exception as error:
            if (message := explain(error)) is None:
                raise
            raise UserError(f"{message}\nin the run {' '.join(overrides)}") from error

    def _refuse_other_sweep(self, composed: DictConfig) -> None:
        """Refuse a run whose files set how the sweep is made, which is settled by then."""
        for section in ("sweeper", "launcher"):
            of_run, of_sweep = (
                OmegaConf.to_container(config.hydra[section])
                for config in (composed, self._sweep_config)
            )
            if of_run != of_sweep:
                raise UserError(
                    f"hydra.{section}: a file that only some runs choose sets it, and all runs "
                    "share it; type it on the command line, or sweep that file alone"
                )


def first_of(configs: Sequence[RunConfig], job_overrides: Sequence[Sequence[str]]) -> str:
    """Return the settings of a sweep's first run as YAML, and in which the others differ."""
    from cifar_exp.config.identity import varied

    differ = [*varied(configs), *["seed"] * (len({config.seed for config in configs}) > 1)]
    different = len({run_id(config) for config in configs})
    count = f"{different} run{'s' * (different > 1)}"
    message = f"# the first of {count}: {' '.join(job_overrides[0])}\n"
    message += f"# the runs differ in {', '.join(differ)}\n" * bool(differ)
    return message + to_yaml(configs[0])


def trains_runs(task: TaskFunction) -> bool:
    """Tell whether a task is a training run of this project; see `config.load.trains_a_run`."""
    return getattr(task, "trains_a_run", False)
