"""Confirmation: train the best trial with new seeds on all training images, and test it."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from cifar_exp.config.identity import config_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder
from cifar_exp.search.plan import Plan
from cifar_exp.search.trials import Trials
from cifar_exp.sweeps.run_times import Budget
from cifar_exp.sweeps.sweep import Sweep


def confirm(
    plan: Plan,
    trials: Trials,
    best: FrozenTrial,
    name: str,
    runs_per_device: int | None,
    budget: Budget | None = None,
) -> None:
    """Train and test the best trial and the initial settings, as a sweep.

    This is the only use of the test set in a search. It is recorded before it happens.

    Args:
        plan: plan of the search.
        trials: trials of the search, which record the confirmation.
        best: best trial.
        name: name of the sweep.
        runs_per_device: number of concurrent runs per device; None for automatic.
        budget: time for the runs.

    Raises:
        UserError: some runs failed.
    """
    found = _with_new_seeds(plan.config(best.params), plan)
    start = _with_new_seeds(plan.start, plan) if plan.settings.baseline else []
    if start and config_id(start[0]) == config_id(found[0]):
        start = []  # the best settings are the initial ones
    trials.record_confirmation(
        {
            "winner": best.number,
            "trials": len(trials.all),
            "found": _folders(found),
            "start": _folders(start),
        }
    )
    # the search prints the results and writes the report
    Sweep(found + start, name=name).run(runs_per_device, budget=budget, reports=False)


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
