"""Settings of a command, which its runs do not have: `plan` and `budget`."""

import re

from omegaconf import DictConfig

from cifar_exp.errors import UserError

OF_COMMAND = {  # descriptions by name
    "plan": "`true`, or the option `--plan`: print what the command would train and what that "
    "costs, and train nothing",
    "budget": "time for a sweep, study or search, such as `2h`, `30m` or `90s`: no run is started "
    "that would not end in time",
}
_NUMBER = r"(\d+\.?\d*|\.\d+)"
_TIME = re.compile(f"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?")
_SECONDS = (3600, 60, 1)


def is_plan(composed: DictConfig) -> bool:
    """Return whether a command only prints what it would train.

    Raises:
        UserError: the setting is not true or false.
    """
    value = composed.get("plan", False)
    if not isinstance(value, bool):
        raise UserError(f"plan: expected true or false, got {value}")
    return value


def budget_seconds(composed: DictConfig) -> float | None:
    """Return the time that a command may take, in seconds; None for any time.

    Raises:
        UserError: the setting is not a time above 0.
    """
    value = composed.get("budget")
    if value is None:
        return None
    found = _TIME.fullmatch(str(value))
    parts = found.groups("0") if found else ("0", "0", "0")
    seconds = sum(float(part) * unit for part, unit in zip(parts, _SECONDS, strict=True))
    if seconds <= 0:
        raise UserError(f"budget: expected a time such as 2h, 30m, 90s or 1h30m, got {value}")
    return seconds
