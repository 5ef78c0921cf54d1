"""`python -m cifar_exp selftest`: provokes the faults, and prints the table."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from cifar_exp.errors import UserError
from cifar_exp.selftest.faults import FAULTS, Fault
from cifar_exp.selftest.workspace import BrokenPromiseError, Workspace


def selftest(folder: Path, device: str, rows: Sequence[int]) -> int:
    """Provoke faults, and print what happened.

    Args:
        folder: on the disk that is to be tested; all is written into a new folder in it, which is
            deleted in the end.
        device: to train on, "cpu" or "cuda".
        rows: of docs/reliability.md; none for all that there are.

    Returns:
        The number of promises that did not hold.

    Raises:
        UserError: the folder cannot be written, or there are no such rows.
    """
    chosen = [fault for fault in FAULTS if not rows or fault.row in rows]
    if unknown := {*rows} - {fault.row for fault in FAULTS}:
        known = ", ".join(str(row) for row in sorted({fault.row for fault in FAULTS}))
        raise UserError(f"selftest --only {min(unknown)}: expected some of {known}")
    try:
        # a name that is no plain one is a part of the test
        place = Path(tempfile.mkdtemp(prefix="selftest ü ", dir=folder))
    except OSError as error:
        raise UserError(f"{folder}: expected a folder that can be written ({error})") from error
    try:
        lines = _provoke(chosen, place, device)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(tabulate(lines, _HEADER, maxcolwidths=_WIDTHS, disable_numparse=True))
    broken = sum(line[3].startswith("BROKEN") for line in lines)
    promises = "promise" if broken == 1 else "promises"
    print(f"\n{len(lines)} faults, {broken} {promises} broken" + _hint(broken))
    return broken


_HEADER = ["row", "fault", "what must happen", "what happened", "seconds"]
_WIDTHS = [None, 20, 18, 24, None]
_MOST_AT_ONCE = 4


def _provoke(faults: Sequence[Fault], place: Path, device: str) -> list[list[str]]:
    """Return a line for each fault; several are provoked at once, as far as there are cores."""
    whole = Workspace(place / "undisturbed", device)
    with (
        tqdm(total=len(faults), desc="selftest", disable=None, leave=False) as bar,
        ThreadPoolExecutor(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as pool,
    ):
        whole.train()
        lines = [
            pool.submit(_line, fault, place / str(number), whole, device)
            for number, fault in enumerate(faults)
        ]
        for _ in as_completed(lines):
            bar.update()
    return [line.result() for line in lines]


def _line(fault: Fault, place: Path, whole: Workspace, device: str) -> list[str]:
    started = time.monotonic()
    seen = _seen(fault, place, whole, device)
    seconds = f"{time.monotonic() - started:.0f}"
    return [str(fault.row), fault.what, fault.must, seen, seconds]


def _seen(fault: Fault, place: Path, whole: Workspace, device: str) -> str:
    if not fault.can_be_provoked:
        return "not possible on this system"
    try:
        return fault.provoke(Workspace(place, device), whole)
    except BrokenPromiseError as broken:
        return f"BROKEN: {' '.join(str(broken).split())}"


def _hint(broken: int) -> str:
    return "; `selftest --only ROW` repeats one" * (broken > 0)
