"""A process ends if another process of its run has ended."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch.distributed import TCPStore

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.settings import Data, Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.settings import Model
from cifar_exp.training import loop, process_group
from cifar_exp.training.device import Compute
from cifar_exp.training.process_group import OthersEndedError, ProcessGroup, all_processes

DATA: Data = Synthetic(train_size=10, test_size=10, batch_size=10)


def store_with(*process_ids: int) -> TCPStore:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for rank, process_id in enumerate(process_ids):
        store.set(f"process {rank}", f"{socket.gethostname()} {process_id}")
    return store


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_live_processes_pass_the_check() -> None:
    ProcessGroup(0, 2, store_with(os.getpid(), os.getppid())).check()
    ProcessGroup().check()


def test_a_process_that_failed_is_reported_with_its_reason() -> None:
    store = store_with(os.getpid(), os.getpid())
    ProcessGroup(1, 2, store).fail("no memory")
    with pytest.raises(OthersEndedError, match="process 1: no memory"):
        ProcessGroup(0, 2, store).check()


def test_a_process_that_was_killed_is_reported() -> None:
    with pytest.raises(OthersEndedError, match="process 1 has ended"):
        ProcessGroup(0, 2, store_with(os.getpid(), ended_process())).check()


def test_a_loop_that_waits_for_the_device_checks_the_other_processes(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKS", 0)
    processes = ProcessGroup(0, 2, store_with(os.getpid(), ended_process()))
    monkeypatch.setattr(processes, "all_reduce_sum", lambda values: values)
    run = RunConfig(data=DATA, model=Model(name="vgg11", width=0.0625))
    cpu = Compute(torch.device("cpu"), "fp32", threads=1, processes=2)
    dataset = load(DATA, tmp_path)
    training = loop.Training(
        run, DeviceImages(dataset, cpu.device), dataset.classes, cpu, processes=processes
    )
    monkeypatch.setattr(training._clock, "passed", lambda _: False)  # a kernel that never ends
    with pytest.raises(OthersEndedError, match="process 1 has ended"):
        list(training.run())


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls, in order, in torchrun's second process with two GPUs."""
    called: list[str] = []

    def record(name: str, result: object = None) -> Callable[..., object]:
        def call(*args: object, **_: object) -> object:
            called.append(f"{name} {args[0]}" if name == "set_device" else name)
            return result

        return call

    variables = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", record("set_device"))
    for name in ("get_device_capability", "current_device", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, record(name, (9, 0)))
    monkeypatch.setattr(process_group, "rendezvous", lambda *_, **__: iter([(store_with(), 1, 2)]))
    for name in ("init_process_group", "all_reduce", "destroy_process_group"):
        monkeypatch.setattr(process_group.dist, name, record(name))
    return called


def test_a_process_selects_its_gpu_before_cuda_is_initialized(order: list[str]) -> None:
    with all_processes(RunConfig(data=DATA)):
        pass
    assert order == ["set_device 1", "init_process_group", "all_reduce", "destroy_process_group"]


def test_on_gpus_a_process_exits_immediately_if_another_has_ended(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(process_group, "print_error", lines.append)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"), all_processes(RunConfig(data=DATA)):
        raise OthersEndedError("process 0 has ended")
    assert lines == ["process 0 has ended"]
