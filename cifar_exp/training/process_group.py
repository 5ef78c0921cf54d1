"""Data-parallel training: each process trains on a part of every batch.

Source: the PyTorch documentation on torch.distributed and torchrun.
"""

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.terminal import print_error
from cifar_exp.training.device import uses_gpu

# Process 0 may decode images for hours before it sends its first message. Processes that have
# ended are noticed by their closed connections, and on other machines by torchrun.
_TIMEOUT = timedelta(days=1)
_CONNECT_TIMEOUT = timedelta(minutes=10)
_REASON = "reason"  # key of the reason why the first process failed
_PROCESS = "process"  # prefix of the keys of each process's host name and id


class OthersEndedError(UserError):
    """Another process of the run has ended, so this one cannot continue."""


class ProcessGroup:
    """The processes that train a run together. With one process, all methods do nothing.

    Args:
        rank: index of this process; process 0 writes the run's folder.
        size: number of processes, at least 1.
        store: key-value store of torch.distributed; None for one process.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._store = store

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self.size == 1

    def part(self, indices: slice) -> slice:
        """Return this process's part of a batch. The parts differ by at most one image."""
        count = indices.stop - indices.start
        start, stop = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return slice(indices.start + start, indices.start + stop)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over all processes."""
        if self.alone:
            return values
        with self._raise_if_others_ended():
            dist.all_reduce(values)
        return values

    def all_reduce_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients with their sums over all processes, in one all_reduce."""
        if self.alone:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        summed = self.all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, values in zip(gradients, torch.split(summed, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))

    def all_reduce_max(self, number: int) -> int:
        """Return the maximum over all processes."""
        if self.alone:
            return number
        numbers = torch.tensor(number)  # on the CPU, to avoid waiting for a GPU
        with self._raise_if_others_ended():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def broadcast(self, value: Any = None) -> Any:
        """Return the value of process 0."""
        if self.alone:
            return value
        values = [value]
        with self._raise_if_others_ended():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def fail(self, reason: str) -> None:
        """Store the reason why this process fails, for the other processes to report."""
        if self.alone:
            return
        with suppress(RuntimeError):
            if not self._store.check([_REASON]):
                self._store.set(_REASON, f"process {self.rank}: {reason}")

    def check(self) -> None:
        """Check that the other processes are alive; a GPU would wait for them forever.

        Raises:
            OthersEndedError: another process has failed, or has ended on this machine.
        """
        if self.alone:
            return
        with self._raise_if_others_ended():
            if self._store.check([_REASON]):
                raise OthersEndedError(self._reason())
            for rank in range(self.size):
                if _has_ended(self._store.get(f"{_PROCESS} {rank}").decode()):
                    raise OthersEndedError(f"process {rank} has ended")

    @contextmanager
    def _raise_if_others_ended(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # a closed connection or a timeout
            raise OthersEndedError(self._reason()) from error

    def _reason(self) -> str:
        with suppress(RuntimeError):  # the process that serves the store may have ended
            if self._store.check([_REASON]):
                return str(self._store.get(_REASON).decode())
        return "another process of this run has ended or does not respond"


ALONE = ProcessGroup()


@contextmanager
def all_processes(config: RunConfig) -> Iterator[ProcessGroup]:
    """Initialize the process group of torchrun, or yield `ALONE` without torchrun.

    Args:
        config: settings of the run; on GPUs each process uses a different one.

    Raises:
        UserError: this machine has fewer GPUs than processes, or they do not connect.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    on_gpu = uses_gpu(config)  # must not initialize CUDA on the first GPU
    if on_gpu:
        torch.cuda.set_device(_local_gpu())
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    try:
        store, rank, _ = next(rendezvous("env://", timeout=_CONNECT_TIMEOUT))
        processes = ProcessGroup(rank, size, store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
        store.set(f"{_PROCESS} {rank}", f"{socket.gethostname()} {os.getpid()}")
        # otherwise a process that ends at once would break the connections of the others
        processes.all_reduce_max(0)
    except (RuntimeError, ValueError, OthersEndedError) as error:  # ValueError: RANK is missing
        reason = str(error).splitlines()[0]
        raise UserError(f"torchrun: the {size} processes did not connect: {reason}") from error
    try:
        yield processes
    except OthersEndedError as error:
        if on_gpu:  # a normal exit would wait for NCCL, which waits for the other processes
            print_error(str(error))
            os._exit(1)
        raise
    finally:
        dist.destroy_process_group()


def _has_ended(process: str) -> bool:
    """Return whether a process, given as "host id", has ended; False for other hosts."""
    host, _, process_id = process.rpartition(" ")
    if host != socket.gethostname():
        return False
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return Path("/proc/self/stat").exists()  # otherwise not Linux
    return state in "ZX"  # zombie or dead


def _local_gpu() -> int:
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if processes > gpus:
        raise UserError(
            f"torchrun --nproc-per-node={processes}: expected at most {gpus}, the number of GPUs"
        )
    return int(os.environ.get("LOCAL_RANK", 0))
