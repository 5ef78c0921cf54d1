"""The command for this machine: selftest."""

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add it to a parser. Args: commands: what its `add_subparsers` returned."""
    test = commands.add_parser("selftest", help="provoke faults here, and see whether all goes on")
    test.add_argument(
        "folder", type=Path, nargs="?", default=".", help="on the disk to be tested (default: .)"
    )
    test.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    test.add_argument(
        "--only", type=int, nargs="+", default=[], metavar="ROW", help="of docs/reliability.md"
    )
    test.set_defaults(run=_selftest)


def _selftest(arguments: argparse.Namespace) -> int:
    from cifar_exp.selftest.run import selftest

    return int(selftest(arguments.folder, arguments.device, arguments.only) > 0)
