"""What tells runs apart: settings and results side by side."""

from collections.abc import Sequence

from cifar_exp.config.identity import settings
from cifar_exp.errors import UserError
from cifar_exp.reports.metrics import MEASURES, measured
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, read_record, remarks
from cifar_exp.terminal import columns, table


def compare(folders: Sequence[RunFolder]) -> tuple[str, list[str]]:
    """Return a table: a column a run, a line each setting that differs and each result.

    Args:
        folders: of two runs or more.

    Returns:
        The table of the runs that can be read, and a line about each of the others, and about
        those that cannot be trusted.

    Raises:
        UserError: fewer than two of them can be read.
    """
    if len(folders) < 2:
        raise UserError("compare: expected two runs or more")
    records, problems = [], []
    for folder in folders:
        try:
            records.append(read_record(folder))
        except UserError as error:
            problems.append(str(error))
    if len(records) < 2:
        raise UserError(problems[0])
    lines = [*_differing_settings(records), *_results(records)]
    header = ["", *(f"run {place}" for place in range(1, len(records) + 1))]
    names = "\n".join(
        f"run {place}: {record.folder.path.name}" for place, record in enumerate(records, 1)
    )
    return f"{names}\n\n{table(lines, header, columns())}", problems + remarks(records)


def _differing_settings(records: Sequence[Record]) -> list[list[str]]:
    flat = [settings(record.config) for record in records]
    keys = list(dict.fromkeys(key for run in flat for key in run))
    lines = [[key, *(str(run.get(key, "")) for run in flat)] for key in keys]
    return [line for line in lines if len(set(line[1:])) > 1]


def _results(records: Sequence[Record]) -> list[list[str]]:
    lines = [["status", *(record.status for record in records)]]
    for metric, measure in MEASURES.items():
        if metric.startswith("epochs_to"):
            continue  # to which accuracy?
        values = [measured(record, metric) for record in records]
        message = ["" if value is None else measure.text(value) for value in values]
        lines.append([measure.label, *message])
    return lines
