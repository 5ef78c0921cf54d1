"""The command that writes the report of a sweep, or of a search."""

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

from cifar_exp.paths import RESULTS, SEARCH_FILE
from cifar_exp.terminal import printable

_RESULTS = Path(RESULTS)


def add_commands(commands: Any) -> None:
    """Add it to a parser. Args: commands: what its `add_subparsers` returned."""
    report = commands.add_parser("report", help="write the report of a sweep from its run folders")
    report.add_argument(
        "sweep", metavar="SWEEP", help="its folder, its id, or how its name begins; or a search's"
    )
    report.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    report.add_argument(
        "--check", action="store_true", help="change nothing; fail if the report there differs"
    )
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    # imported here, so that --help is quick
    from cifar_exp.reports.content import read_report
    from cifar_exp.reports.render import check_report, write_report
    from cifar_exp.runs.find import find_sweep
    from cifar_exp.search.report import read_search_report

    sweep = find_sweep(arguments.sweep, arguments.results)
    is_search = (sweep / SEARCH_FILE).exists()
    read = cache(read_search_report if is_search else read_report)
    for problem in read(sweep).problems:
        print(printable(problem), file=sys.stderr)
    if not arguments.check:
        print(write_report(sweep, read))
        return 0
    changed = check_report(sweep, read)
    for file in changed:
        print(f"{file}: differs from what the runs give", file=sys.stderr)
    return 1 if changed else 0
