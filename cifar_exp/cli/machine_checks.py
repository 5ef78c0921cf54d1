"""Checks of packages, GPU, memory, threads and data for the command doctor."""

import os
import shutil
import subprocess
import warnings
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cifar_exp.files import in_bytes

if TYPE_CHECKING:
    from cifar_exp.training.loop import Training

# PyTorch takes seconds to import, so each check imports what it needs.

DEFAULT_DATA = Path("data")  # the default of data.root
_NCCL_BYTES = 10**9  # Source: NVIDIA's documentation of NCCL, "Sharing Data"


class Result(NamedTuple):
    """Result of a check, and what to do about it."""

    level: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def check_packages() -> Result:
    """Check that the required packages are installed in supported versions."""
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


def check_gpu() -> Result:
    """Check that PyTorch finds the GPU and that captured steps equal eager ones."""
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


def check_shared_memory() -> Result:
    """Check that semaphores can be created, and the size of /dev/shm for several GPUs."""
    import torch

    get_context("spawn").Lock()  # creates a semaphore, on Linux a file in /dev/shm
    if not os.path.isdir("/dev/shm"):
        return Result("ok", "semaphores can be created")
    free = shutil.disk_usage("/dev/shm").free
    if torch.cuda.device_count() > 1 and free < _NCCL_BYTES:
        advice = "to train a run on several GPUs, start the container with --shm-size=1g"
        return Result("warning", f"{in_bytes(free)} in /dev/shm", advice)
    return Result("ok", f"{in_bytes(free)} in /dev/shm")


def check_threads() -> Result:
    """Check that PyTorch uses no more threads than there are cores."""
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


def check_images(folder: Path | None) -> Result:
    """Check that images exist, and that CIFAR-10's files are unaltered.

    Args:
        folder: folder of images; None for the default folder, which may not exist.
    """
    from cifar_exp.data import cifar10
    from cifar_exp.data.class_folders import SPLITS, ClassFolders
    from cifar_exp.data.settings import Cifar10

    root = folder or DEFAULT_DATA
    archive, extracted = root / Cifar10.file, root / Cifar10.folder
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
