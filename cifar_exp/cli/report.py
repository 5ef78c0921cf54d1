"""The command that writes the report of a sweep, a study or a search: report."""

import argparse
from functools import cache
from typing import Any

from cifar_exp.cli.subcommand import add_command, add_name, add_results, print_problems
from cifar_exp.paths import SEARCH_FILE


def add_commands(commands: Any) -> None:
    """Add the command to the result of `add_subparsers`."""
    does = "Write the report of a sweep, a study or a search from its run folders."
    report = add_command(commands, "report", does, "lr-a65bba6c96", _report)
    add_name(report, "sweep", "SWEEP")
    add_results(report)
    report.add_argument(
        "--check",
        action="store_true",
        help="write nothing, and fail if the stored report differs from the runs",
    )


def _report(arguments: argparse.Namespace) -> int:
    # imported here, so that --help is fast
    from cifar_exp.reports.content import read_report
    from cifar_exp.reports.render import check_report, write_report
    from cifar_exp.runs.find import find_sweep
    from cifar_exp.search.report import read_search_report

    sweep = find_sweep(arguments.sweep, arguments.results)
    is_search = (sweep / SEARCH_FILE).exists()
    read = cache(read_search_report if is_search else read_report)
    print_problems(read(sweep).problems)
    if not arguments.check:
        print(write_report(sweep, read))
        return 0
    changed = check_report(sweep, read)
    print_problems(f"{file}: differs from the report of its runs" for file in changed)
    if not changed:
        print(f"{sweep}: the report agrees with its runs")
    return 1 if changed else 0
