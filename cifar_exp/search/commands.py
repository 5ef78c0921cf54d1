"""The command that writes the report of a sweep, or of a search."""

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

from cifar_exp.terminal import printable


def add_commands(commands: Any) -> None:
    """Add it to a parser. Args: commands: what its `add_subparsers` returned."""
    report = commands.add_parser("report", help="write the report of a sweep from its run folders")
    report.add_argument(
        "sweep", type=Path, help="folder of the sweep or search, in multirun_results/"
    )
    report.add_argument(
        "--check", action="store_true", help="change nothing; fail if the report there differs"
    )
    report.set_defaults(run=_report)


def _report(arguments: argparse.Namespace) -> int:
    # imported here, so that --help is quick
    from cifar_exp.search.report import read_search_report
    from cifar_exp.studies.render import check_report, write_report
    from cifar_exp.studies.report import read_report

    is_search = (arguments.sweep / "search.json").exists()
    read = cache(read_search_report if is_search else read_report)
    for problem in read(arguments.sweep).problems:
        print(printable(problem), file=sys.stderr)
    if not arguments.check:
        print(write_report(arguments.sweep, read))
        return 0
    changed = check_report(arguments.sweep, read)
    for file in changed:
        print(f"{file}: differs from what the runs give", file=sys.stderr)
    return 1 if changed else 0
