"""The command that checks what depends on the user's machine: doctor."""

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

from cifar_exp.files import in_bytes, write_bytes
from cifar_exp.paths import RESULTS
from cifar_exp.terminal import columns, printable, table

if TYPE_CHECKING:
    from cifar_exp.runs.folder import RunFolder
    from cifar_exp.training.loop import Training

# PyTorch takes seconds, so each check imports what it needs.

_RESULTS, _DATA = Path(RESULTS), Path("data")  # as paths.results and data.root
_WIDTH = 80  # columns, where standard output is no terminal
_WRITES = 25
_SLOW_WRITE_SECONDS = 0.2  # a run writes a file or two in each epoch
_LONGEST_START_SECONDS = 60  # of a process
# A run of the baseline needs 0.6 GB while it trains, and a sweep keeps 0.2 GB of each run.
_LEAST_FREE_BYTES, _FEW_FREE_BYTES = 10**9, 5 * 10**9
_NCCL_BYTES = 10**9  # Source: NVIDIA's documentation of NCCL, "Sharing Data"
_OTHER_DISK = "choose another disk with paths.results=FOLDER"
# Options of NFS with which other machines do not see a lock.
_LOCAL_LOCKS = {"nolock", "local_lock=all", "local_lock=flock"}


class Result(NamedTuple):
    """How a check went, and what to do about it."""

    level: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def add_commands(commands: Any) -> None:
    """Add it to a parser. Args: commands: what its `add_subparsers` returned."""
    parser = commands.add_parser("doctor", help="check this machine, and print what to do")
    parser.add_argument("--results", type=Path, default=_RESULTS, help=f"default: {_RESULTS}")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help=f"as data.root (default: {_DATA}, if it exists)"
    )
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    results = dict(check_machine(arguments.results, arguments.data))
    rows = [(name, f"{one.level}: {one.found}", one.advice) for name, one in results.items()]
    print(printable(table(rows, ["check", "result", "what to do"], columns() or _WIDTH)))
    levels = [one.level for one in results.values()]
    print(f"\n{levels.count('failed')} failed, {levels.count('warning')} warnings")
    return int("failed" in levels)


def check_machine(results: Path, data: Path | None) -> Iterator[tuple[str, Result]]:
    """Check what runs depend on, and nothing remains of it.

    Args:
        results: as paths.results; it need not exist.
        data: as data.root; None for the default, which need not exist.

    Yields:
        The name and the result of each check; one that raises an error has failed.
    """
    from tqdm import tqdm

    place = next(path for path in (results, *results.absolute().parents) if path.exists())
    checks: dict[str, tuple[Callable[[], Result], str]] = {
        "packages": (_packages, "pip install -e ."),
        "GPU": (_gpu, "use device=cpu; check `nvidia-smi`, and update the driver"),
        "free space": (lambda: _free_space(place), _OTHER_DISK),
        "atomic rename": (lambda: _atomic_rename(place), _OTHER_DISK),
        "locks": (lambda: _locks(place), _OTHER_DISK),
        "shared memory": (_shared_memory, "mount /dev/shm"),
        "threads": (_threads, "set OMP_NUM_THREADS"),
        "data": (lambda: _data(data), "choose another folder with data.root=FOLDER"),
    }
    for name, (check, advice) in tqdm(checks.items(), "doctor", disable=None, leave=False):
        try:
            yield name, check()
        except Exception as error:  # there is no list of what may be wrong with a machine
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
    from cifar_exp.runs.provenance import provenance

    recorded = provenance()
    versions = {"Python": recorded["python"], **recorded["versions"]}
    return Result("ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _gpu() -> Result:
    import torch

    driver = _driver()
    with warnings.catch_warnings(record=True) as caught:  # of a driver that is too old
        warnings.simplefilter("always")
        is_available = torch.cuda.is_available()
    if not is_available:
        if not driver or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            return Result("ok", "none; runs train on the CPU")
        reason = str(caught[0].message).partition(". ")[0] if caught else "PyTorch finds no GPU"
        found = f"driver {driver}, torch for CUDA {torch.version.cuda}: {reason}"
        return Result("failed", found, "install a torch for this driver: pytorch.org")
    names = []
    for index in range(torch.cuda.device_count()):
        names.append(f"{torch.cuda.get_device_name(index)}, driver {driver or 'unknown'}")
        torch.cuda.set_device(index)
        captured, eager = _trained(graphs=True), _trained(graphs=False)
        if not captured.replays:
            advice = "runs train without CUDA graphs, more slowly; update driver and torch"
            return Result("warning", f"{names[-1]}: steps cannot be captured", advice)
        weights, expected = captured.model.state_dict(), eager.model.state_dict()
        if not all(torch.equal(weights[key], expected[key]) for key in expected):
            found = f"{names[-1]}: captured steps differ from eager ones"
            return Result("failed", found, "use another GPU, or update driver and torch")
    return Result("ok", "; ".join(names) + ": captured steps equal eager ones")


def _driver() -> str:
    """Return the version of the GPU's driver; "" where nvidia-smi finds none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def _trained(graphs: bool) -> "Training":
    """Train a small run on the current GPU. Args: graphs: whether steps are captured."""
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


def _free_space(place: Path) -> Result:
    total, _, free = shutil.disk_usage(place)
    if not total or free >= _FEW_FREE_BYTES:  # some file systems report no size at all
        return Result("ok", f"{in_bytes(free)} in {place}" if total else "not reported")
    level: Literal["warning", "failed"] = "failed" if free < _LEAST_FREE_BYTES else "warning"
    return Result(level, f"{in_bytes(free)} in {place}", f"make room, or {_OTHER_DISK}")


def _atomic_rename(place: Path) -> Result:
    """Replace a file again and again, while it is read: each time it must be whole."""
    contents = [bytes([number]) * 2**16 for number in range(_WRITES + 1)]
    torn, ended = list[str](), threading.Event()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as folder:
        file = Path(folder) / "file"
        write_bytes(file, contents[0])

        def read() -> None:
            is_last = False
            while not is_last:
                is_last = ended.is_set()
                try:
                    torn.extend(["half of it was read"] * (file.read_bytes() not in contents))
                except OSError as error:
                    torn.append(f"it could not be read ({error.strerror})")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(read)
            started = time.monotonic()
            try:
                for content in contents[1:]:
                    write_bytes(file, content)
            finally:
                ended.set()
        seconds = (time.monotonic() - started) / _WRITES
    if torn:
        return Result("failed", f"while a file was replaced, {torn[0]}", _OTHER_DISK)
    found = f"a file is replaced and synced in {1000 * seconds:.0f} ms"
    if seconds > _SLOW_WRITE_SECONDS:
        return Result("warning", found, f"slow; {_OTHER_DISK}")
    return Result("ok", found)


def _locks(place: Path) -> Result:
    """Lock a run in another process, which is killed: the lock must be seen, and then be gone."""
    from cifar_exp.runs.folder import RunFolder

    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as folder:
        run = RunFolder(Path(folder) / "run")
        with run.lock():  # raises an error here where there are no locks at all
            run.write_state({"status": "running"})
        holder = context.Process(target=_hold, args=(run, theirs), daemon=True)
        holder.start()
        theirs.close()  # so that its end is noticed
        try:
            if not ours.poll(_LONGEST_START_SECONDS):
                return Result("warning", "another process did not start in time", "repeat it")
            ours.recv()
            seen = _is_locked(run)
        finally:
            holder.kill()
            holder.join()
        freed = not _is_locked(run)
    kind, options = _file_system(place)
    if not seen or not freed:
        found = "stays when its process is killed" if seen else "is not seen by other processes"
        return Result("failed", f"{kind}: a lock {found}", _OTHER_DISK)
    if local := options & _LOCAL_LOCKS:
        found = f"{kind}, {', '.join(local)}: seen on this machine alone"
        return Result("warning", found, "use the results on one machine at a time")
    return Result("ok", f"{kind}: seen by other processes, and freed")


def _is_locked(run: "RunFolder") -> bool:
    """Return whether both ways to see a lock see it."""
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

    get_context("spawn").Lock()  # a semaphore, which is a file in /dev/shm on Linux
    if not os.path.isdir("/dev/shm"):
        return Result("ok", "semaphores can be made")
    free = shutil.disk_usage("/dev/shm").free
    if torch.cuda.device_count() > 1 and free < _NCCL_BYTES:
        advice = "for a run on several GPUs start the container with --shm-size=1g"
        return Result("warning", f"{in_bytes(free)} in /dev/shm", advice)
    return Result("ok", f"{in_bytes(free)} in /dev/shm")


def _threads() -> Result:
    import torch

    cores, threads = _cores(), torch.get_num_threads()
    found = f"{threads} of PyTorch, on {cores} cores"
    if threads > cores:
        return Result("warning", found, f"set OMP_NUM_THREADS={cores}")
    return Result("ok", found)


def _cores() -> int:
    """Return how many cores this process may use: its affinity, and a container's quota."""
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
    if (place := extracted if extracted.exists() else archive).exists():
        altered = (
            cifar10.altered_archive(root)
            if place == archive
            else next(cifar10.altered_files(root), None)
        )
        if altered:
            return Result("failed", altered, f"delete {place}, to get it again")
        return Result("ok", f"{place}: as published, by its MD5")
    folders, advice = ClassFolders(root), f"python -m cifar_exp check-data {root}"
    if not folders.problems:
        images = sum(sum(folders.counts(split)) for split in SPLITS)
        return Result("ok", f"{root}: {images:,} images, of which none was read", advice)
    if folder is None:
        advice = "data=cifar10 downloads 170 MB; check another folder with --data FOLDER"
        return Result("warning", f"{root}: no images", advice)
    return Result("failed", folders.problems[0], advice)
