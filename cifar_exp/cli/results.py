"""The commands for what is on the disk: ls, table, compare, gc."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError
from cifar_exp.paths import RESULTS, TABLE_FILE
from cifar_exp.terminal import columns, printable

# Each command imports what it needs, so that --help is quick.

_RESULTS = Path(RESULTS)
_HOW = "its folder, its id, or how its name begins"
_LISTED = 20  # runs, and sweeps


def add_commands(commands: Any) -> None:
    """Add them to a parser. Args: commands: what its `add_subparsers` returned."""
    _add_ls(commands)
    table = commands.add_parser("table", help="print the table of a sweep, and write results.csv")
    table.add_argument("sweep", metavar="SWEEP", help=_HOW)
    table.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    kind = table.add_mutually_exclusive_group()
    for name in ("markdown", "latex"):
        kind.add_argument(
            f"--{name}", action="store_const", const=name, dest="format", help="for a paper"
        )
    table.set_defaults(format="text")
    table.set_defaults(run=_table)
    compare = commands.add_parser("compare", help="show in what runs differ")
    compare.add_argument("runs", metavar="RUN", nargs="+", help=_HOW)
    compare.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    compare.set_defaults(run=_compare)
    _add_gc(commands)


def _add_ls(commands: Any) -> None:
    parser = commands.add_parser("ls", help="list the runs, sweeps and searches on this disk")
    parser.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    parser.add_argument("--status", action="append", default=[], help="only these; may be repeated")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only these, as lr=0.1"
    )
    parser.add_argument(
        "--sort",
        default="age",
        metavar="KEY",
        help="age, accuracy, size, status, name or a setting as lr (default: age)",
    )
    parser.add_argument("--all", action="store_true", help=f"not only the first {_LISTED}")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--json", action="store_true", help="for programs, with all settings")
    parser.set_defaults(run=_ls)


def _add_gc(commands: Any) -> None:
    parser = commands.add_parser("gc", help="remove checkpoints of runs that have ended")
    parser.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    parser.add_argument(
        "--replaced", action="store_true", help="and what was set aside by rerun=true"
    )
    parser.add_argument(
        "--interrupted", action="store_true", help="and those of interrupted runs, as pruned trials"
    )
    parser.add_argument("--yes", action="store_true", help="remove; else only show what would be")
    parser.set_defaults(run=_gc)


def _ls(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.list_runs import filter_runs, list_runs, list_sweeps, sort_runs
    from cifar_exp.reports.run_tables import as_json, as_text

    found, unreadable = list_runs(arguments.results)
    runs = sort_runs(filter_runs(found, arguments.status, arguments.where), arguments.sort)
    if arguments.reverse:
        runs.reverse()
    sweeps = list_sweeps(arguments.results, runs)
    if arguments.json:
        print(json.dumps(as_json(runs, sweeps), indent=2))
    elif runs:
        most = None if arguments.all else _LISTED
        print(printable(as_text(runs, sweeps, columns(), most)))
    else:
        print(f"{arguments.results}: no runs" + " like that" * bool(found))
    for problem in unreadable:
        print(printable(problem), file=sys.stderr)
    return 0


def _table(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.records import read_sweep
    from cifar_exp.reports.table import as_text, ranked, write_csv
    from cifar_exp.runs.find import find_sweep
    from cifar_exp.runs.record import remarks

    sweep = find_sweep(arguments.sweep, arguments.results)
    by_id, problems = read_sweep(sweep)
    records = list(by_id.values())
    groups = ranked(records)
    print(printable(as_text(groups, arguments.format, columns())))
    try:
        write_csv(sweep / TABLE_FILE, groups)
    except UserError as error:  # the table is what was asked for
        problems.append(f"results.csv is not written: {error}")
    for problem in (*problems, *remarks(records)):
        print(printable(problem), file=sys.stderr)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.compare import compare
    from cifar_exp.runs.find import find_run

    runs = [find_run(given, arguments.results) for given in arguments.runs]
    table, problems = compare(runs)
    print(printable(table))
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from cifar_exp.runs.cleaning import leftovers

    found = list(leftovers(arguments.results, arguments.replaced, arguments.interrupted))
    freed = 0
    for leftover in found:
        kept = leftover.remove() if arguments.yes else ""
        freed += 0 if kept else leftover.size_bytes
        message = f"  (kept: {kept})" if kept else ""
        print(printable(f"{leftover.size_bytes / 1e6:8.1f} MB  {leftover.path}{message}"))
    if arguments.yes or not found:
        print(f"{freed / 1e6:.1f} MB freed")
    else:
        print(f"{freed / 1e6:.1f} MB would be freed; add --yes to remove these")
    return 0
