"""The tables and the JSON that `ls` prints."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import differences
from cifar_exp.config.keys import short_names
from cifar_exp.reports.list_runs import ListedRun, ListedSweep
from cifar_exp.terminal import table, wrapped

_MIN_WIDTH = 8  # characters that remain of settings and names
_GAP = 2  # characters between columns
_AGES = ((86_400, "d"), (3600, "h"), (60, "min"))  # seconds
_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))  # bytes


def as_text(
    runs: Sequence[ListedRun],
    sweeps: Sequence[ListedSweep],
    width: int | None = None,
    most: int | None = None,
) -> str:
    """Format the runs and the sweeps as two tables with one row each.

    Args:
        runs: at least one.
        sweeps: any number.
        width: of the terminal in characters, to which settings and names are cut, after the sizes
            were left out; None: not cut.
        most: maximum number of rows of each table; None: no limit.
    """
    now = datetime.now(UTC)
    shown = runs[:most]
    changed = [differences(run.record.config) for run in shown]
    shared = [
        (key, value)
        for key, value in changed[0].items()
        if all(key in one and one[key] == value for one in changed)
    ]
    split = " or ".join(sorted({run.record.evaluated_on for run in shown}))
    rows = [
        {
            "run": run.record.folder.run_id or run.name,
            "status": run.status,
            "settings": _settings([pair for pair in one.items() if pair not in shared]),
            f"{split} accuracy": _accuracy(run.accuracy),
            "epochs": run.epochs,
            "age": _age(now, run.changed),
            "size": _size(run.size_bytes),
        }
        for run, one in zip(shown, changed, strict=True)
    ]
    parts = [_fitted(rows, "settings", width)]
    if shared:
        parts.append(wrapped(f"shared settings: {_settings(shared)}"))
    if sweeps:
        parts.append(_sweep_table(sweeps[:most], now, width))
    cut = [
        f"{most} of {len(listed)} {noun}"
        for noun, listed in (("runs", runs), ("sweeps", sweeps))
        if most is not None and len(listed) > most
    ]
    if cut:
        parts.append(f"{' and '.join(cut)}; use --all to list all")
    return "\n\n".join(parts)


def _part(listed: int, runs: int) -> str:
    return f"{listed} of {runs}" if listed < runs else str(runs)


def _sweep_table(sweeps: Sequence[ListedSweep], now: datetime, width: int | None) -> str:
    rows: list[dict[str, Any]] = [
        {
            "sweep": sweep.name.rpartition("-")[2],
            "name": sweep.name.rpartition("-")[0],
            "runs": _part(len(sweep.listed), sweep.runs),
            "status": sweep.statuses,
            "best": _accuracy(sweep.accuracy),
            "age": _age(now, sweep.changed),
            "size": _size(sweep.size_bytes),
        }
        for sweep in sweeps
    ]
    return _fitted(rows, "name", width)


def _fitted(rows: Sequence[dict[str, Any]], cut: str, width: int | None) -> str:
    """Format a table; where rows do not fit on a line, omit the size and cut the column `cut`."""
    if width is not None:
        if _narrowest(rows) > width:
            rows = [{key: row[key] for key in row if key != "size"} for row in rows]
        room = max(len(row[cut]) for row in rows) - max(0, _narrowest(rows) - width)
        rows = [row | {cut: _shortened(row[cut], max(_MIN_WIDTH, room))} for row in rows]
    return table([list(row.values()) for row in rows], list(rows[0]), width)


def _narrowest(rows: Sequence[dict[str, Any]]) -> int:
    """Return the width of a table in characters if only its header is wrapped."""
    widths = [
        max(len(text) for text in (*title.split(), *(str(row[title]) for row in rows)))
        for title in rows[0]
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _settings(pairs: Sequence[tuple[str, Any]]) -> str:
    names = short_names([key for key, _ in pairs])
    values = (Path(v).name if isinstance(v, str) and "/" in v else v for _, v in pairs)
    return " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def _accuracy(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _age(now: datetime, then: datetime) -> str:
    seconds = max(0, int((now - then).total_seconds()))
    fitting = [f"{seconds // unit} {name}" for unit, name in _AGES if seconds >= unit]
    return fitting[0] if fitting else f"{seconds} s"


def _size(number: int) -> str:
    fitting = [f"{number / unit:.1f} {name}" for unit, name in _SIZES if number >= unit]
    return fitting[0] if fitting else f"{number} B"


def as_json(runs: Sequence[ListedRun], sweeps: Sequence[ListedSweep]) -> dict[str, Any]:
    """Return the runs, with all settings, and the sweeps as values for JSON.

    Args:
        runs: any number.
        sweeps: any number.
    """
    return {
        "runs": [
            {
                "folder": run.name,
                "status": run.status,
                "settings": run.settings,
                run.record.evaluated("accuracy"): run.accuracy,
                "epochs": len(run.record.rows),
                "changed": run.changed.isoformat(timespec="seconds"),
                "size_bytes": run.size_bytes,
            }
            for run in runs
        ],
        "sweeps": [
            {
                "folder": sweep.name,
                "runs": sweep.runs,
                "listed": [run.name for run in sweep.listed],
                **{f"best_{key}": value for key, value in sweep.best.items()},
                "changed": sweep.changed.isoformat(timespec="seconds"),
                "size_bytes": sweep.size_bytes,
            }
            for sweep in sweeps
        ],
    }
