"""The end of the pool, with workers that are threads."""

import signal
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps import worker_pool
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import Ended, StopAll, Train, Warned
from cifar_exp.sweeps.worker_pool import Worker, WorkerPool

LATE = "warning: disabled W&B: not finished after 30 s. All data is in the run folder."


class ThreadWorker(Worker):
    """A worker that warns after `StopAll`, as its loggers end, and then ends its runs."""

    def __init__(self, _: Callable[..., None], *arguments: object) -> None:
        self.connection, remote = Pipe()
        self.arguments, self.runs = arguments, set()
        self._process: Any = threading.Thread(target=serve, args=(remote,))
        self._process.exitcode = 0
        self._process.start()


def serve(connection: Connection) -> None:
    runs = []
    while not isinstance(message := connection.recv(), StopAll):
        assert isinstance(message, Train)
        runs.append(message.run)
    connection.send(Warned(LATE))
    for run in runs:
        connection.send(Ended(run))
    connection.close()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> WorkerPool:
    monkeypatch.setattr(worker_pool, "Worker", ThreadWorker)
    return WorkerPool((Allocation(gpu=None, threads=1, concurrent=1),) * 2)


def test_a_warning_of_workers_that_end_is_printed_once(
    pool: WorkerPool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pool:
        pool.stop(signal.SIGTERM)
    assert capsys.readouterr().out == f"{LATE}\n"


def test_a_warning_of_workers_that_a_signal_stops_is_printed_once(
    pool: WorkerPool, capsys: pytest.CaptureFixture[str]
) -> None:
    pool._workers[0].train(7, RunConfig(), ())
    pool.stop(signal.SIGINT)
    assert not pool._workers
    assert capsys.readouterr().out == f"{LATE}\n"
