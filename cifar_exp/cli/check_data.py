"""The command that checks a folder of images: check-data."""

import argparse
from pathlib import Path
from typing import Any

from cifar_exp.cli.subcommand import add_command
from cifar_exp.data.class_folders import TEST_FRACTION
from cifar_exp.expressions import as_path


def add_commands(commands: Any) -> None:
    """Add the command to the result of `add_subparsers`."""
    check = add_command(
        commands, "check-data", "List all problems of a folder of images.", "photos", _check_data
    )
    check.add_argument(
        "folder", type=Path, nargs="?", default="data", help="the setting data.root (default: data)"
    )
    check.add_argument(
        "--image-size",
        type=_image_size,
        default=32,
        metavar="PIXELS",
        help="the setting data.image_size; duplicates are found at this size (default: 32)",
    )
    check.add_argument(
        "--test-fraction",
        type=_fraction,
        default=TEST_FRACTION,
        metavar="FRACTION",
        help="the setting data.test_fraction, for a folder without test/ (default: 0.2)",
    )


def _fraction(text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise argparse.ArgumentTypeError("expected a number between 0 and 1")
    return fraction


def _image_size(text: str) -> int:
    if not (text.isdecimal() and 32 <= int(text) <= 512):
        raise argparse.ArgumentTypeError("expected an integer from 32 to 512")
    return int(text)


def _check_data(arguments: argparse.Namespace) -> int:
    from cifar_exp.data.inspection import as_text, inspect_data

    folder = as_path(str(arguments.folder))
    inspections = inspect_data(folder, arguments.image_size, arguments.test_fraction)
    print("\n\n".join(map(as_text, inspections)))
    return int(any(inspection.problem_count for inspection in inspections))
