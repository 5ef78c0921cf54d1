"""Claims on made runs, for the tests of verdicts.

Three differences -d, 0, d around a mean have the standard deviation d. The half-width of their
interval is 4.303 * d / sqrt(3) = 2.484 * d. Their p value is 1 - t / sqrt(t**2 + 2).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Claim, MetricOfRun, Value
from cifar_exp.reports.verdicts import ClaimResult, Levels, judge_claims
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record

# The outcome of the seeds 0, 1, 2 and so on: a value of the metric, or one of these.
DIVERGED, FAILED = "diverged", "failed"
Outcomes = Mapping[Value, Sequence[float | str]]

BASE = (1.0, 1.1, 1.2)  # seeds differ more than levels


def run(seed: int, metric: MetricOfRun, outcome: float | str, **others: float) -> Record:
    status = outcome if isinstance(outcome, str) else "complete"
    value = None if isinstance(outcome, str) else outcome
    column = re.sub("^(final|best|epochs_to)_", "", metric)
    row: dict[str, Any] = {"epoch": 1, column: value, **others}
    rows = [] if outcome == FAILED else [row]
    folder = RunFolder(Path("runs") / "x")
    return Record(RunConfig(seed=seed), folder, status, {"status": status}, rows)


def made(outcomes: Outcomes, metric: MetricOfRun = "final_train_loss") -> Levels:
    return {
        level: [run(seed, metric, outcome) for seed, outcome in enumerate(of_level)]
        for level, of_level in outcomes.items()
    }


def claimed(expects: str, **changes: Any) -> Claim:
    two = {"at": 0.1, "than": 0.01} if expects in ("higher", "lower", "same") else {}
    content = {"says": "S.", "metric": "final_train_loss", "expects": expects, **two}
    return Claim.model_validate(content | changes)


def found(claim: Claim, outcomes: Outcomes) -> ClaimResult:
    result, *_ = judge_claims([claim], made(outcomes, claim.metric))
    return result


def plus(*differences: float) -> list[float]:
    return [value + more for value, more in zip(BASE, differences, strict=True)]


LITTLE = (-0.005, 0.0, 0.005)  # half-width 0.0124
MUCH = (0.5, -0.4, 0.35)  # mean 0.15, half-width 1.2
UP = tuple(0.5 + d for d in LITTLE)
DOWN = tuple(-0.5 + d for d in LITTLE)
MATTERS = 0.1

# The differences of the levels 0.1 and 1.0 from BASE, the values at 0.01.
CASES = {
    "higher": {"supported": (UP, UP), "opposite": (DOWN, DOWN)},
    "lower": {"supported": (DOWN, DOWN), "opposite": (UP, UP)},
    "same": {"supported": (LITTLE, UP), "opposite": (UP, LITTLE)},
    "rises": {"supported": (LITTLE, UP), "opposite": (LITTLE, DOWN)},
    "falls": {"supported": (LITTLE, DOWN), "opposite": (LITTLE, UP)},
    "differs": {"supported": (LITTLE, UP), "opposite": (LITTLE, LITTLE[::-1])},
    # the loss is best where it is lowest
    "best_inside": {"supported": (DOWN, LITTLE), "opposite": (UP, LITTLE)},
}


def outcomes(first: Sequence[float], second: Sequence[float]) -> Outcomes:
    return {0.01: BASE, 0.1: plus(*first), 1.0: plus(*second)}


# t = 5.643: 1 - 5.643 / sqrt(5.643**2 + 2) = 0.03
POINT_03 = (0.0693, 0.1, 0.1307)
# t = 0.8165: 1 - 0.8165 / sqrt(0.8165**2 + 2) = 0.5
POINT_5 = (0.1 - 0.21213, 0.1, 0.1 + 0.21213)
