"""Allocation of GPUs and CPU cores to the workers of a sweep (no PyTorch import)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

# A worker with PyTorch, CIFAR-10 and the baseline network uses 1.8 GB.
_WORKER_BYTES = 2 * 2**30
# Assumed number of concurrent runs per GPU before the best number is measured.
_ASSUMED_RUNS_PER_GPU = 4


@dataclass(frozen=True)
class Allocation:
    """The device and the threads of one worker.

    Attributes:
        gpu: index of the GPU; None for the CPU.
        threads: number of CPU threads per run.
        concurrent: number of concurrent runs; None to measure which number is fastest.
    """

    gpu: int | None
    threads: int
    concurrent: int | None


def allocate(
    gpus: int, cores: int, runs_per_device: int | None, to_train: int, sweep_size: int
) -> tuple[Allocation, ...]:
    """Divide the GPUs, or the CPU cores, among workers.

    Args:
        gpus: number of GPUs; 0 for the CPU.
        cores: number of CPU cores that PyTorch uses.
        runs_per_device: number of concurrent runs per GPU, or on the CPU; None for automatic.
        to_train: number of runs to train, at least 1.
        sweep_size: number of runs in the sweep, including finished ones. The threads per run
            depend on this number and not on `to_train`: results depend on the number of threads,
            so a run that is trained later must get the same number.

    Returns:
        The allocation of each worker.
    """
    if gpus:
        return tuple(Allocation(gpu, 1, runs_per_device) for gpu in range(min(gpus, to_train)))
    workers = min(runs_per_device or min(cores, _workers_that_fit()), sweep_size)
    threads = max(1, cores // workers)
    return (Allocation(None, threads, concurrent=1),) * min(workers, to_train)


def expected_concurrent(allocations: Sequence[Allocation]) -> int:
    """Return the number of concurrent runs of all workers, assumed where it is measured later."""
    return sum(each.concurrent or _ASSUMED_RUNS_PER_GPU for each in allocations)


def known_concurrent(allocations: Sequence[Allocation], to_train: int) -> int | None:
    """Return the number of concurrent runs of all workers; None if it is measured later."""
    if any(each.concurrent is None for each in allocations):
        return None
    return min(expected_concurrent(allocations), to_train)


def _workers_that_fit() -> int:
    """Return how many workers fit into the memory of this machine, at least 1."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, memory_bytes // _WORKER_BYTES)
