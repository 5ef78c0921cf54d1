"""The sweeper of `hydra/sweeper=optuna`: runs whose settings Optuna chooses, one after another."""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cifar_exp.cli.command_line import shows_settings
from cifar_exp.cli.packed_launcher import PackedLauncher
from cifar_exp.cli.search_space import read_space
from cifar_exp.config.search_settings import SearchSettings, load_search_settings
from cifar_exp.errors import UserError

SETTINGS = {  # under `hydra.sweeper`
    "_target_": "hydra_plugins.cifar_exp.plugins.OptunaSweeper",
    "params": {},  # the space: KEY: interval(...), choice(...) and so on
    **SearchSettings.model_validate({}).model_dump(),
}


class OptunaSweeper(Sweeper):
    """Searches the settings under which a run does best on validation images.

    Args:
        params: the space by key; what is typed on the command line comes to it, and wins.
        settings: see `SearchSettings`.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        self._params = params or {}
        self._settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `sweep` needs; called by Hydra."""
        self.config = config
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search, and confirm what was found.

        Args:
            arguments: the overrides of the command line.

        Raises:
            UserError: something is wrong with the space or the settings, or Optuna is missing.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        if not isinstance(self.launcher, PackedLauncher):
            raise UserError("hydra/sweeper=optuna: expected hydra/launcher=packed")
        if self.config.get("study") is not None:
            raise UserError("study: expected none in a search, which varies settings by itself")
        if shows_settings.get():
            raise UserError(
                "--cfg job: expected no -m in a search, whose trials are not chosen yet; "
                "without -m it shows what they share"
            )
        settings = load_search_settings(self._settings)
        in_yaml = [f"{key}={value}" for key, value in self._params.items()]
        space, shared = read_space([*in_yaml, *arguments], self.hydra_context.config_loader)
        try:
            from cifar_exp.search.search import run_search
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise UserError(
                "hydra/sweeper=optuna needs Optuna: pip install -e '.[optuna]'"
            ) from error
        runs_per_device = self.launcher.begin()
        run_search(settings, space, shared, self.launcher.compose, runs_per_device)
