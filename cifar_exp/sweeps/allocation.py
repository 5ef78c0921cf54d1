"""How a machine is shared out among the workers of a sweep. Nothing here needs PyTorch."""

import os
import sys
from dataclasses import dataclass

# PyTorch, the images of CIFAR-10 and the article's run take 1.8 GB in a worker.
_WORKER_BYTES = 2 * 2**30
# How many runs pay on a GPU is found out while they train; that many are reckoned with before.
_LIKELY_ON_A_GPU = 4


@dataclass(frozen=True)
class Part:
    """A worker's part of the machine.

    Attributes:
        gpu: its index; None on the CPU.
        threads: of the CPU for each run.
        runs: how many are trained at once; None for as many as pay.
    """

    gpu: int | None
    threads: int
    runs: int | None


def shared_out(
    gpus: int, cores: int, runs_per_device: int | None, runs: int, sweep_size: int
) -> tuple[Part, ...]:
    """Return each worker's part: a GPU, or some of the CPU's cores.

    Args:
        gpus: to compute on; 0 for the CPU.
        cores: that PyTorch would use.
        runs_per_device: on each GPU, or on the CPU; None for as many as pay.
        runs: that are to be trained, at least one.
        sweep_size: how many the sweep has, finished ones too. The cores are shared out for all of
            them, since bits depend on threads: a run that is trained later, alone, must not have
            more.
    """
    if gpus:
        count = min(gpus, runs)
        return tuple(Part(gpu=gpu, threads=1, runs=runs_per_device) for gpu in range(count))
    at_once = min(runs_per_device or min(cores, _workers_that_fit()), sweep_size)
    threads = max(1, cores // at_once)
    return (Part(gpu=None, threads=threads, runs=1),) * min(at_once, runs)


def at_once(parts: tuple[Part, ...]) -> int:
    """Return how many runs will train at the same time, as far as can be told before."""
    return sum(part.runs or _LIKELY_ON_A_GPU for part in parts)


def _workers_that_fit() -> int:
    """Return how many workers the memory of this machine holds, at least 1."""
    try:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows does not say
        return sys.maxsize
    return max(1, memory_bytes // _WORKER_BYTES)
