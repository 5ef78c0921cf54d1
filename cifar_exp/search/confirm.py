"""Confirmation: train the best trial with new seeds on all training images, and test it."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from cifar_exp.config.identity import config_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder
from cifar_exp.search.plan import Plan
from cifar_exp.search.trials import Trials


def record_confirmation(plan: Plan, trials: Trials, best: FrozenTrial) -> list[RunConfig]:
    """Record that the best trial and the baseline are tested, and return the runs for it.

    This is the only use of the test set in a search. It is recorded before it happens.

    Args:
        plan: plan of the search.
        trials: trials of the search, which record the confirmation.
        best: best trial.
    """
    found = _with_new_seeds(plan.config(best.params), plan)
    start = _with_new_seeds(plan.start, plan) if plan.settings.baseline else []
    if start and config_id(start[0]) == config_id(found[0]):
        start = []  # the best settings are those of the baseline
    trials.record_confirmation(
        {
            "winner": best.number,
            "trials": len(trials.all),
            "found": _folders(found),
            "start": _folders(start),
        }
    )
    return found + start


def _with_new_seeds(config: RunConfig, plan: Plan) -> list[RunConfig]:
    """Return runs on all training images, with seeds that the search has not used."""
    count = plan.settings.confirm
    seeds = [seed for seed in range(count + 1) if seed != plan.start.seed][:count]
    changes = {
        "data": config.data.model_copy(update={"val_fraction": 0.0}),
        # test images must not select an epoch
        "training": config.training.model_copy(update={"keep": "last", "patience": None}),
    }
    return [config.model_copy(update=changes | {"seed": seed}) for seed in seeds]


def _folders(configs: Sequence[RunConfig]) -> list[str]:
    return [folder.path.name for folder in RunFolder.of_all(configs)]
