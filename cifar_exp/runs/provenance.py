"""Provenance of a run: command, commit, package versions and hardware."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("cifar-exp", "torch", "torchvision", "hydra-core", "numpy")


def provenance() -> dict[str, Any]:
    """Return the command, commit, versions and hardware of this process as JSON values."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "hardware": hardware(),
    }


def earlier_parts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return where and with what the earlier epochs of a run were trained, if not as now.

    Args:
        before: content of run.json when the run was saved.
        now: new content of run.json.

    Returns:
        `compute` and `provenance` of each such part of the run.
    """
    parts = [*before.get("earlier", ()), before] if "provenance" in before else []
    found: list[dict[str, Any]] = []
    for part in parts:
        if all(_circumstances(part) != _circumstances(other) for other in (now, *found)):
            found.append({key: part[key] for key in ("compute", "provenance")})
    return found


def _circumstances(part: Mapping[str, Any]) -> tuple[Any, ...]:
    known = {key: value for key, value in part["provenance"].items() if key != "command"}
    return part["compute"], known


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the source code, with `-dirty` if tracked files were changed."""
    root = Path(__file__).parents[2]
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def hardware() -> dict[str, Any]:
    """Return the processor and GPUs of this machine as JSON values."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpus": gpus, "cuda": torch.version.cuda}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
