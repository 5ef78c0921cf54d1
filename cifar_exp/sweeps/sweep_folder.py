"""The folder of a sweep: its list of runs, its table and its report."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cifar_exp.files import json_bytes, read_text
from cifar_exp.paths import (
    CONFIG_FILE,
    FIGURES,
    METRICS_FILE,
    REPORT_PAGE,
    REPORT_TEXT,
    STATE_FILE,
    SWEEP_FILE,
    TABLE_FILE,
)
from cifar_exp.reports.locking import write_locked
from cifar_exp.reports.records import read_listed
from cifar_exp.reports.table import Group, as_text, ranked, write_csv
from cifar_exp.runs.record import Record, remarks
from cifar_exp.terminal import columns, printable

_OF_REPORT = (CONFIG_FILE, STATE_FILE, METRICS_FILE)  # the files of a run that a report shows


def write_list(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the content of sweep.json, unless it is already there with any command."""
    with suppress(OSError, ValueError, RecursionError):
        stored = json.loads(read_text(folder / SWEEP_FILE))
        if stored | {"command": content["command"]} == content:
            return
    write_locked(folder, {SWEEP_FILE: json_bytes(dict(content))})


def write_table(
    folder: Path, content: Mapping[str, Any], prints: bool = True
) -> tuple[dict[str, Record], list[str]]:
    """Read the runs, print their table and the answer, and write sweep.json and results.csv.

    Args:
        folder: folder of the sweep, created if it does not exist.
        content: of sweep.json.
        prints: whether to print the table, the answer and the path of results.csv.

    Returns:
        The runs by their ids, and messages about those that are missing or cannot be read.
    """
    by_id, left_out = read_listed(folder.parent, content)
    records = list(by_id.values())
    groups = ranked(records)
    if prints:  # before writing, which may fail
        print(_results_text(groups, content, by_id), flush=True)
    for line in (*left_out, *remarks(records)):
        print(printable(line), file=sys.stderr, flush=True)
    write_list(folder, content)  # the folder may have been deleted
    write_csv(folder / TABLE_FILE, groups)
    if prints:
        print(folder / TABLE_FILE, flush=True)
    return by_id, left_out


def _results_text(
    groups: Sequence[Group], content: Mapping[str, Any], by_id: Mapping[str, Record]
) -> str:
    from cifar_exp.reports.answer import answer_text  # imports SciPy, which is slow

    table, answer = as_text(groups, width=columns()), printable(answer_text(content, by_id))
    return f"\n{table}\n\n{answer}\n" if answer else f"\n{table}\n"


def update_report(folder: Path, by_id: Mapping[str, Record], left_out: Sequence[str]) -> None:
    """Write the report, unless it is newer than its runs, and print its path.

    Args:
        folder: folder of the sweep.
        by_id: the runs by their ids.
        left_out: messages about runs that are missing or cannot be read.
    """
    page, text = folder / REPORT_PAGE, folder / REPORT_TEXT
    has_figures = any((folder / FIGURES).glob("*.png")) or not by_id
    is_whole = has_figures and _is_newer((page, text), _sources(folder, by_id.values()))
    if left_out or not is_whole:
        from cifar_exp.reports.content import report_of
        from cifar_exp.reports.render import write_report  # imports matplotlib, which is slow

        write_report(folder, lambda _: report_of(folder, by_id, left_out))
        with suppress(OSError):  # the folder may be read-only
            for file in (page, text):
                file.touch()  # also if it had the same content
    print(page)


def _sources(folder: Path, records: Iterable[Record]) -> Iterator[Path]:
    """Yield the files from which the report is made."""
    yield folder / SWEEP_FILE
    for record in records:
        yield from (record.folder.path / name for name in _OF_REPORT)
    package = Path(__file__).parents[1]
    yield from (*package.rglob("*.py"), *package.glob("reports/templates/*"))


def _is_newer(files: Iterable[Path], sources: Iterable[Path]) -> bool:
    """Return whether all files were written after the last change of their sources."""
    try:
        written = min(file.stat().st_mtime_ns for file in files)
        # a copied file keeps its modification time, but not the time of its last change
        return all(source.stat().st_ctime_ns < written for source in sources)
    except OSError:
        return False
