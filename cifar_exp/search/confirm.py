"""What a winner is worth: trained on all training images, with fresh seeds, and tested."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from cifar_exp.config.identity import config_id, run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder
from cifar_exp.search.plan import Plan
from cifar_exp.search.trials import Trials
from cifar_exp.sweeps.sweep import Sweep


def confirm(
    plan: Plan, trials: Trials, best: FrozenTrial, name: str, runs_per_device: int | None
) -> None:
    """Train and test the winner, and what the search began with, as a sweep of their own.

    Only here a search touches the test set. That it does is kept before it does.

    Args:
        plan: of the search.
        trials: where it is kept.
        best: the winner.
        name: of the sweep.
        runs_per_device: how many at once; None for as many as pay.

    Raises:
        UserError: runs failed.
    """
    found = _tested(plan.config(best.params), plan)
    start = _tested(plan.start, plan) if plan.settings.baseline else []
    if start and config_id(start[0]) == config_id(found[0]):
        start = []  # it found what it began with
    trials.keep_confirmation(
        {
            "winner": best.number,
            "trials": len(trials.all),
            "found": _folders(found),
            "start": _folders(start),
        }
    )
    configs = {run_id(config): config for config in found + start}
    Sweep(list(configs.values()), name=name).run(runs_per_device)


def _tested(config: RunConfig, plan: Plan) -> list[RunConfig]:
    """Return the runs of a configuration that are tested, with seeds the search has not used."""
    count = plan.settings.confirm
    seeds = [seed for seed in range(count + 1) if seed != plan.start.seed][:count]
    data = config.data.model_copy(update={"val_fraction": 0.0})
    return [config.model_copy(update={"data": data, "seed": seed}) for seed in seeds]


def _folders(configs: Sequence[RunConfig]) -> list[str]:
    return [folder.path.name for folder in RunFolder.of_all(configs)]
