"""What a search will train, and what that costs."""

from collections.abc import Mapping, Sequence

from cifar_exp.config.identity import all_settings
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.paths import RUNS, SEARCH_FILE
from cifar_exp.reports.records import read_search
from cifar_exp.reports.stored import StoredSearch
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.search.plan import Compose, Plan, describe, make_plan
from cifar_exp.search.search import check_search, recognising
from cifar_exp.search.space import Domain
from cifar_exp.sweeps.forecast import NOTHING_WRITTEN, at_once
from cifar_exp.sweeps.speeds import Speeds, duration, find_speeds, in_time
from cifar_exp.terminal import columns, printable, table, wrapped


def forecast_search(
    settings: SearchSettings,
    space: Mapping[str, Domain],
    shared: Sequence[str],
    compose: Compose,
    runs_per_device: int | None,
) -> str:
    """Describe what `run_search` would train, and what that costs. Nothing is trained or written.

    The settings of the trials are not known in advance, so the runs at the bounds of the search
    space give the limits. Pruning is not counted.

    Args:
        settings: settings under `hydra.sweeper`.
        space: domain of each key.
        shared: overrides of all trials.
        compose: returns the run of some overrides.
        runs_per_device: number of concurrent runs per device; None for automatic.

    Raises:
        UserError: the settings are invalid, or a run cannot be trained.
    """
    plan = make_plan(settings, space, shared, recognising(compose, writes=False))
    stored = read_search(plan.folder) if (plan.folder / SEARCH_FILE).exists() else None
    trials = stored.trials if stored else []
    interrupted = sum(trial.status == "running" for trial in trials)
    left = max(0, settings.n_trials - len(trials)) + interrupted
    checked, examples = check_search(plan, left, runs_per_device, writes=False)
    speeds = find_speeds(examples, checked)
    workers = len(checked.allocations)
    smallest, *_, largest = sorted([*plan.examples, plan.examples[0]], key=speeds.seconds)
    tests = _tests_left(plan, stored if not left else None)
    shortest, longest = (
        duration([config] * left + [plan.start] * tests, speeds, workers)
        for config in (smallest, largest)
    )
    lines = [
        wrapped(
            f"{settings.n_trials} trials, {left} to train, and {tests} runs that test the best "
            f"settings; {in_time(shortest.low)} to {in_time(longest.high)}, "
            f"{in_bytes(checked.needs.disk_bytes)}, {at_once(checked.allocations, len(examples))}"
        ),
        "",
        _table(plan, {"smallest": smallest, "largest": largest}, speeds),
        "",
        wrapped(f"time: from {speeds.source}; pruned trials take less"),
        NOTHING_WRITTEN,
    ]
    return printable("\n".join(lines))


def _tests_left(plan: Plan, finished: StoredSearch | None) -> int:
    """Return how many runs that test the best trial are to be trained.

    Args:
        plan: plan of the search.
        finished: the search, if all its trials have ended; otherwise another may become the best.
    """
    settings = plan.settings
    tests = [t for t in finished.confirmations if t.winner == finished.best] if finished else []
    if not tests or len(tests[-1].found) != settings.confirm:
        return settings.confirm * (1 + settings.baseline)
    runs = as_path(plan.start.paths.results) / RUNS
    names = tests[-1].found + tests[-1].start
    return sum(RunFolder(runs / name).status not in ENDED for name in names)


def _table(plan: Plan, trials: Mapping[str, RunConfig], speeds: Speeds) -> str:
    rows = [
        (
            name,
            describe({key: all_settings(config).get(key, "") for key in plan.space}),
            config.training.epochs,
            in_time(speeds.seconds(config)),
        )
        for name, config in trials.items()
    ]
    return table(rows, ("trial", "settings", "epochs", "time"), columns() or 80)
