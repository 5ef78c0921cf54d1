"""How things are measured: in turn, several times, told as a median with its spread."""

import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any, TypeVar

import torch
from tabulate import tabulate

from cifar_exp.runs.provenance import provenance

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Table:
    """What a section tells.

    Args:
        title: of the table.
        explanation: sentences on what was measured, and how.
        rows: a column name and a text each, in the order they are shown.
        raw: every single number that was measured, as JSON values.
    """

    title: str
    explanation: str
    rows: list[dict[str, str]]
    raw: list[dict[str, Any]]

    def as_markdown(self) -> str:
        """Return the table with its title and explanation."""
        # the texts are formatted already
        table = tabulate(self.rows, headers="keys", tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{self.explanation}\n\n{table}\n"


def in_turn(
    actions: Mapping[str, Callable[[], _Value]], repetitions: int
) -> dict[str, list[_Value]]:
    """Do all actions once to warm up, and then in turn: A B A B ...

    Args:
        actions: each returns what it measured.
        repetitions: how often each is measured; 1 only shows that it works, without a warm-up.

    Returns:
        What each action measured, in order.
    """
    if repetitions > 1:
        for action in actions.values():
            action()
    measured: dict[str, list[_Value]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            measured[name].append(action())
    return measured


def wait(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of an action and of what it asked of the device."""
    wait(device)
    started = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - started


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each pair that was measured one after the other."""
    return [first / second for first, second in zip(above, below, strict=True)]


def number(value: float) -> str:
    """Return three digits or all before the point: 0.0123, 1.23, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float], factor: float = 1.0) -> str:
    """Return "median (lowest to highest)". Args: factor: on all of them, such as 1000 for ms."""
    low, middle, high = (number(factor * f(values)) for f in (min, median, max))
    return f"{middle} ({low} to {high})"


def at_least(goal: float, values: Sequence[float]) -> dict[str, str]:
    """Return the columns that compare the median with a goal."""
    return {"goal": f"at least {goal:g}", "met": _yes(median(values) >= goal)}


def at_most(goal: float, values: Sequence[float]) -> dict[str, str]:
    """Return the columns that compare the median with a goal."""
    return {"goal": f"at most {goal:g}", "met": _yes(median(values) <= goal)}


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def facts(device: torch.device) -> dict[str, str]:
    """Return on what was measured: hardware, versions, commit and date."""
    known = provenance()
    hardware, versions = known["hardware"], known["versions"]
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": str(known["commit"]),
        "processor": str(hardware["cpu"]),
        "cores": f"{hardware['cores']}, PyTorch takes {torch.get_num_threads()} threads",
        "system": platform.platform(),
        "python": str(known["python"]),
        "torch": str(versions["torch"]),
        "torchvision": str(versions["torchvision"]),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = str(hardware["cuda"])
    return found


def slug(known: Mapping[str, str]) -> str:
    """Return the name of what was measured as a part of a file's name: "amd-epyc"."""
    name = known.get("gpu", known["processor"])
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
