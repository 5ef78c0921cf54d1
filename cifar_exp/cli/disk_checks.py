"""Checks of the results' file system for the command doctor."""

import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.cli.machine_checks import Result
from cifar_exp.files import in_bytes, write_bytes

if TYPE_CHECKING:
    from cifar_exp.runs.folder import RunFolder

_WRITES = 25
_SLOW_WRITE_SECONDS = 0.2  # a run writes one or two files per epoch
_LONGEST_START_SECONDS = 60  # of a process
# The baseline needs 0.6 GB during training, and a sweep keeps 0.2 GB of each run.
_LEAST_FREE_BYTES, _LOW_FREE_BYTES = 10**9, 5 * 10**9
OTHER_DISK = "choose another disk with paths.results=FOLDER"
# Mount options of NFS that hide locks from other machines.
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock"}


def check_free_space(folder: Path) -> Result:
    """Check the free space of a folder's disk."""
    total, _, free = shutil.disk_usage(folder)
    if not total:  # some file systems report no size
        return Result("ok", "not reported")
    found, advice = f"{in_bytes(free)} in {folder}", f"free some space, or {OTHER_DISK}"
    if free < _LEAST_FREE_BYTES:
        return Result("failed", found, advice)
    return Result("warning", found, advice) if free < _LOW_FREE_BYTES else Result("ok", found)


def check_atomic_rename(folder: Path) -> Result:
    """Replace a file repeatedly while another thread reads it: each read must be complete."""
    contents = [bytes([value]) * 2**16 for value in range(_WRITES + 1)]
    faults, ended = list[str](), threading.Event()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as temporary:
        file = Path(temporary) / "file"
        write_bytes(file, contents[0])

        def read() -> None:
            is_last = False
            while not is_last:
                is_last = ended.is_set()
                try:
                    if file.read_bytes() not in contents:
                        faults.append("a read was incomplete")
                except OSError as error:
                    faults.append(f"a read failed ({error.strerror})")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(read)
            started = time.monotonic()
            try:
                for content in contents[1:]:
                    write_bytes(file, content)
            finally:
                ended.set()
        seconds = (time.monotonic() - started) / _WRITES
    if faults:
        return Result("failed", f"while a file was replaced, {faults[0]}", OTHER_DISK)
    found = f"replacing and syncing a file takes {1000 * seconds:.0f} ms"
    if seconds > _SLOW_WRITE_SECONDS:
        return Result("warning", found, f"slow; {OTHER_DISK}")
    return Result("ok", found)


def check_locks(folder: Path) -> Result:
    """Lock a run in another process and kill it: the lock must be visible, and then released."""
    from cifar_exp.runs.folder import RunFolder

    context = get_context("spawn")
    receiver, sender = context.Pipe()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as temporary:
        run = RunFolder(Path(temporary) / "run")
        with run.lock():  # raises an exception if the file system has no locks
            run.write_state({"status": "running"})
        holder = context.Process(target=_hold, args=(run, sender), daemon=True)
        holder.start()
        sender.close()  # else `poll` does not return when the process ends
        try:
            if not receiver.poll(_LONGEST_START_SECONDS):
                return Result("warning", "another process did not start in time", "try again")
            receiver.recv()
            is_visible = _is_locked(run)
        finally:
            holder.kill()
            holder.join()
        is_released = not _is_locked(run)
    kind, options = _file_system(folder)
    if not is_visible:
        return Result("failed", f"{kind}: other processes do not see a lock", OTHER_DISK)
    if not is_released:
        found = f"{kind}: a lock remains after its process is killed"
        return Result("failed", found, OTHER_DISK)
    if local := options & _LOCAL_LOCKS:
        found = f"{kind}, {', '.join(local)}: other machines do not see locks"
        return Result("warning", found, "use the results on one machine at a time")
    return Result("ok", f"{kind}: visible to other processes, and released")


def _is_locked(run: "RunFolder") -> bool:
    """Return whether a run is locked, both by its lock and by its status."""
    from cifar_exp.runs.folder import BusyError

    try:
        with run.lock():
            return False
    except BusyError:
        return run.status == "running"


def _hold(run: "RunFolder", connection: Connection) -> None:
    with run.lock():
        connection.send("held")
        connection.recv()


def _file_system(folder: Path) -> tuple[str, set[str]]:
    """Return the type of a folder's file system and its mount options, on Linux."""
    found: tuple[int, str, set[str]] = (-1, "this file system", set())
    mounts = Path("/proc/self/mounts")
    for line in mounts.read_text().splitlines() if mounts.exists() else []:
        _, escaped, kind, options, *_ = line.split(" ")
        mount = Path(escaped.replace("\\040", " "))
        if folder.resolve().is_relative_to(mount) and len(mount.parts) >= found[0]:
            found = len(mount.parts), kind, set(options.split(","))
    return found[1:]
