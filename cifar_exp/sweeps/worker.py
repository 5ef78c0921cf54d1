"""A worker process: keeps runs going on one device, in turns, until it is told to stop."""

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY, is_out_of_memory
from cifar_exp.runs.folder import BusyError
from cifar_exp.runs.log import show_warnings
from cifar_exp.signals import STOP_SIGNALS, Interrupted
from cifar_exp.sweeps.allocation import Part, at_once, shared_out
from cifar_exp.sweeps.gpu_concurrency import ConcurrencyLimit
from cifar_exp.sweeps.messages import (
    Checked,
    Ended,
    Leave,
    ProgressReport,
    Ready,
    Stop,
    Train,
    Warned,
)
from cifar_exp.terminal import keep_output
from cifar_exp.training.progress import EpochMetrics, Progress

_SECONDS_BETWEEN_REPORTS = 0.1
_BROKEN = (
    "the GPU does not compute any more after this error. The worker process is replaced, and its "
    "other runs are repeated"
)

Run = Generator[Progress | EpochMetrics, None, bool]


def work(connection: Connection, part: Part) -> None:
    """Serve one sweep; the process ends with the connection, or with the sweep's own process.

    Args:
        connection: to the sweep.
        part: of the machine that this process has.
    """
    _settle(connection)
    try:
        worker = _Worker(connection, part)
    except ImportError as error:
        if not is_out_of_memory(error):
            raise
        connection.send(Warned(TOO_LITTLE_MEMORY))
        sys.exit(1)
    try:
        worker.serve()
    except (EOFError, OSError):  # the sweep is gone, or needs no more
        worker.stop(signal.SIGTERM)


def check(
    connection: Connection,
    configs: Sequence[RunConfig],
    runs_per_device: int | None,
    sweep_size: int,
) -> None:
    """Find out whether runs can be trained here, and send a `Checked`; the process ends with that.

    Args:
        connection: to the sweep.
        configs: of the runs.
        runs_per_device: how many at once; None for as many as pay.
        sweep_size: how many runs the sweep has, finished ones too.
    """
    _settle(connection)
    answer = _checked(configs, runs_per_device, sweep_size)
    with suppress(OSError):  # the sweep is gone
        connection.send(answer)


def _settle(connection: Connection) -> None:
    """Leave signals and warnings to the sweep: a signal for all comes to it as well."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    keep_output()
    show_warnings(lambda text: connection.send(Warned(text)))


class _Worker:
    def __init__(self, connection: Connection, part: Part) -> None:
        import torch  # takes seconds, and memory in the processes of workers only

        from cifar_exp.runs.runner import Runner

        on_gpu = part.gpu is not None
        if on_gpu:
            torch.cuda.set_device(part.gpu)
        self._limit = ConcurrencyLimit(
            part.runs, free_bytes=lambda: torch.cuda.mem_get_info()[0] if on_gpu else 0
        )
        self._runner = Runner(part.threads)
        self._connection = connection
        self._runs: dict[int, Run] = {}
        self._reported: dict[int, float] = {}
        self._asked = False

    def serve(self) -> None:
        while True:
            self._ask()
            if not self._runs or self._connection.poll():
                self._receive()
                continue
            for run in self._limit.turns():
                self._advance(run)

    def stop(self, signal_number: int) -> None:
        stopped = list(self._runs)
        for run in stopped:
            self._leave(run, Interrupted(signal_number))
        self._runner.close()  # before it is told: then the sweep may end this process
        for run in stopped:
            self._tell_end(Ended(run, interrupted=True))

    def _leave(self, run: int, interruption: Interrupted) -> None:
        self._limit.ended(run)
        with suppress(Interrupted, StopIteration, UserError):
            self._runs.pop(run).throw(interruption)

    def _receive(self) -> None:
        match self._connection.recv():
            case Train(run, config, prefix_runs):
                self._asked = False
                self._runs[run] = self._runner.run(config, prefix_runs)
                self._limit.admit(run)
            case Leave(run) if run in self._runs:  # else it has ended meanwhile
                self._leave(run, Interrupted(signal.SIGTERM, by="the search"))
                self._tell_end(Ended(run, interrupted=True))
            case Stop(signal_number):
                self.stop(signal_number)
                self._asked = True  # and gets no more

    def _ask(self) -> None:
        if not self._asked and self._limit.wants_more():
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
                self._limit.heard(run, event.steps)
            self._report(run, event)
            return
        del self._runs[run]
        broken = end.problem is not None and not _device_works()
        if not broken:
            _free_cached_memory()
        self._limit.ended(run)
        self._tell_end(end)
        if broken:
            self._end_process()

    def _end_process(self) -> None:
        """End, since nothing can be computed here any more; the sweep replaces the process."""
        with suppress(OSError):
            self._connection.send(Warned(_BROKEN))
        self._runner.close()
        os._exit(1)  # Python's end would wait for a device that does not answer

    def _report(self, run: int, event: Progress | EpochMetrics) -> None:
        now = time.monotonic()
        due = now - self._reported.get(run, 0) >= _SECONDS_BETWEEN_REPORTS
        if due or isinstance(event, EpochMetrics):
            self._reported[run] = now
            self._connection.send(ProgressReport(run, event))

    def _tell_end(self, end: Ended) -> None:
        with suppress(OSError):  # the sweep is gone
            self._connection.send(end)


def _end_of(run: int, error: UserError) -> Ended:
    return Ended(
        run,
        problem=str(error),
        busy=isinstance(error, BusyError),
        disk_full=getattr(error, "disk_full", False),
        out_of_memory=getattr(error, "out_of_memory", False),
    )


def _device_works() -> bool:
    """Return whether the GPU still computes; after some CUDA errors no call succeeds."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _free_cached_memory() -> None:
    """Return the memory of a run that has ended to the device, for other runs and processes.

    Without this, it would count as taken when memory decides whether another run fits.
    """
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _checked(configs: Sequence[RunConfig], runs_per_device: int | None, sweep_size: int) -> Checked:
    try:
        import torch
    except ImportError as error:
        if is_out_of_memory(error):
            return Checked(TOO_LITTLE_MEMORY)
        raise

    from cifar_exp.runs.preflight import preflight
    from cifar_exp.training.device import uses_gpu

    try:
        gpus = torch.cuda.device_count() if any(map(uses_gpu, configs)) else 0
        cores = torch.get_num_threads()
        parts = shared_out(gpus, cores, runs_per_device, len(configs), sweep_size)
        return Checked(None, parts, preflight(configs, at_once(parts)))
    except UserError as error:
        return Checked(str(error))
    except OSError as error:
        return Checked(f"{error.filename}: {error.strerror}")
