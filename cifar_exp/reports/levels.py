"""The runs of a sweep sorted by the levels of its settings."""

from collections.abc import Sequence

from cifar_exp.config.identity import settings
from cifar_exp.config.study import Value, level_name
from cifar_exp.runs.record import Record


def sorted_levels(records: Sequence[Record], key: str) -> dict[Value, list[Record]]:
    """Sort the runs by the level of a setting; numbers ascend, words keep their order."""
    levels: dict[Value, list[Record]] = {}
    for record in records:
        levels.setdefault(level_of(record, key), []).append(record)
    if all(isinstance(level, int | float) for level in levels):
        return dict(sorted(levels.items(), key=lambda item: _sortable(item[0])))
    return levels


def _sortable(level: Value) -> float:
    return float(level)  # type: ignore[arg-type]


def level_of(record: Record, key: str) -> Value:
    """Return the level of a setting in a run; None where it has no such setting."""
    value: Value = level_name(settings(record.config).get(key))
    return value
