"""The worker processes of a sweep, seen from the sweep."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.messages import (
    Begin,
    Check,
    Checked,
    Died,
    Ended,
    FromWorker,
    Stop,
    Train,
    Warned,
)
from cifar_exp.runs.worker import work

_SECONDS_TO_END = 10
# PyTorch, the images of CIFAR-10 and the article's run take 1.8 GB in a worker.
_WORKER_BYTES = 2 * 2**30
# Windows has no fork server: there each worker imports PyTorch itself.
_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class Worker:
    """One process and the runs that it has."""

    def __init__(self, context: Any) -> None:
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.runs: set[int] = set()
        self.part = Begin(gpu=None, threads=1, runs=1)

    def begin(self, part: Begin) -> None:
        """Give it its part of the machine; it will ask for runs."""
        self.part = part
        self.send(part)

    def train(self, run: int, config: RunConfig, beginnings: Sequence[RunConfig]) -> None:
        """Give it a run."""
        self.runs.add(run)
        self.send(Train(run, config, tuple(beginnings)))

    def send(self, message: Any) -> None:
        """Say something; of a worker that has died, `receive` tells."""
        with suppress(OSError):
            self.connection.send(message)

    def receive(self) -> FromWorker:
        """Return what it says, or that it has died."""
        try:
            message: FromWorker = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_SECONDS_TO_END)
            return Died(_how_it_ended(self._process.exitcode), tuple(sorted(self.runs)))
        if isinstance(message, Ended):
            self.runs.discard(message.run)
        return message

    def end(self, at_once: bool) -> None:
        """Let the process end."""
        self.connection.close()
        if not at_once:
            self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Workers:
    """A process for each GPU, or on the CPU one for each core.

    Where the system allows it they are forked from a server process that has imported PyTorch, so
    that this takes its seconds once, and not in the sweep's own process at all.

    Args:
        configs: the runs that are to be trained; checked here.
        runs_per_device: how many at once on each GPU, or on the CPU; None for as many as pay.
        sweep_size: how many runs the sweep has, finished ones too. The cores are shared out for
            all of them, since bits depend on threads: a run that is trained later, alone, must not
            have more.

    Raises:
        UserError: some run cannot be trained here.
    """

    def __init__(
        self, configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int
    ) -> None:
        prepare()
        self._context = multiprocessing.get_context(_START_METHOD)
        self._workers: list[Worker] = []
        first = self._start()
        try:
            checked = _checked(first, configs)
            parts = _parts(checked, runs_per_device, len(configs), sweep_size)
        except BaseException:
            self._end(at_once=True)
            raise
        self.on_gpu = parts[0].gpu is not None
        first.begin(parts[0])
        for part in parts[1:]:
            self._start().begin(part)

    def __enter__(self) -> "Workers":
        """Keep the processes while a block runs."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End them; at once if the block failed."""
        self._end(at_once=kind is not None)

    def messages(self, timeout_seconds: float) -> Iterator[tuple[Worker, FromWorker]]:
        """Yield what the workers say, if they say something in time."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_seconds):
            worker = by_connection[connection]
            message = worker.receive()
            if isinstance(message, Died):
                self._workers.remove(worker)
                worker.end(at_once=True)
            yield worker, message

    def replace(self, dead: Worker) -> None:
        """Start a new worker with the part of the machine that a dead one had."""
        self._start().begin(dead.part)

    def stop(self, signal_number: int) -> None:
        """Let all runs stop at their next step, and wait until they have."""
        for worker in self._workers:
            worker.send(Stop(signal_number))
        while any(worker.runs for worker in self._workers):
            for _ in self.messages(timeout_seconds=1):
                pass

    def _start(self) -> Worker:
        worker = Worker(self._context)
        self._workers.append(worker)
        return worker

    def _end(self, at_once: bool) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end(at_once)


def prepare() -> None:
    """Let the server of workers begin to import PyTorch, while the sweep does other things."""
    if _START_METHOD != "forkserver":
        return
    multiprocessing.set_forkserver_preload(["__main__", "cifar_exp.runs.runner"])
    with _sigint_ignored():  # the server inherits that; the sweep decides what Ctrl-C means
        forkserver.ensure_running()


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _checked(worker: Worker, configs: Sequence[RunConfig]) -> Checked:
    worker.send(Check(tuple(configs)))
    answer = worker.receive()
    while isinstance(answer, Warned):
        tqdm.write(answer.text)
        answer = worker.receive()
    if isinstance(answer, Died):
        raise UserError(f"a worker process ended at its start: {answer.reason}")
    assert isinstance(answer, Checked)
    if answer.problem:
        raise UserError(answer.problem)
    return answer


def _parts(
    machine: Checked, runs_per_device: int | None, runs: int, sweep_size: int
) -> list[Begin]:
    """Share the machine out: a GPU each, or the CPU's cores evenly."""
    if machine.gpus:
        count = min(machine.gpus, runs)
        return [Begin(gpu=gpu, threads=1, runs=runs_per_device) for gpu in range(count)]
    at_once = min(runs_per_device or min(machine.cores, _workers_that_fit()), sweep_size)
    threads = max(1, machine.cores // at_once)
    return [Begin(gpu=None, threads=threads, runs=1)] * min(at_once, runs)


def _workers_that_fit() -> int:
    """Return how many workers the memory of this machine holds, at least 1."""
    try:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows does not say
        return sys.maxsize
    return max(1, memory_bytes // _WORKER_BYTES)


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"its process was killed by {signal.Signals(-exit_code).name}"
    return f"its process ended with exit status {exit_code}"
