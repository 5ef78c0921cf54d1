"""Files that are there whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cifar_exp.errors import causes

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one.

    Args:
        path: where the file goes; its folder exists.
        write: writes everything to the temporary path that it is given.
    """
    # two processes that write the same file must not share the temporary one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically, readable for people."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def shortened(name: str, longest_bytes: int) -> str:
    """Cut a name of a file or folder, for which file systems count bytes and not letters."""
    return name.encode()[:longest_bytes].decode(errors="ignore")


def in_bytes(number: int) -> str:
    """Return "120 MB" or "1.5 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def remove_temporaries(folder: Path) -> None:
    """Delete what processes left behind that were killed while they wrote.

    Args:
        folder: that nobody else writes in now; folders in it count as well, hidden ones do not.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.name.startswith("."):
            remove_temporaries(inner)


def disk_full(error: BaseException) -> OSError | None:
    """Return what says that a disk, a quota or a limit on files is used up, if that is so.

    PyTorch makes another error of it, "unexpected pos 576 vs 534".
    """
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            return cause
    return None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows cannot open a folder
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
