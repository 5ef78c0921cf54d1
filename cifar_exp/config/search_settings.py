"""The settings of a search in `hydra.sweeper`."""

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, ValidationError

from cifar_exp.config.load import format_errors
from cifar_exp.errors import UserError
from cifar_exp.sections import Section

Options = Annotated[
    dict[str, Any], Field(default_factory=dict, description="keyword arguments of Optuna's class")
]


class SearchSettings(Section):
    """Settings of `hydra/sweeper=optuna`."""

    n_trials: int = Field(
        20, ge=1, le=100_000, description="number of trials in total, over all commands"
    )
    metric: Literal["accuracy", "loss"] = Field(
        "accuracy", description="objective, on the validation images after the last epoch"
    )
    sampler: Literal["tpe", "random", "qmc", "gp", "cmaes"] = Field(
        "tpe", description="Optuna's sampler, which proposes settings"
    )
    sampler_options: Options
    pruner: Literal["median", "asha", "hyperband", "none"] = Field(
        "median", description="Optuna's pruner, which stops unpromising trials"
    )
    pruner_options: Options
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the sampler, not of the runs")
    storage: str | None = Field(
        None, description="storage URL of Optuna; null: trials.db in the folder of the search"
    )
    confirm: int = Field(
        5,
        ge=0,
        le=1000,
        description="number of new seeds with which the best settings are trained and tested",
    )
    baseline: bool = Field(
        True, description="also train and test the initial settings, for comparison"
    )


def load_search_settings(settings: dict[str, Any]) -> SearchSettings:
    """Validate the settings in `hydra.sweeper`.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """
    plain = {
        key: OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig) else value
        for key, value in settings.items()
    }
    try:
        return SearchSettings.model_validate(plain)
    except ValidationError as error:
        raise UserError(format_errors(error, "hydra.sweeper.")) from error
