"""What the subcommands of `python -m cifar_exp` share."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cifar_exp.paths import RESULTS, RUNS
from cifar_exp.terminal import printable


def add_command(
    commands: Any, name: str, does: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        commands: the result of `add_subparsers`.
        name: of the subcommand.
        does: one sentence that starts with a verb.
        example: arguments of an example.
        run: called with the arguments; returns the exit status.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=does[0].lower() + does[1:].rstrip("."),
        description=f"{does}\n\n    python -m cifar_exp {name} {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the option `--results`."""
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(RESULTS),
        metavar="FOLDER",
        help=f"folder of results, the setting paths.results (default: {RESULTS})",
    )


def add_name(parser: argparse.ArgumentParser, name: str, of: str, nargs: str | None = None) -> None:
    """Add an argument that names a run or a sweep, with tab completion.

    Args:
        parser: of the subcommand, with the option `--results`.
        name: of the argument.
        of: RUN or SWEEP.
        nargs: as in argparse.
    """
    text = "folder, name or id, or the beginning of a name or id"
    argument = parser.add_argument(name, metavar=of, nargs=nargs, help=text)

    def names_and_ids(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        folder = parsed_args.results / RUNS if of == "RUN" else parsed_args.results
        names = os.listdir(folder) if folder.is_dir() else []
        return [word for name in names if name[-11:-10] == "-" for word in (name, name[-10:])]

    argument.completer = names_and_ids  # type: ignore[attr-defined]


def print_problems(problems: Iterable[str]) -> None:
    """Print lines on standard error, without control characters."""
    for problem in problems:
        print(printable(problem), file=sys.stderr)
