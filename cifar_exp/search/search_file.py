"""Write search.json and results.csv, which list the trials of a search."""

import csv
import io
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from cifar_exp.files import json_bytes
from cifar_exp.paths import SEARCH_FILE, TABLE_FILE
from cifar_exp.reports.locking import write_locked
from cifar_exp.search.plan import Plan, rounded
from cifar_exp.search.trials import DIVERGED, Trials


def write_search_files(
    folder: Path, plan: Plan, trials: Trials, importance: Mapping[str, float]
) -> None:
    """Write search.json and results.csv.

    Args:
        folder: folder of the search.
        plan: plan of the search.
        trials: trials of the search.
        importance: importance of each setting, summing to 1; empty until the search has ended.

    Raises:
        UserError: the files cannot be written.
    """
    rows = [_row(trial) for trial in trials.all]
    best = trials.best
    content = {
        "id": folder.name.rpartition("-")[2],
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "settings": plan.settings.model_dump(mode="json", exclude={"storage"}),
        "space": {key: str(domain) for key, domain in plan.space.items()},
        "trials": rows,
        "best": best.number if best else None,
        "importance": dict(importance),
        "confirmations": trials.confirmations,
    }
    table = _csv(rows, list(plan.space)).encode()
    write_locked(folder, {SEARCH_FILE: json_bytes(content), TABLE_FILE: table})


def _row(trial: FrozenTrial) -> dict[str, Any]:
    status = _STATUSES[trial.state]
    # after a kill, a running trial may already have a reason and epochs
    reason = trial.user_attrs.get("reason", "") if status in ("pruned", "failed") else ""
    reported = max(trial.intermediate_values, default=0)
    # the run of a pruned trial may have more epochs than were reported
    epochs = trial.user_attrs.get("epochs", reported) if reason else reported
    return {
        "number": trial.number,
        "status": "diverged" if reason == DIVERGED else status,
        "value": trial.value,
        "epochs": epochs,
        "params": rounded(trial.params),
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
