"""The settings of a search, under `hydra.sweeper`."""

from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, ValidationError

from cifar_exp.config.load import in_lines
from cifar_exp.errors import UserError
from cifar_exp.sections import Section

# Given to Optuna's class by name; what it takes stands in Optuna's reference.
Options = Annotated[
    dict[str, Any], Field(default_factory=dict, description="arguments of Optuna's class")
]


class SearchSettings(Section):
    """How a search goes about it. The defaults here are those of `hydra/sweeper=optuna`."""

    n_trials: int = Field(20, ge=1, le=100_000, description="in all, also over several commands")
    metric: Literal["accuracy", "loss"] = Field(
        "accuracy", description="of the validation images after the last epoch"
    )
    sampler: Literal["tpe", "random", "qmc", "gp", "cmaes"] = Field(
        "tpe", description="what proposes settings, by Optuna's name"
    )
    sampler_options: Options
    pruner: Literal["median", "asha", "hyperband", "none"] = Field(
        "median", description="what gives up trials that do badly, by Optuna's name"
    )
    pruner_options: Options
    seed: int = Field(0, ge=0, lt=2**32, description="of the sampler; runs have their own")
    storage: str | None = Field(
        None, description="URL as Optuna takes it; null: trials.db in the search's folder"
    )
    confirm: int = Field(
        5, ge=0, le=1000, description="fresh seeds with which the winner is trained and tested"
    )
    baseline: bool = Field(
        True, description="test what the search began with as well, for comparison"
    )


def load_search_settings(settings: dict[str, Any]) -> SearchSettings:
    """Check what stands under `hydra.sweeper`.

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
        raise UserError(in_lines(error, "hydra.sweeper.")) from error
