"""Settings and results of runs side by side."""

from collections.abc import Sequence

from cifar_exp.config.identity import all_settings
from cifar_exp.errors import UserError
from cifar_exp.reports.metrics import MEASURES, measured
from cifar_exp.reports.records import read_records
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, remarks
from cifar_exp.terminal import columns, table

# Characters that are enough for the labels and for each run.
_LABEL_WIDTH, _COLUMN_WIDTH = 18, 11


def compare(folders: Sequence[RunFolder]) -> tuple[str, list[str]]:
    """Compare runs in a table with one column per run.

    The rows are the settings that differ, and the results.

    Args:
        folders: two or more.

    Returns:
        The table of the runs that can be read, and a message for each unreadable or damaged run.

    Raises:
        UserError: fewer than two runs can be read.
    """
    if len(folders) < 2:
        raise UserError("compare: expected at least two runs")
    records, problems = read_records(folders)
    if len(records) < 2:
        raise UserError(problems[0])
    rows = [*_differing_settings(records), *_results(records)]
    names = [f"run {number}" for number in range(1, len(records) + 1)]
    legend = "\n".join(
        f"{name}: {record.folder.path.name}" for name, record in zip(names, records, strict=True)
    )
    width = columns()
    at_once = len(names) if width is None else max(1, (width - _LABEL_WIDTH) // _COLUMN_WIDTH)
    tables = [
        table([[row[0], *row[part]] for row in rows], ["", *names[start : start + at_once]], width)
        for start in range(0, len(names), at_once)
        for part in [slice(1 + start, 1 + start + at_once)]
    ]
    return "\n\n".join([legend, *tables]), problems + remarks(records)


def _differing_settings(records: Sequence[Record]) -> list[list[str]]:
    flat = [all_settings(record.config) for record in records]
    keys = list(dict.fromkeys(key for run in flat for key in run))
    rows = [[key, *(str(run.get(key, "")) for run in flat)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _results(records: Sequence[Record]) -> list[list[str]]:
    rows = [["status", *(record.status for record in records)]]
    for metric, measure in MEASURES.items():
        if metric.startswith("epochs_to"):
            continue  # the accuracy to reach is part of a claim
        values = [measured(record, metric) for record in records]
        cells = ["" if value is None else measure.text(value) for value in values]
        if any(cells):  # such as metrics that no run measures
            rows.append([measure.label, *cells])
    return rows
