"""The command that checks the machine: doctor."""

import argparse
import os
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cifar_exp.cli.subcommand import add_command, add_results
from cifar_exp.files import in_bytes, write_bytes
from cifar_exp.terminal import columns, printable, table

if TYPE_CHECKING:
    from cifar_exp.runs.folder import RunFolder
    from cifar_exp.training.loop import Training

# PyTorch takes seconds to import, so each check imports what it needs.

_DATA = Path("data")  # the default of data.root
_WIDTH = 80  # columns, if standard output is not a terminal
_WRITES = 25
_SLOW_WRITE_SECONDS = 0.2  # a run writes one or two files per epoch
_LONGEST_START_SECONDS = 60  # of a process
# The baseline needs 0.6 GB during training, and a sweep keeps 0.2 GB of each run.
_LEAST_FREE_BYTES, _LOW_FREE_BYTES = 10**9, 5 * 10**9
_NCCL_BYTES = 10**9  # Source: NVIDIA's documentation of NCCL, "Sharing Data"
_OTHER_DISK = "choose another disk with paths.results=FOLDER"
# Mount options of NFS that hide locks from other machines.
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock"}


class Result(NamedTuple):
    """Result of a check, and what to do about it."""

    level: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def add_commands(commands: Any) -> None:
    """Add the command to the result of `add_subparsers`."""
    does = "Check packages, GPU, disk, memory and data of this machine, and print what to do."
    parser = add_command(commands, "doctor", does, "--data photos", _doctor)
    add_results(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help=f"the setting data.root (default: {_DATA}, if it exists)",
    )


def _doctor(arguments: argparse.Namespace) -> int:
    results = dict(check_machine(arguments.results, arguments.data))
    rows = [
        (name, f"{result.level}: {result.found}", result.advice) for name, result in results.items()
    ]
    print(printable(table(rows, ["check", "result", "what to do"], columns() or _WIDTH)))
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
        "packages": (_packages, "install torch and torchvision again, in one command"),
        "GPU": (_gpu, "check `nvidia-smi` and update the driver, or use device=cpu"),
        "free space": (lambda: _free_space(folder), _OTHER_DISK),
        "atomic rename": (lambda: _atomic_rename(folder), _OTHER_DISK),
        "locks": (lambda: _locks(folder), _OTHER_DISK),
        "shared memory": (_shared_memory, "mount /dev/shm"),
        "threads": (_threads, "set OMP_NUM_THREADS"),
        "data": (lambda: _data(data), "choose another folder with data.root=FOLDER"),
    }
    for name, (check, advice) in tqdm(checks.items(), "doctor", disable=None, leave=False):
        try:
            yield name, check()
        except Exception as error:  # a broken machine can raise any exception
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            yield name, Result("failed", f"{type(error).__name__}: {reason}", advice)


def _packages() -> Result:
    from packaging.requirements import Requirement

    missing, wrong = [], []
    for requirement in map(Requirement, metadata.requires("cifar-exp") or []):
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            if "extra" not in str(requirement.marker):
                missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if missing:
        return Result("failed", f"not installed: {', '.join(missing)}", "pip install -e .")
    if wrong:
        return Result("warning", "; ".join(wrong), "pip install --upgrade -e .")
    import torchvision  # noqa: F401 -- raises an exception if it was built for another PyTorch

    from cifar_exp.runs.provenance import provenance

    recorded = provenance()
    versions = {"Python": recorded["python"], **recorded["versions"]}
    return Result("ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _gpu() -> Result:
    import torch

    driver = _driver()
    with warnings.catch_warnings(record=True) as caught:  # about a driver that is too old
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if not is_available:
        if not driver or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            return Result("ok", "no GPU; runs train on the CPU")
        reason = str(caught[0].message).partition(". ")[0] if caught else "PyTorch finds no GPU"
        found = f"driver {driver}, PyTorch for CUDA {torch.version.cuda}: {reason}"
        return Result("failed", found, "install a PyTorch for this driver: pytorch.org")
    names = []
    for index in range(torch.cuda.device_count()):
        names.append(f"{torch.cuda.get_device_name(index)}, driver {driver or 'unknown'}")
        torch.cuda.set_device(index)
        captured, eager = _trained(graphs=True), _trained(graphs=False)
        if not captured.replays:
            advice = "training is slower without CUDA graphs; update the driver and PyTorch"
            return Result("warning", f"{names[-1]}: steps cannot be captured", advice)
        weights, expected = captured.model.state_dict(), eager.model.state_dict()
        if not all(torch.equal(weights[key], expected[key]) for key in expected):
            found = f"{names[-1]}: captured steps differ from eager ones"
            return Result("failed", found, "use another GPU, or update the driver and PyTorch")
    return Result("ok", "; ".join(names) + ": captured steps equal eager ones")


def _driver() -> str:
    """Return the version of the GPU's driver; "" if nvidia-smi finds none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def _trained(graphs: bool) -> "Training":
    """Train a small run on the current GPU, with or without CUDA graphs."""
    from cifar_exp.config import schema
    from cifar_exp.data import batches, synthetic
    from cifar_exp.data.settings import Synthetic
    from cifar_exp.models.settings import Model
    from cifar_exp.training.device import choose_compute
    from cifar_exp.training.loop import Training

    config = schema.RunConfig(
        data=Synthetic(batch_size=32, augment="crop_flip"),
        model=Model(name="vgg11", width=0.125, dropout=0.5),
        training=schema.Training(epochs=2),
        device="cuda",
    )
    dataset, compute = synthetic.load(80, 40), choose_compute(config)
    images = batches.DeviceImages(dataset, compute.device)
    run = Training(config, images, dataset.classes, compute, graphs=graphs)
    for _ in run.run():
        pass
    return run


def _free_space(folder: Path) -> Result:
    total, _, free = shutil.disk_usage(folder)
    if not total or free >= _LOW_FREE_BYTES:  # some file systems report no size
        return Result("ok", f"{in_bytes(free)} in {folder}" if total else "not reported")
    level: Literal["warning", "failed"] = "failed" if free < _LEAST_FREE_BYTES else "warning"
    return Result(level, f"{in_bytes(free)} in {folder}", f"free some space, or {_OTHER_DISK}")


def _atomic_rename(folder: Path) -> Result:
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
                    faults.extend(["a read was incomplete"] * (file.read_bytes() not in contents))
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
        return Result("failed", f"while a file was replaced, {faults[0]}", _OTHER_DISK)
    found = f"replacing and syncing a file takes {1000 * seconds:.0f} ms"
    if seconds > _SLOW_WRITE_SECONDS:
        return Result("warning", found, f"slow; {_OTHER_DISK}")
    return Result("ok", found)


def _locks(folder: Path) -> Result:
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
        return Result("failed", f"{kind}: other processes do not see a lock", _OTHER_DISK)
    if not is_released:
        found = f"{kind}: a lock remains after its process is killed"
        return Result("failed", found, _OTHER_DISK)
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


def _shared_memory() -> Result:
    import torch

    get_context("spawn").Lock()  # creates a semaphore, on Linux a file in /dev/shm
    if not os.path.isdir("/dev/shm"):
        return Result("ok", "semaphores can be created")
    free = shutil.disk_usage("/dev/shm").free
    if torch.cuda.device_count() > 1 and free < _NCCL_BYTES:
        advice = "to train a run on several GPUs, start the container with --shm-size=1g"
        return Result("warning", f"{in_bytes(free)} in /dev/shm", advice)
    return Result("ok", f"{in_bytes(free)} in /dev/shm")


def _threads() -> Result:
    import torch

    cores, threads = _cores(), torch.get_num_threads()
    found = f"PyTorch uses {threads} threads on {cores} cores"
    if threads > cores:
        return Result("warning", found, f"set OMP_NUM_THREADS={cores}")
    return Result("ok", found)


def _cores() -> int:
    """Return how many cores this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cores or 1, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups, or "max"
        return cores or 1


def _data(folder: Path | None) -> Result:
    from torchvision.datasets import CIFAR10

    from cifar_exp.data import cifar10
    from cifar_exp.data.class_folders import SPLITS, ClassFolders

    root = folder or _DATA
    archive, extracted = root / str(CIFAR10.filename), root / CIFAR10.base_folder
    if (found := extracted if extracted.exists() else archive).exists():
        altered = (
            cifar10.altered_archive(root)
            if found == archive
            else next(cifar10.altered_files(root), None)
        )
        if altered:
            return Result("failed", altered, f"delete {found} to download it again")
        return Result("ok", f"{found}: the MD5 checksums match")
    folders, advice = ClassFolders(root), f"python -m cifar_exp check-data {root}"
    if not folders.problems:
        images = sum(sum(folders.counts(split)) for split in SPLITS)
        return Result("ok", f"{root}: {images:,} images (contents not checked)", advice)
    if folder is None:
        advice = "data=cifar10 downloads 170 MB; check another folder with --data FOLDER"
        return Result("warning", f"{root}: no images", advice)
    return Result("failed", folders.problems[0], advice)
