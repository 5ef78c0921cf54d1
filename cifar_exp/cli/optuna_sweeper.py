"""The sweeper of `hydra/sweeper=optuna`: Optuna chooses the settings of each trial."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cifar_exp.cli.packed_launcher import PackedLauncher
from cifar_exp.cli.search_space import read_space
from cifar_exp.config.search_settings import SearchSettings, load_search_settings
from cifar_exp.errors import UserError

SETTINGS = {  # under `hydra.sweeper`
    "_target_": "hydra_plugins.cifar_exp.plugins.OptunaSweeper",
    "params": {},  # the search space: KEY: interval(...), choice(...), range(...)
    **SearchSettings.model_validate({}).model_dump(),
}


class OptunaSweeper(Sweeper):
    """Search for the settings with the best result on validation images.

    Args:
        params: search space by key. Overrides of the command line extend and replace it.
        settings: see `SearchSettings`.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        self._params = params or {}
        self._settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what `sweep` needs; called by Hydra."""
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search, and confirm the best settings with other seeds.

        Args:
            arguments: the overrides of the command line.

        Raises:
            UserError: the search space or a setting is invalid, or Optuna is not installed.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        if not isinstance(self.launcher, PackedLauncher):
            raise UserError("hydra/sweeper=optuna: expected hydra/launcher=packed")
        if self.config.get("study") is not None:
            raise UserError("study: expected none in a search, which varies settings itself")
        settings = load_search_settings(self._settings)
        from_files = [f"{key}={value}" for key, value in self._params.items()]
        space, shared = read_space([*from_files, *arguments], self.hydra_context.config_loader)
        try:
            from cifar_exp.search.forecast import forecast_search
            from cifar_exp.search.search import run_search
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise UserError(
                "hydra/sweeper=optuna: Optuna is not installed; pip install -e '.[optuna]'"
            ) from error
        runs_per_device = self.launcher.begin()
        arguments_of_search = (settings, space, shared, self.launcher.compose, runs_per_device)
        if self.launcher.plans:
            print(forecast_search(*arguments_of_search))
        else:
            run_search(*arguments_of_search, self.launcher.budget())
