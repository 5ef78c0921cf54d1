"""search.json and results.csv: what a search has come to, for people and for the report."""

import csv
import io
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from cifar_exp.files import write_bytes, write_json
from cifar_exp.paths import SEARCH_FILE, TABLE_FILE
from cifar_exp.reports.locking import writing
from cifar_exp.search.plan import Plan, as_trained
from cifar_exp.search.trials import DIVERGED, Trials


def write_listing(
    folder: Path, plan: Plan, trials: Trials, importance: Mapping[str, float]
) -> None:
    """Write both files anew.

    Args:
        folder: of the search.
        plan: of the search.
        trials: all of them.
        importance: of the settings; empty while the search goes on.

    Raises:
        UserError: they cannot be written.
    """
    listed = [_listed(trial) for trial in trials.all]
    best = trials.best
    content = {
        "id": folder.name.rpartition("-")[2],
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "settings": plan.settings.model_dump(mode="json", exclude={"storage"}),
        "space": {key: str(domain) for key, domain in plan.space.items()},
        "trials": listed,
        "best": best.number if best else None,
        "importance": dict(importance),
        "confirmations": trials.confirmations,
    }
    with writing(folder):
        write_json(folder / SEARCH_FILE, content)
        write_bytes(folder / TABLE_FILE, _csv(listed, list(plan.space)).encode())


def _listed(trial: FrozenTrial) -> dict[str, Any]:
    status = _STATUSES[trial.state]
    # a kill can leave the reason of an end that did not come
    reason = trial.user_attrs.get("reason", "") if status in ("pruned", "failed") else ""
    reported = max(trial.intermediate_values, default=0)
    # likewise; a run that is pruned trains on until it is asked to stop
    epochs = trial.user_attrs.get("epochs", reported) if reason else reported
    return {
        "number": trial.number,
        "status": "diverged" if reason == DIVERGED else status,
        "value": trial.value,
        "epochs": epochs,
        "params": as_trained(trial.params),
        "run": trial.user_attrs.get("run"),
        "reason": reason,
    }


_STATUSES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def _csv(trials: list[dict[str, Any]], keys: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("number", "status", "value", "epochs", "run", "reason")
    writer.writerow([*names, *keys])
    for trial in trials:
        writer.writerow([*(trial[name] for name in names), *map(trial["params"].get, keys)])
    return text.getvalue()
