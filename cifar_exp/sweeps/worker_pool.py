"""The pool of worker processes, as the sweep uses it."""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, util
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.signals import STOP_SIGNALS
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import (
    Checked,
    Died,
    Ended,
    FromWorker,
    StopAll,
    Train,
    Warned,
)
from cifar_exp.sweeps.worker import check, work

_SECONDS_TO_END = 60  # loggers may still have data to send
# The sweep fails after this many workers in a row have died without a run.
_MAX_IDLE_DEATHS = 3
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_MAX_FOLDER_BYTES = 60  # a socket's path has at most 103 bytes, and up to 40 are appended


class Worker:
    """A worker process and the runs that it trains.

    Args:
        target: function that the process runs.
        arguments: arguments of the function after its first, which is the worker's end of the
            connection.
    """

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        self.connection, remote = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=target, args=(remote, *arguments), daemon=True
        )
        self._process.start()
        remote.close()  # so that the connection closes when the process ends
        self.arguments = arguments
        self.runs: set[int] = set()

    def train(self, run: int, config: RunConfig, prefix_runs: Sequence[RunConfig]) -> None:
        """Send a run.

        Args:
            run: index of the run.
            config: settings of the run.
            prefix_runs: shorter runs that equal its first epochs.
        """
        self.runs.add(run)
        self.send(Train(run, config, tuple(prefix_runs)))

    def send(self, message: Any) -> None:
        """Send a message. A dead worker is not an error here; `receive` returns `Died`."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self) -> FromWorker:
        """Return the next message, or `Died` if the process has ended."""
        try:
            message: FromWorker = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_END)
            return Died(_exit_reason(self._process.exitcode), tuple(sorted(self.runs)))
        if isinstance(message, Ended):
            self.runs.discard(message.run)
        return message

    def kill(self) -> None:
        """End the process without waiting for it."""
        self.connection.close()
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class WorkerPool:
    """One worker process per GPU, or several on the CPU.

    PyTorch is imported once, by the fork server, and the workers are forked from it. The sweep's
    process never imports PyTorch.

    Attributes:
        on_gpu: whether the workers use GPUs.
    """

    def __init__(self, allocations: Sequence[Allocation]) -> None:
        self.on_gpu = allocations[0].gpu is not None
        self._idle_deaths = 0  # in a row
        self._warned: set[str] = set()
        self._workers = [Worker(work, allocation) for allocation in allocations]

    def __enter__(self) -> "WorkerPool":
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the processes that have not ended; see `stop`."""
        for worker in self._workers:
            worker.kill()

    def messages(self, timeout_seconds: float) -> Iterator[tuple[Worker, FromWorker]]:
        """Yield messages as (worker, message), after waiting at most `timeout_seconds` for one.

        Warnings are printed instead, each one once, even if several workers send it.
        """
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_seconds):
            worker = by_connection[connection]
            message = worker.receive()
            if isinstance(message, Warned):
                if message.text not in self._warned:
                    self._warned.add(message.text)
                    tqdm.write(message.text)
                continue
            if isinstance(message, Ended):
                self._idle_deaths = 0
            if isinstance(message, Died):
                self._workers.remove(worker)
                worker.kill()
            yield worker, message

    def replace(self, dead: Worker, reason: str) -> None:
        """Start a worker with the allocation of a dead one.

        Args:
            dead: worker that has died.
            reason: why it died.

        Raises:
            UserError: several workers in a row have died without a run.
        """
        self._idle_deaths = 0 if dead.runs else self._idle_deaths + 1
        if self._idle_deaths >= _MAX_IDLE_DEATHS:
            raise UserError(f"Worker processes ended before they trained: {reason}.")
        self._workers.append(Worker(work, *dead.arguments))

    def stop(self, signal_number: int) -> None:
        """Stop all runs at their next step, because of a signal, and wait until all workers end."""
        for worker in self._workers:
            worker.send(StopAll(signal_number))
        deadline = time.monotonic() + _SECONDS_TO_END
        while any(worker.runs or time.monotonic() < deadline for worker in self._workers):
            for _ in self.messages(timeout_seconds=1):
                pass


def prepare() -> None:
    """Start the fork server, which imports PyTorch in the background."""
    multiprocessing.set_forkserver_preload(["__main__", "cifar_exp.sweeps.preload"])
    _choose_socket_folder()
    with _signals_ignored():  # inherited by the server: only the sweep handles Ctrl-C
        forkserver.ensure_running()


def _choose_socket_folder() -> None:
    """Place the server's socket in a folder whose path is short enough for a socket.

    TMPDIR may be too long. multiprocessing uses the default folder of its first call for all later
    ones.
    """
    default = tempfile.gettempdir()
    usable = [folder for folder in (default, *_SHORT_FOLDERS) if os.access(folder, os.W_OK)]
    short = (folder for folder in usable if len(os.fsencode(folder)) <= _MAX_FOLDER_BYTES)
    tempfile.tempdir = next(short, default)
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = default


@contextmanager
def _signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_runs(
    configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int, writes: bool = True
) -> Checked:
    """Check runs in a separate process, which imports PyTorch.

    Args:
        configs: runs to train, at least one.
        runs_per_device: number of concurrent runs per GPU, or on the CPU; None for automatic.
        sweep_size: number of runs in the sweep, including finished ones.
        writes: see `preflight`.

    Raises:
        UserError: a run cannot be trained on this machine.
    """
    prepare()
    checker = Worker(check, configs, runs_per_device, sweep_size, writes)
    try:
        answer = checker.receive()
        while isinstance(answer, Warned):
            tqdm.write(answer.text)
            answer = checker.receive()
    finally:
        checker.kill()
    if isinstance(answer, Died):
        raise UserError(f"A worker process ended during startup: {answer.reason}.")
    assert isinstance(answer, Checked)
    if answer.problem:
        raise UserError(answer.problem)
    return answer


def _exit_reason(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = " (probably out of memory)" * (exit_code == -signal.SIGKILL)
        return f"its process was killed by {signal.Signals(-exit_code).name}{hint}"
    return f"its process ended with exit status {exit_code}"
