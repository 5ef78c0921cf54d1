"""Runs grouped by the levels of a setting."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_exp.config.identity import all_settings
from cifar_exp.config.metrics import CURVES
from cifar_exp.config.study import Value, level_name
from cifar_exp.runs.record import Record


def sorted_levels(records: Sequence[Record], key: str) -> dict[Value, list[Record]]:
    """Group runs by the level of a setting; numeric levels ascend, others keep their order.

    Args:
        records: the runs.
        key: dotted key of the setting.
    """
    levels: dict[Value, list[Record]] = {}
    for record in records:
        levels.setdefault(level_of(record, key), []).append(record)
    if all(isinstance(level, int | float) for level in levels):
        return {level: levels[level] for level in sorted(levels, key=float)}  # type: ignore[arg-type]
    return levels


def equal_levels(levels: Mapping[Value, Sequence[Record]]) -> list[list[Value]]:
    """Return the levels whose runs have equal losses and accuracies, in groups of two or more.

    A schedule that changes the learning rate after the last epoch, for example, has no effect.

    Args:
        levels: the runs at each level.
    """
    groups: dict[str, list[Value]] = defaultdict(list)
    for level, records in levels.items():
        if all(record.rows for record in records):
            ordered = sorted(records, key=lambda record: record.config.seed)
            groups[str([(r.config.seed, _curves(r)) for r in ordered])].append(level)
    return [group for group in groups.values() if len(group) > 1]


def _curves(record: Record) -> list[list[Any]]:
    return [[row.get(column) for column in CURVES] for row in record.rows]


def level_of(record: Record, key: str) -> Value:
    """Return the level of a setting in a run; None if the run does not have the setting.

    Args:
        record: the run.
        key: dotted key of the setting.
    """
    value: Value = level_name(all_settings(record.config).get(key))
    return value
