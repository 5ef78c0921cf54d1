"""The worker processes of a sweep, seen from the sweep."""

import multiprocessing
import os
import signal
import tempfile
import threading
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
from cifar_exp.sweeps.messages import (
    Checked,
    Died,
    Ended,
    FromWorker,
    Stop,
    Train,
    Warned,
)
from cifar_exp.sweeps.worker import check, work

_SECONDS_TO_END = 30  # its trackers may have something to send
# So many workers may end one after another, without a run, before the sweep gives up.
_MOST_IDLE_DEATHS = 3
# Windows has no fork server: there each worker imports PyTorch itself.
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_LONGEST_FOLDER = 60  # bytes: a socket's path has at most 103, and up to 40 are added
_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class Worker:
    """One process and the runs that it has.

    Args:
        target: what it does; called with its end of the connection, and with `arguments`.
    """

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        context: Any = multiprocessing.get_context(_START_METHOD)
        self.connection, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=target, args=(theirs, *arguments), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.arguments = arguments
        self.runs: set[int] = set()

    def train(self, run: int, config: RunConfig, prefix_runs: Sequence[RunConfig]) -> None:
        """Give it a run."""
        self.runs.add(run)
        self.send(Train(run, config, tuple(prefix_runs)))

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


class WorkerPool:
    """A process for each GPU, or on the CPU one for each core.

    Where the system allows it they are forked from a server process that has imported PyTorch, so
    that this takes its seconds once, and not in the sweep's own process at all.

    Args:
        configs: the runs that are to be trained; checked here.
        runs_per_device: how many at once on each GPU, or on the CPU; None for as many as pay.
        sweep_size: how many runs the sweep has, finished ones too.

    Attributes:
        kept_bytes: what the last checkpoints of the runs will take on disk.

    Raises:
        UserError: some run cannot be trained here.
    """

    def __init__(
        self, configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int
    ) -> None:
        prepare()
        checked = _checked(configs, runs_per_device, sweep_size)
        self.kept_bytes = checked.kept_bytes
        self.on_gpu = checked.parts[0].gpu is not None
        self._idle_deaths = 0  # in a row
        self._workers = [Worker(work, part) for part in checked.parts]

    def __enter__(self) -> "WorkerPool":
        """Keep the processes while a block runs."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End them; at once if the block failed."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.end(at_once=kind is not None)

    def messages(self, timeout_seconds: float) -> Iterator[tuple[Worker, FromWorker]]:
        """Yield what the workers say, if they say something in time."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_seconds):
            worker = by_connection[connection]
            message = worker.receive()
            if isinstance(message, Ended):
                self._idle_deaths = 0
            if isinstance(message, Died):
                self._workers.remove(worker)
                worker.end(at_once=True)
            yield worker, message

    def replace(self, dead: Worker, reason: str) -> None:
        """Start a new worker with the part of the machine that a dead one had.

        Raises:
            UserError: several have died in a row without a run, so that another would as well.
        """
        self._idle_deaths = 0 if dead.runs else self._idle_deaths + 1
        if self._idle_deaths >= _MOST_IDLE_DEATHS:
            raise UserError(f"worker processes end before they train: {reason}")
        self._workers.append(Worker(work, *dead.arguments))

    def stop(self, signal_number: int) -> None:
        """Let all runs stop at their next step, and wait until they have."""
        for worker in self._workers:
            worker.send(Stop(signal_number))
        while any(worker.runs for worker in self._workers):
            for _ in self.messages(timeout_seconds=1):
                pass


def prepare() -> None:
    """Let the server of workers begin to import PyTorch, while the sweep does other things."""
    if _START_METHOD != "forkserver":
        return
    multiprocessing.set_forkserver_preload(["__main__", "cifar_exp.runs.runner"])
    _choose_socket_folder()
    with _signals_ignored():  # the server inherits that; the sweep decides what Ctrl-C means
        forkserver.ensure_running()


def _choose_socket_folder() -> None:
    """Let the server's socket be in a folder with a short path, as systems demand of sockets.

    TMPDIR may be too long; multiprocessing takes the folder that is the default when it first
    needs one, and keeps it.
    """
    given = tempfile.gettempdir()
    usable = [folder for folder in (given, *_SHORT_FOLDERS) if os.access(folder, os.W_OK)]
    tempfile.tempdir = next((f for f in usable if len(os.fsencode(f)) <= _LONGEST_FOLDER), given)
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = given


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


def _checked(configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int) -> Checked:
    """Check runs in a process of its own, since PyTorch is not imported in this one."""
    checker = Worker(check, configs, runs_per_device, sweep_size)
    try:
        answer = checker.receive()
        while isinstance(answer, Warned):
            tqdm.write(answer.text)
            answer = checker.receive()
    finally:
        checker.end(at_once=True)
    if isinstance(answer, Died):
        raise UserError(f"a worker process ended at its start: {answer.reason}")
    assert isinstance(answer, Checked)
    if answer.problem:
        raise UserError(answer.problem)
    return answer


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        hint = ", as the system does when memory is used up" * (exit_code == -signal.SIGKILL)
        return f"its process was killed by {signal.Signals(-exit_code).name}{hint}"
    return f"its process ended with exit status {exit_code}"
