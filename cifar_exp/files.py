"""Files that are there whole or not at all, and never behind a symbolic link."""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from cifar_exp.errors import UserError, causes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp", re.DOTALL)
_MOST_BYTES = 64 * 2**20  # of a file that is read at once


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one.

    A symbolic link at its place is replaced; the file that it leads to stays as it is.

    Args:
        path: where the file goes; its folder exists.
        write: writes everything to the temporary path that it is given.

    Raises:
        OSError: it cannot be written; `filename` is always given.
    """
    # two processes that write the same file must not share the temporary one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # a link there would be followed
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
            error.filename2 = None
        raise
    finally:
        with suppress(OSError):  # of a folder that has gone, for instance
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, unless it has this content: that needs no room on the disk."""
    if not has(path, content):
        write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically, readable for people; as `write_bytes`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def has(path: Path, content: bytes) -> bool:
    """Return whether a regular file has this content; of one that cannot be read, False."""
    try:
        status = path.lstat()
        same_size = stat.S_ISREG(status.st_mode) and status.st_size == len(content)
        return same_size and path.read_bytes() == content
    except OSError:
        return False


def read_text(path: Path, most_bytes: int = _MOST_BYTES) -> str:
    """Read a text file; a pipe or device, which might never end, is not opened.

    Args:
        path: of a regular file, or of a link to one.
        most_bytes: that such a file can have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
        ValueError: it is not UTF-8.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file", str(path))
    if status.st_size > most_bytes:
        raise OSError(errno.EINVAL, f"expected at most {most_bytes:,} bytes", str(path))
    return path.read_text("utf-8")


def open_to_append(path: Path, create: bool = True) -> IO[str]:
    """Open a text file to add lines at its end.

    Args:
        path: of the file.
        create: whether to create it if it does not exist.

    Raises:
        OSError: it is a link, a pipe that nobody reads, or cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT * create
    # without NONBLOCK, to open a pipe would wait for somebody who reads it
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")


def sha256(path: Path, most_bytes: int | None = None) -> str:
    """Return the sha256 sum of a regular file.

    Args:
        path: of the file.
        most_bytes: that such a file can have; None for any number.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    if not path.is_file():  # a pipe would wait
        raise OSError(errno.ENOENT, "expected a regular file", str(path))
    if most_bytes is not None and path.stat().st_size > most_bytes:
        raise OSError(errno.EINVAL, f"expected at most {most_bytes:,} bytes", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_links(folder: Path, within: Path) -> None:
    """Refuse to write into a folder that is reached through a symbolic link.

    Args:
        folder: where files are to be written.
        within: a folder above it, where links may lead to: results are often on another disk.

    Raises:
        UserError: `folder`, or a folder between the two, is a link.
    """
    for path in (folder, *folder.parents):
        if path == within:
            return
        if path.is_symlink():
            raise UserError(
                f"{path}: expected a folder, got a symbolic link, and nothing is written through "
                "links. Remove or rename the link."
            )


def is_locked(file: Path) -> bool:
    """Return whether a process holds a lock file; needs no permission to write.

    Args:
        file: that `filelock.FileLock` locks; it need not exist.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        if fcntl is None:
            return _is_locked_on_windows(file)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # file systems without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _is_locked_on_windows(file: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True


def shortened(name: str, longest_bytes: int) -> str:
    """Cut a name of a file or folder, for which file systems count bytes and not letters."""
    return name.encode()[:longest_bytes].decode(errors="ignore")


def in_bytes(number: int) -> str:
    """Return "40 kB", "120 MB" or "1.5 GB"."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def remove_temporaries(folder: Path, *names: str) -> None:
    """Delete what processes left behind that were killed in `write_atomically`.

    Args:
        folder: that nobody else writes in now.
        names: patterns of the files that are written there, such as `run.json` and
            `figures/*.png`. Links are not followed.
    """
    for name in names:
        inner, _, last = name.rpartition("/")
        for place in _inner_folders(folder, inner):
            for path in place.glob(f".{last}.*.tmp"):
                if _TEMPORARY.fullmatch(path.name) and _is_regular(path):
                    path.unlink(missing_ok=True)


def _inner_folders(folder: Path, pattern: str) -> list[Path]:
    folders = [folder]
    for part in filter(None, pattern.split("/")):
        found = [path for place in folders for path in place.glob(part)]
        folders = [path for path in found if path.is_dir() and not path.is_symlink()]
    return folders


def remove_files(folder: Path, *names: str) -> None:
    """Delete files that the program wrote, and their folder if nothing else is in it.

    Args:
        folder: not followed if it is a link.
        names: patterns of the files; links among them stay.
    """
    if folder.is_symlink():
        return
    for path in [path for name in names for path in folder.glob(name)]:
        if _is_regular(path):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # somebody else's files are in it
        folder.rmdir()


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


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
