"""Atomic, durable file operations that do not follow symbolic links."""

import errno
import fcntl
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

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp", re.DOTALL)
_MAX_BYTES = 64 * 2**20  # of a file that is read whole


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: after a kill, either the old or the new file exists.

    A symbolic link at `path` is replaced; its target does not change.

    Args:
        path: of the file, in an existing folder.
        write: writes the content to the temporary path that it receives.

    Raises:
        OSError: the file cannot be written, or `path` is a folder; `filename` is always set.
    """
    if path.is_dir() and not path.is_symlink():
        reason = "expected a file, got a folder; move or rename it"
        raise IsADirectoryError(errno.EISDIR, reason, str(path))
    # two processes that write the same file must not share the temporary one
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # writing would follow a link
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
            if error.filename2 is not None:  # None would be part of the message
                error.filename2 = str(path)
        raise
    finally:
        with suppress(OSError):  # for example, the folder was deleted
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, unless it already has this content."""
    if not has_content(path, content):
        write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON with `write_bytes`."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    """Return indented JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode()


def has_content(path: Path, content: bytes) -> bool:
    """Return whether a regular file has this content; False if it cannot be read."""
    try:
        status = path.lstat()
        same_size = stat.S_ISREG(status.st_mode) and status.st_size == len(content)
        return same_size and path.read_bytes() == content
    except OSError:
        return False


def read_text(path: Path, max_bytes: int = _MAX_BYTES) -> str:
    """Read a text file. Pipes and devices are not opened, since reading them may never end.

    Args:
        path: of a regular file, or of a link to one.
        max_bytes: largest size accepted.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is too large.
        ValueError: the file is not valid UTF-8.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file", str(path))
    if status.st_size > max_bytes:
        raise OSError(errno.EINVAL, f"expected at most {max_bytes:,} bytes", str(path))
    return path.read_text("utf-8")


def open_to_append(path: Path, create: bool = True) -> IO[str]:
    """Open a text file for appending.

    Args:
        path: of the file.
        create: whether to create a missing file.

    Raises:
        OSError: the file is a link or a pipe without a reader, or cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT * create
    # without O_NONBLOCK, opening a pipe waits for a reader
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")


def sha256(path: Path, max_bytes: int | None = None) -> str:
    """Return the SHA-256 of a regular file, as hex digits.

    Args:
        path: of the file.
        max_bytes: largest size accepted; None for any.

    Raises:
        OSError: the file cannot be read, is not a regular file, or is too large.
    """
    if not path.is_file():  # opening a pipe would block
        raise OSError(errno.ENOENT, "expected a regular file", str(path))
    if max_bytes is not None and path.stat().st_size > max_bytes:
        raise OSError(errno.EINVAL, f"expected at most {max_bytes:,} bytes", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_links(folder: Path, within: Path) -> None:
    """Check that no symbolic link lies between two folders.

    Args:
        folder: where files will be written.
        within: a parent folder; it may be reached through links, to keep results on another disk.

    Raises:
        UserError: `folder`, or a folder between the two, is a link.
    """
    for path in (folder, *folder.parents):
        if path == within:
            return
        if path.is_symlink():
            raise UserError(
                f"{path}: expected a folder, got a symbolic link. Remove or rename the link."
            )


def is_locked(file: Path) -> bool:
    """Return whether a process holds a lock file, without write permission.

    Args:
        file: locked with `filelock.FileLock`; it need not exist.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter on some network file systems
        return True
    except OSError:  # the file system does not support locks
        return False
    finally:
        os.close(descriptor)
    return False


def shortened(name: str, max_bytes: int) -> str:
    """Truncate the name of a file or folder to a number of UTF-8 bytes."""
    # file names may not be valid UTF-8
    return name.encode(errors="replace")[:max_bytes].decode(errors="ignore")


def in_bytes(number: int) -> str:
    """Format a number of bytes: "40 kB", "120 MB" or "1.5 GB"."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.0f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def remove_temporaries(folder: Path, *names: str) -> None:
    """Delete the temporary files of processes that were killed in `write_atomically`.

    Args:
        folder: in which no other process is writing. Links are not followed.
        names: patterns of the files written there, such as `run.json` and `figures/*.png`.
    """
    for name in names:
        inner, _, last = name.rpartition("/")
        for subfolder in _matching_folders(folder, inner):
            for path in subfolder.glob(f".{last}.*.tmp"):
                if _TEMPORARY.fullmatch(path.name) and _is_regular(path):
                    path.unlink(missing_ok=True)


def _matching_folders(folder: Path, pattern: str) -> list[Path]:
    folders = [folder]
    for part in filter(None, pattern.split("/")):
        paths = [path for parent in folders for path in parent.glob(part)]
        folders = [path for path in paths if path.is_dir() and not path.is_symlink()]
    return folders


def remove_files(folder: Path, *names: str) -> None:
    """Delete files that the program wrote, and their folder if it is then empty.

    Args:
        folder: of the files; a link is not followed.
        names: patterns of the files; links are kept.
    """
    if folder.is_symlink():
        return
    for path in [path for name in names for path in folder.glob(name)]:
        if _is_regular(path):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # the folder has other files
        folder.rmdir()


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def disk_full(error: BaseException) -> OSError | None:
    """Return the cause of an error that reports a full disk, quota or file size limit, if any.

    PyTorch raises another error from it, "unexpected pos 576 vs 534".
    """
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            return cause
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
