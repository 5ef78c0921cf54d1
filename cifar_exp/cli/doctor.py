"""The command that checks the machine: doctor."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cifar_exp.cli.disk_checks import OTHER_DISK, check_atomic_rename, check_free_space, check_locks
from cifar_exp.cli.machine_checks import (
    DEFAULT_DATA,
    Result,
    check_gpu,
    check_images,
    check_packages,
    check_shared_memory,
    check_threads,
)
from cifar_exp.cli.subcommand import add_command, add_results
from cifar_exp.terminal import USUAL_COLUMNS, columns, table


def add_commands(commands: Any) -> None:
    """Add the command to the result of `add_subparsers`."""
    does = "Check packages, GPU, disk, memory and data of this machine, and print what to do."
    parser = add_command(commands, "doctor", does, "--data photos", _doctor)
    add_results(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"the setting data.root (default: {DEFAULT_DATA}, if it exists)",
    )


def _doctor(arguments: argparse.Namespace) -> int:
    results = dict(check_machine(arguments.results, arguments.data))
    rows = [
        (name, f"{result.level}: {result.found}", result.advice) for name, result in results.items()
    ]
    print(table(rows, ["check", "result", "what to do"], columns() or USUAL_COLUMNS))
    levels = [result.level for result in results.values()]
    print(f"\nfailed: {levels.count('failed')}, warnings: {levels.count('warning')}")
    return int("failed" in levels)


def check_machine(results: Path, data: Path | None) -> Iterator[tuple[str, Result]]:
    """Check this machine, and remove all files that the checks create.

    Args:
        results: folder of results, which may not exist yet.
        data: folder of images; None for the default folder, which may not exist.

    Yields:
        The name and the result of each check. A check that raises an exception has failed.
    """
    from tqdm import tqdm

    folder = next(path for path in (results, *results.absolute().parents) if path.exists())
    checks: dict[str, tuple[Callable[[], Result], str]] = {
        "packages": (check_packages, "install torch and torchvision again, in one command"),
        "GPU": (check_gpu, "check `nvidia-smi` and update the driver, or use device=cpu"),
        "free space": (lambda: check_free_space(folder), OTHER_DISK),
        "atomic rename": (lambda: check_atomic_rename(folder), OTHER_DISK),
        "locks": (lambda: check_locks(folder), OTHER_DISK),
        "shared memory": (check_shared_memory, "mount /dev/shm"),
        "threads": (check_threads, "set OMP_NUM_THREADS"),
        "data": (lambda: check_images(data), "choose another folder with data.root=FOLDER"),
    }
    for name, (check, advice) in tqdm(checks.items(), "doctor", disable=None, leave=False):
        try:
            yield name, check()
        except Exception as error:  # a broken machine can raise any exception
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            yield name, Result("failed", f"{type(error).__name__}: {reason}", advice)
