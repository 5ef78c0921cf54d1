"""The command for images: check-data."""

import argparse
from pathlib import Path
from typing import Any

from cifar_exp.terminal import printable


def add_commands(commands: Any) -> None:
    """Add it to a parser. Args: commands: what its `add_subparsers` returned."""
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


def _image_size(text: str) -> int:
    if not (text.isdecimal() and 32 <= int(text) <= 512):
        raise argparse.ArgumentTypeError("expected 32 to 512")
    return int(text)


def _check_data(arguments: argparse.Namespace) -> int:
    from cifar_exp.data.inspection import as_text, inspect_data

    inspections = inspect_data(arguments.folder.expanduser(), arguments.image_size)
    print(printable("\n\n".join(map(as_text, inspections))))
    return int(any(inspection.problem_count for inspection in inspections))
