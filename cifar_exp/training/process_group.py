"""One run on several processes: each computes its part of every batch, and the sums are shared.

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

_TIMEOUT = timedelta(minutes=10)
_REASON = "reason"  # the key under which the process that fails first stores why
_PROCESS = "process"  # the key of each process's machine and id


class OthersEndedError(UserError):
    """Another process of the run has ended, so that this one cannot go on."""


class ProcessGroup:
    """The processes of a run, seen from one of them. Alone, all of its methods do nothing.

    Args:
        rank: of this process; the first, 0, owns the run's folder.
        size: how many there are.
        store: of torch.distributed, which all can read and write, also when one has ended;
            none for a process alone.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        self.rank = rank
        self.size = size
        self._store = store

    @property
    def alone(self) -> bool:
        """Whether there is only one."""
        return self.size == 1

    def part(self, indices: slice) -> slice:
        """Return this process's part of a batch, as even as can be; it may be empty."""
        count = indices.stop - indices.start
        first, end = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return slice(indices.start + first, indices.start + end)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum of what all processes give."""
        if self.alone:
            return values
        with self._told():
            dist.all_reduce(values)
        return values

    def all_reduce_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients by their sums over all processes, in one message."""
        if self.alone:
            return
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        together = self.all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, values in zip(gradients, torch.split(together, sizes), strict=True):
            gradient.copy_(values.view_as(gradient))

    def all_reduce_max(self, number: int) -> int:
        """Return the largest of the numbers that all processes give."""
        if self.alone:
            return number
        numbers = torch.tensor(number)  # on the CPU, so that no GPU is waited for
        with self._told():
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def broadcast(self, value: Any = None) -> Any:
        """Return what the first process gives."""
        if self.alone:
            return value
        values = [value]
        with self._told():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def fail(self, reason: str) -> None:
        """Let the other processes know why this one ends."""
        if self.alone:
            return
        with suppress(RuntimeError):
            if not self._store.check([_REASON]):
                self._store.set(_REASON, f"process {self.rank}: {reason}")

    def check(self) -> None:
        """Look whether the others are still there, while a GPU waits for what they compute.

        Raises:
            OthersEndedError: one has failed, or its process on this machine has ended. Its part of
                a sum will never come, and the GPU would wait for ever.
        """
        if self.alone:
            return
        with self._told():
            if self._store.check([_REASON]):
                raise OthersEndedError(self._reason())
            for rank in range(self.size):
                if _has_ended(self._store.get(f"{_PROCESS} {rank}").decode()):
                    raise OthersEndedError(f"process {rank} has ended")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # a connection has ended, or nothing came in time
            raise OthersEndedError(self._reason()) from error

    def _reason(self) -> str:
        with suppress(RuntimeError):  # the store may have gone with its process
            if self._store.check([_REASON]):
                return str(self._store.get(_REASON).decode())
        return "another process of this run has ended or does not answer"


ALONE = ProcessGroup()


@contextmanager
def all_processes(config: RunConfig) -> Iterator[ProcessGroup]:
    """Come together with the other processes that torchrun has started, if there are any.

    Args:
        config: of the run; on a GPU each process takes one of its own.

    Raises:
        UserError: there are fewer GPUs on this machine than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    on_gpu = uses_gpu(config)  # choosing a precision would initialise CUDA on the first GPU
    if on_gpu:
        torch.cuda.set_device(_own_gpu())
    store, rank, _ = next(rendezvous("env://", timeout=_TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    store.set(f"{_PROCESS} {rank}", f"{socket.gethostname()} {os.getpid()}")
    try:
        yield ProcessGroup(rank, size, store)
    except OthersEndedError as error:
        if on_gpu:  # an orderly end would wait for NCCL's kernel, which waits for the others
            print_error(str(error))
            os._exit(1)
        raise
    finally:
        dist.destroy_process_group()


def _has_ended(process: str) -> bool:
    """Return whether a process of this machine has ended. Args: process: its machine and id."""
    machine, _, number = process.rpartition(" ")
    if machine != socket.gethostname():
        return False
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return Path("/proc/self/stat").exists()  # else the system does not show processes there
    return state in "ZX"  # its parent has not yet asked for its status


def _own_gpu() -> int:
    wanted, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if wanted > gpus:
        raise UserError(
            f"torchrun --nproc-per-node={wanted}: expected at most {gpus}, one for each GPU"
        )
    return int(os.environ.get("LOCAL_RANK", 0))
