"""Worker processes: errors of the device and of the import of PyTorch."""

import gc
import logging
import os
import signal
import sys
import threading
import weakref
from collections import deque
from typing import Any

import pytest
from tqdm import tqdm

from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY
from cifar_exp.runs.runner import Runner
from cifar_exp.sweeps import worker
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import Checked, Ended, StopAll, StopRun, Warned
from cifar_exp.training.progress import Events, Progress


class Connection:
    """A connection with fixed messages to receive; records those that are sent."""

    def __init__(self, *received: object) -> None:
        self.received = deque(received)
        self.sent: list[Any] = []

    def poll(self) -> bool:
        return bool(self.received)

    def recv(self) -> object:
        if not self.received:
            raise EOFError
        return self.received.popleft()

    def send(self, message: object) -> None:
        self.sent.append(message)


class ClosedConnection(Connection):
    """A connection to a sweep that has ended."""

    def send(self, message: object) -> None:
        raise BrokenPipeError


def failing_run() -> Any:
    raise UserError("an illegal memory access")
    yield


@pytest.fixture
def failing_worker() -> worker._Worker:
    allocation = Allocation(gpu=None, threads=1, concurrent=2)
    made = worker._Worker(Connection(), allocation)  # type: ignore[arg-type]
    made._runs[7] = failing_run()
    made._limit.add(7)
    return made


def test_a_worker_ends_if_its_device_is_unusable_after_a_failure(
    failing_worker: worker._Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_device_works", lambda: False)
    monkeypatch.setattr(worker, "_free_cached_memory", lambda: pytest.fail("CUDA was called"))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        failing_worker._advance(7)
    sent = failing_worker._connection.sent  # type: ignore[attr-defined]
    assert Ended(7, problem="an illegal memory access") in sent
    assert isinstance(sent[-1], Warned)


def test_a_worker_continues_after_a_failure_if_its_device_works(
    failing_worker: worker._Worker,
) -> None:
    failing_worker._advance(7)
    assert failing_worker._runs == {}
    sent = failing_worker._connection.sent  # type: ignore[attr-defined]
    assert sent[-1] == Ended(7, problem="an illegal memory access")


def test_the_memory_of_a_pruned_run_is_free_before_the_next_run_starts(
    failing_worker: worker._Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Network:
        pass

    alive: list[weakref.ref[Network]] = []

    def train() -> Events:
        network = Network()
        alive.append(weakref.ref(network))
        yield Progress(1, 2, 0.5)
        return bool(network)

    def free() -> None:
        connection.sent.append("freed")
        assert alive[0]() is None  # without garbage collection

    connection: Any = failing_worker._connection
    failing_worker._runs[7] = train()
    next(failing_worker._runs[7])
    monkeypatch.setattr(worker, "_free_cached_memory", free)
    connection.received.append(StopRun(7))
    gc.disable()
    try:
        failing_worker._receive()
    finally:
        gc.enable()
    assert connection.sent[-2:] == ["freed", Ended(7)]


@pytest.mark.usefixtures("in_this_process")
def test_a_worker_closes_its_loggers_when_it_is_stopped_and_when_the_sweep_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[Connection] = []

    def close(runner: Runner) -> None:
        logging.getLogger("cifar_exp").warning("disabled W&B")
        closed.append(connection)

    monkeypatch.setattr(Runner, "close", close)
    for connection in (Connection(StopAll(signal.SIGINT)), ClosedConnection()):
        worker.work(connection, Allocation(gpu=None, threads=1, concurrent=1))  # type: ignore[arg-type]
    assert len(closed) == 2
    assert closed[0].sent[-1] == Warned("warning: disabled W&B")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the signal handlers, the output and the loggers of this process."""
    monkeypatch.setattr(worker, "keep_output", lambda bars: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    for name in ("handlers", "level", "propagate"):
        package = logging.getLogger("cifar_exp")
        monkeypatch.setattr(package, name, getattr(package, name))


@pytest.mark.usefixtures("in_this_process")
def test_a_bar_of_a_worker_uses_no_semaphore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tqdm, "_lock", None, raising=False)
    worker._prepare_process(Connection())  # type: ignore[arg-type]
    assert isinstance(tqdm.get_lock(), type(threading.RLock()))


@pytest.mark.usefixtures("in_this_process")
def test_a_worker_without_memory_for_pytorch_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torch":
                raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoMemory(), *sys.meta_path])
    connection: Any = Connection()
    worker.check(connection, (), None, sweep_size=1)
    assert connection.sent[-1] == Checked(TOO_LITTLE_MEMORY)
    with pytest.raises(SystemExit):
        worker.work(connection, Allocation(gpu=None, threads=1, concurrent=1))
    assert connection.sent[-1] == Warned(TOO_LITTLE_MEMORY)
