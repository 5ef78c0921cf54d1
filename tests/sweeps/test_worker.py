"""A worker whose device no longer computes after an error ends, so that it is replaced."""

import os
import sys
from collections import deque
from typing import Any

import pytest

from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY
from cifar_exp.sweeps import worker
from cifar_exp.sweeps.allocation import Part
from cifar_exp.sweeps.messages import Checked, Ended, Warned


class Connection:
    """What a worker receives and sends."""

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


def failing() -> Any:
    raise UserError("an illegal memory access")
    yield


@pytest.fixture
def with_failing_run() -> worker._Worker:
    part = Part(gpu=None, threads=1, runs=2)
    made = worker._Worker(Connection(), part)  # type: ignore[arg-type]
    made._runs[7] = failing()
    made._limit.admit(7)
    return made


def test_it_reports_the_failure_and_ends(
    with_failing_run: worker._Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_device_works", lambda: False)
    monkeypatch.setattr(worker, "_free_cached_memory", lambda: pytest.fail("a call of CUDA"))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        with_failing_run._advance(7)
    sent = with_failing_run._connection.sent  # type: ignore[attr-defined]
    assert Ended(7, problem="an illegal memory access") in sent
    assert isinstance(sent[-1], Warned)


def test_it_continues_with_its_other_runs_where_the_device_works(
    with_failing_run: worker._Worker,
) -> None:
    with_failing_run._advance(7)
    assert with_failing_run._runs == {}
    sent = with_failing_run._connection.sent  # type: ignore[attr-defined]
    assert sent[-1] == Ended(7, problem="an illegal memory access")


def test_a_worker_without_the_memory_for_pytorch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torch":
                raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [NoMemory(), *sys.meta_path])
    connection: Any = Connection()
    monkeypatch.setattr(worker, "keep_output", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    worker.check(connection, (), None, sweep_size=1)
    assert connection.sent[-1] == Checked(TOO_LITTLE_MEMORY)
    with pytest.raises(SystemExit):
        worker.work(connection, Part(gpu=None, threads=1, runs=1))
    assert connection.sent[-1] == Warned(TOO_LITTLE_MEMORY)
