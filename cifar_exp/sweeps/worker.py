"""A worker process, which trains one or more runs on its device by turns."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from tqdm import tqdm

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Contents
from cifar_exp.errors import UserError, import_problem
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY, is_out_of_memory
from cifar_exp.runs.folder import BusyError
from cifar_exp.runs.log import show_warnings
from cifar_exp.signals import STOP_SIGNALS, Interrupted
from cifar_exp.sweeps.allocation import Allocation, allocate, expected_concurrent
from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit
from cifar_exp.sweeps.messages import (
    Checked,
    Ended,
    FromWorker,
    Measured,
    ProgressReport,
    Ready,
    StopAll,
    StopRun,
    Train,
    Warned,
)
from cifar_exp.terminal import keep_output
from cifar_exp.training.progress import EpochMetrics, Event, Events, Progress

_SECONDS_BETWEEN_REPORTS = 0.1
_BROKEN = (
    "The CUDA context of a worker process is unusable after this error. The process is replaced, "
    "and its other runs are retried."
)


def work(connection: Connection, allocation: Allocation) -> None:
    """Train runs until the sweep sends `StopAll` or its process ends.

    Args:
        connection: connection to the sweep.
        allocation: device and threads of this worker.
    """
    _prepare_process(connection)
    try:
        worker = _Worker(connection, allocation)
    except ImportError as error:
        if not is_out_of_memory(error):
            raise
        connection.send(Warned(TOO_LITTLE_MEMORY))
        sys.exit(1)
    try:
        worker.serve()
    except Interrupted as stop:
        worker.stop(stop.signal_number)
    except (EOFError, OSError):  # the sweep has ended
        worker.stop(signal.SIGTERM)


def check(
    connection: Connection,
    configs: Sequence[RunConfig],
    runs_per_device: int | None,
    sweep_size: int,
    writes: bool = True,
) -> None:
    """Check whether runs can be trained on this machine, and send a `Checked`.

    Args:
        connection: connection to the sweep.
        configs: settings of the runs.
        runs_per_device: number of concurrent runs per device; None for automatic.
        sweep_size: number of runs in the sweep, including finished ones.
        writes: see `preflight`.
    """
    _prepare_process(connection)
    try:
        answer = _checked(configs, runs_per_device, sweep_size, writes)
    except (ImportError, SyntaxError) as error:
        answer = Checked(TOO_LITTLE_MEMORY if is_out_of_memory(error) else import_problem(error))
    _send(connection, answer)


def measure(
    connection: Connection, config: RunConfig, contents: Contents, allocation: Allocation
) -> None:
    """Measure the speed of a run on a few steps, and send a `Measured`.

    Args:
        connection: connection to the sweep.
        config: settings of the run.
        contents: images of the run.
        allocation: device and threads of the run.
    """
    _prepare_process(connection)
    import torch

    from cifar_exp.training.measuring import measure_speed

    if allocation.gpu is not None:
        torch.cuda.set_device(allocation.gpu)
    show_warnings(lambda _: None)
    with suppress(Exception):  # the time is then unknown; training reports the error
        connection.send(Measured(*measure_speed(config, contents, allocation.threads)))


def _prepare_process(connection: Connection) -> None:
    """Ignore signals, which the sweep receives as well, and forward warnings to the sweep."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # tqdm's lock between processes is a semaphore, which a killed process would leave behind
    tqdm.set_lock(threading.RLock())
    keep_output(bars=False)
    show_warnings(lambda text: _send(connection, Warned(text)))


def _send(connection: Connection, message: FromWorker) -> None:
    """Send a message, unless the sweep has ended."""
    with suppress(OSError):
        connection.send(message)


class _Worker:
    def __init__(self, connection: Connection, allocation: Allocation) -> None:
        import torch  # slow, and uses memory

        from cifar_exp.runs.runner import Runner

        on_gpu = allocation.gpu is not None
        if on_gpu:
            torch.cuda.set_device(allocation.gpu)
        self._limit = ConcurrencyLimit(
            allocation.concurrent, free_bytes=lambda: torch.cuda.mem_get_info()[0] if on_gpu else 0
        )
        self._runner = Runner(allocation.threads)
        self._connection = connection
        self._runs: dict[int, Events] = {}
        self._reported: dict[int, float] = {}
        self._asked = False

    def serve(self) -> None:
        while True:
            self._ask()
            if not self._runs or self._connection.poll():
                self._receive()
                continue
            for run in self._limit.active():
                self._advance(run)

    def stop(self, signal_number: int) -> None:
        stopped = list(self._runs)
        for run in stopped:
            self._stop_run(run, Interrupted(signal_number))
        self._runner.close()  # first, because the sweep may end this process after the messages
        for run in stopped:
            _send(self._connection, Ended(run))

    def _stop_run(self, run: int, interruption: Interrupted) -> None:
        self._limit.remove(run)
        with suppress(Interrupted, StopIteration, UserError):
            self._runs.pop(run).throw(interruption)
        # its frames hold the network, and this one, which would be freed by garbage collection only
        interruption.__traceback__ = None

    def _receive(self) -> None:
        match self._connection.recv():
            case Train(run, config, prefix_runs):
                self._asked = False
                self._runs[run] = self._runner.run(config, prefix_runs)
                self._limit.add(run)
            case StopRun(run) if run in self._runs:  # otherwise it has just ended
                self._stop_run(run, Interrupted(signal.SIGTERM, by="the search"))
                _free_cached_memory()
                _send(self._connection, Ended(run))
            case StopAll(signal_number):
                raise Interrupted(signal_number)

    def _ask(self) -> None:
        if not self._asked and self._limit.accepts_run():
            self._asked = True
            self._connection.send(Ready())

    def _advance(self, run: int) -> None:
        try:
            event = next(self._runs[run])
        except StopIteration:
            end = Ended(run)
        except UserError as error:
            end = _end_of(run, error)
        else:
            if isinstance(event, Progress):
                self._limit.record(run, event.steps)
            self._report(run, event)
            return
        del self._runs[run]
        broken = end.problem is not None and not _device_works()
        if not broken:
            _free_cached_memory()
        self._limit.remove(run)
        _send(self._connection, end)
        if broken:
            self._end_process()

    def _end_process(self) -> None:
        """End this process, whose CUDA context is unusable. The sweep replaces it."""
        _send(self._connection, Warned(_BROKEN))
        self._runner.close()
        os._exit(1)  # a normal exit would wait for the device

    def _report(self, run: int, event: Event) -> None:
        now = time.monotonic()
        due = now - self._reported.get(run, 0) >= _SECONDS_BETWEEN_REPORTS
        if due or isinstance(event, EpochMetrics):
            self._reported[run] = now
            self._connection.send(ProgressReport(run, event))


def _end_of(run: int, error: UserError) -> Ended:
    return Ended(
        run,
        problem=str(error),
        busy=isinstance(error, BusyError),
        disk_full=getattr(error, "disk_full", False),
        out_of_memory=getattr(error, "out_of_memory", False),
    )


def _device_works() -> bool:
    """Return whether the CUDA context is usable; after some errors every call fails."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _free_cached_memory() -> None:
    """Release cached memory, which would otherwise count as used when the next run is added."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _checked(
    configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int, writes: bool
) -> Checked:
    import torch

    import cifar_exp.runs.runner  # noqa: F401 -- so that an error is found before the workers start
    from cifar_exp.runs.preflight import preflight
    from cifar_exp.runs.provenance import hardware
    from cifar_exp.training.device import choose_compute, uses_gpu

    try:
        gpus = torch.cuda.device_count() if any(map(uses_gpu, configs)) else 0
        cores = torch.get_num_threads()
        allocations = allocate(gpus, cores, runs_per_device, len(configs), sweep_size)
        needs = preflight(configs, expected_concurrent(allocations), writes=writes)
        at_most = allocations[0].threads
        threads = tuple(choose_compute(config, at_most).threads for config in configs)
        return Checked(None, allocations, needs, threads, hardware())
    except UserError as error:
        return Checked(str(error))
    except OSError as error:
        return Checked(f"{error.filename}: {error.strerror}")
