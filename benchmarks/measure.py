"""Repeated measurements in turn, reported as a median with its range."""

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """Results of a section.

    Args:
        title: heading of the table.
        explanation: sentences that describe the measurement.
        rows: texts by column name, in the order of the columns.
        raw: all measured numbers, as JSON values.
    """

    title: str
    explanation: str
    rows: list[dict[str, str]]
    raw: list[dict[str, Any]]

    def as_markdown(self) -> str:
        """Return the table with its title and explanation."""
        table = tabulate(self.rows, headers="keys", tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{self.explanation}\n\n{table}\n"


def in_turn(
    actions: Mapping[str, Callable[[], _Value]], repetitions: int, warm_up: bool = True
) -> dict[str, list[_Value]]:
    """Call all actions once to warm up, and then in turn: A B A B ...

    Args:
        actions: functions that return a measurement, by name.
        repetitions: number of measurements of each action; 1 skips the warm-up.
        warm_up: whether to warm up.

    Returns:
        The measurements of each action, in order.
    """
    if warm_up and repetitions > 1:
        for action in actions.values():
            action()
    measured: dict[str, list[_Value]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            measured[name].append(action())
    return measured


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Use `count` CPU threads within the block; 0, that of a run on a GPU, changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait(device: torch.device) -> None:
    """Wait until the device has finished all submitted work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Return the wall time of an action, including the work that it submits to the device."""
    wait(device)
    started = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - started


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of measurements."""
    return [first / second for first, second in zip(above, below, strict=True)]


def number(value: float) -> str:
    """Format with three significant digits, or as an integer from 100: 0.0123, 1.23, 12,300."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float], factor: float = 1.0) -> str:
    """Format as "median (lowest to highest)", with all values multiplied by `factor`."""
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
    """Return hardware, versions, commit and date."""
    known = provenance()
    hardware, versions = known["hardware"], known["versions"]
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": str(known["commit"]),
        "processor": str(hardware["cpu"]),
        "cores": f"{hardware['cores']}, PyTorch uses {torch.get_num_threads()} threads",
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
    """Return the name of the GPU or processor for a file name: "amd-epyc"."""
    name = known.get("gpu", known["processor"])
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
