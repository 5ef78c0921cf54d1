"""`python -m cifar_exp COMMAND`: what one does with runs and sweeps once they are trained."""

import argparse
import sys
from pathlib import Path

from cifar_exp.errors import UserError


def main() -> int:
    """Run a command, tell mistakes in a line or two, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cifar_exp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="make the table of a sweep anew and print it")
    table.add_argument("sweep", type=Path, help="folder of the sweep, in multirun_results/")
    arguments = parser.parse_args()
    try:
        # each command imports what it needs, so that --help is quick
        from cifar_exp.studies.table import as_text, ranked, read_sweep, write_csv

        groups = ranked(read_sweep(arguments.sweep))
        print(as_text(groups))
        write_csv(arguments.sweep / "results.csv", groups)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
