"""`python -m cifar_exp COMMAND`: what one does with runs and sweeps once they are trained."""

import argparse
import sys
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.terminal import keep_output, printable

# Each command imports what it needs, so that --help is quick.


def main() -> int:
    """Run a command, tell mistakes in a line or two, and return the exit status."""
    keep_output()
    arguments = _parser().parse_args()
    try:
        status: int = arguments.run(arguments)
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except OSError as error:  # of a file or folder that was given
        if error.filename is None:
            raise
        print(printable(f"{error.filename}: {error.strerror}"), file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cifar_exp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="print the table of a sweep, and write results.csv")
    table.add_argument("sweep", type=Path, help="folder of the sweep, in multirun_results/")
    kind = table.add_mutually_exclusive_group()
    for name in ("markdown", "latex"):
        kind.add_argument(
            f"--{name}", action="store_const", const=name, dest="format", help="for a paper"
        )
    table.set_defaults(format="text")
    table.set_defaults(run=_table)
    report = commands.add_parser("report", help="write the report of a sweep from its run folders")
    report.add_argument(
        "sweep", type=Path, help="folder of the sweep or search, in multirun_results/"
    )
    report.add_argument(
        "--check", action="store_true", help="change nothing; fail if the report there differs"
    )
    report.set_defaults(run=_report)
    compare = commands.add_parser("compare", help="show in what runs differ")
    compare.add_argument("runs", type=Path, nargs="+", help="folders in multirun_results/runs/")
    compare.set_defaults(run=_compare)
    check = commands.add_parser("check-data", help="name all problems of a folder of images")
    check.add_argument(
        "folder", type=Path, nargs="?", default="data", help="as data.root (default: data)"
    )
    check.add_argument(
        "--image-size",
        type=_image_size,
        default=32,
        metavar="PIXELS",
        help="as data.image_size; images are compared at this size (default: 32)",
    )
    check.set_defaults(run=_check_data)
    test = commands.add_parser("selftest", help="provoke faults here, and see whether all goes on")
    test.add_argument(
        "folder", type=Path, nargs="?", default=".", help="on the disk to be tested (default: .)"
    )
    test.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    test.add_argument(
        "--only", type=int, nargs="+", default=[], metavar="ROW", help="of docs/reliability.md"
    )
    test.set_defaults(run=_selftest)
    return parser


def _image_size(text: str) -> int:
    if not (text.isdecimal() and 32 <= int(text) <= 512):
        raise argparse.ArgumentTypeError("expected 32 to 512")
    return int(text)


def _table(arguments: argparse.Namespace) -> int:
    from cifar_exp.studies.table import as_text, ranked, read_sweep, write_csv

    groups = ranked(read_sweep(arguments.sweep))
    print(printable(as_text(groups, arguments.format)))
    write_csv(arguments.sweep / "results.csv", groups)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from cifar_exp.search.report import read_search_report
    from cifar_exp.studies.render import check_report, write_report
    from cifar_exp.studies.report import read_report

    is_search = (arguments.sweep / "search.json").exists()
    read = read_search_report if is_search else read_report
    if not arguments.check:
        print(write_report(arguments.sweep, read))
        return 0
    changed = check_report(arguments.sweep, read)
    for file in changed:
        print(f"{file}: differs from what the runs give", file=sys.stderr)
    return 1 if changed else 0


def _compare(arguments: argparse.Namespace) -> int:
    from cifar_exp.studies.compare import compare

    print(printable(compare(arguments.runs)))
    return 0


def _check_data(arguments: argparse.Namespace) -> int:
    from cifar_exp.data.inspection import as_text, inspect_data

    inspections = inspect_data(arguments.folder.expanduser(), arguments.image_size)
    print("\n\n".join(map(as_text, inspections)))
    return int(any(inspection.problem_count for inspection in inspections))


def _selftest(arguments: argparse.Namespace) -> int:
    from cifar_exp.selftest.run import selftest

    return int(selftest(arguments.folder, arguments.device, arguments.only) > 0)


if __name__ == "__main__":
    sys.exit(main())
