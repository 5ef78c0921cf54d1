"""The commands for stored runs and sweeps: ls, table, compare, gc."""

import argparse
import json
from typing import Any

from cifar_exp.cli.subcommand import add_command, add_name, add_results, print_problems
from cifar_exp.errors import UserError
from cifar_exp.paths import TABLE_FILE
from cifar_exp.terminal import columns

# Each command imports what it needs, so that --help is fast.

_LISTED = 20  # runs, and sweeps


def add_commands(commands: Any) -> None:
    """Add the commands to the result of `add_subparsers`."""
    _add_ls(commands)
    does = "Print the table of a sweep, and write it to results.csv."
    table = add_command(commands, "table", does, "38afae4dc0 --markdown", _table)
    add_name(table, "sweep", "SWEEP")
    add_results(table)
    formats = table.add_mutually_exclusive_group()
    for name, title in (("markdown", "Markdown"), ("latex", "LaTeX")):
        formats.add_argument(
            f"--{name}",
            action="store_const",
            const=name,
            dest="format",
            default="text",
            help=f"print the table in {title}",
        )
    does = "Compare runs: print the settings that differ and the results."
    compare = add_command(commands, "compare", does, "d0f285f6f0 d48f18", _compare)
    add_name(compare, "runs", "RUN", nargs="+")
    add_results(compare)
    _add_gc(commands)


def _add_ls(commands: Any) -> None:
    does = "List the stored runs, sweeps and searches."
    parser = add_command(commands, "ls", does, "--where lr=0.01 --sort accuracy", _ls)
    add_results(parser)
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        help="list only runs with this status, such as complete or failed; can be repeated",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="list only runs with this setting, such as lr=0.1; can be repeated",
    )
    parser.add_argument(
        "--sort",
        default="age",
        metavar="KEY",
        help="age, accuracy, size, status, name or a setting such as lr (default: age)",
    )
    parser.add_argument("--all", action="store_true", help=f"list all instead of {_LISTED}")
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument("--json", action="store_true", help="print JSON with all settings")


def _add_gc(commands: Any) -> None:
    does = "List the checkpoints of runs that have ended, and with --yes delete them."
    parser = add_command(commands, "gc", does, "--replaced --yes", _gc)
    add_results(parser)
    parser.add_argument(
        "--replaced", action="store_true", help="include runs that rerun=true replaced"
    )
    parser.add_argument(
        "--interrupted",
        action="store_true",
        help="include interrupted runs and pruned trials, which then cannot be resumed",
    )
    parser.add_argument("--yes", action="store_true", help="delete the listed files")


def _ls(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.list_runs import filter_runs, list_runs, list_sweeps, sort_runs
    from cifar_exp.reports.run_tables import as_json, as_text

    found, unreadable = list_runs(arguments.results)
    runs = sort_runs(filter_runs(found, arguments.status, arguments.where), arguments.sort)
    if arguments.reverse:
        runs.reverse()
    sweeps, unreadable_sweeps = list_sweeps(arguments.results, runs)
    if arguments.json:
        print(json.dumps(as_json(runs, sweeps), indent=2))
    elif runs:
        limit = None if arguments.all else _LISTED
        print(as_text(runs, sweeps, columns(), limit))
    else:
        print(f"{arguments.results}: no {'matching ' * bool(found)}runs")
    print_problems([*unreadable, *unreadable_sweeps])
    return 0


def _table(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.answer import answer_text
    from cifar_exp.reports.records import read_list, read_sweep
    from cifar_exp.reports.table import as_text, ranked, write_csv
    from cifar_exp.runs.find import find_sweep
    from cifar_exp.runs.record import remarks

    sweep = find_sweep(arguments.sweep, arguments.results)
    by_id, problems = read_sweep(sweep)
    records = list(by_id.values())
    groups = ranked(records)
    print(as_text(groups, arguments.format, columns()))
    if arguments.format == "text" and (text := answer_text(read_list(sweep), by_id)):
        print(f"\n{text}")
    try:
        write_csv(sweep / TABLE_FILE, groups)
    except UserError as error:  # the table was printed
        problems.append(f"results.csv was not written: {error}")
    print_problems([*problems, *remarks(records)])
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from cifar_exp.reports.compare import compare
    from cifar_exp.runs.find import find_run

    runs = [find_run(name, arguments.results) for name in arguments.runs]
    table, problems = compare(runs)
    print(table)
    print_problems(problems)
    return 0


def _gc(arguments: argparse.Namespace) -> int:
    from cifar_exp.runs.cleaning import leftovers

    found = list(leftovers(arguments.results, arguments.replaced, arguments.interrupted))
    freed_bytes = 0
    for leftover in found:
        reason = leftover.remove() if arguments.yes else ""
        freed_bytes += 0 if reason else leftover.size_bytes
        remark = f"  (kept: {reason})" if reason else ""
        print(f"{leftover.size_bytes / 1e6:8.1f} MB  {leftover.path}{remark}")
    if not found:
        print(f"{arguments.results}: found no checkpoints to delete")
    elif arguments.yes:
        print(f"{freed_bytes / 1e6:.1f} MB freed")
    else:
        print(f"{freed_bytes / 1e6:.1f} MB would be freed; add --yes to delete these files")
    return 0
