"""Devices: choice of device, precision and threads; clocks and CUDA streams."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.models.settings import NetworkSection

# Below this batch size bf16 is slower than fp32 on a CPU (Zen 4, batch size 1: 6.1 ms per step
# instead of 3.2).
_MIN_CPU_BF16_BATCH_SIZE = 16
# A training step uses several threads from this amount of work, in 32x32 images through a network
# of width 1. Measured in docs/decisions/0009-packing.md.
_MIN_WORK_FOR_THREADS = 16
_REFERENCE_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Compute:
    """Compute resources of a run.

    Attributes:
        device: CPU or GPU.
        precision: "fp32" or "bf16".
        threads: CPU threads per process, 0 on a GPU.
        processes: number of processes that train the run together.
    """

    device: torch.device
    precision: str
    threads: int
    processes: int = 1

    def __str__(self) -> str:
        """Describe the resources, for example "cpu, fp32, 2 threads"."""
        processes = f", {self.processes} processes" * (self.processes > 1)
        if self.on_gpu:
            return f"cuda, {self.precision}{processes}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"cpu, {self.precision}, {threads}{processes}"

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context manager that enables bf16 autocast if the precision is bf16."""
        # captured steps must not share the cache
        return torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
            cache_enabled=not self.on_gpu,
        )


# Seconds of the host's clock, or a CUDA event.
Timestamp = Any


class Clock:
    """Measures the time of a device, with the host's clock on a CPU and with events on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"

    def record(self) -> Timestamp:
        """Record a timestamp, which the device passes after all work enqueued so far."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def passed(self, timestamp: Timestamp) -> bool:
        """Return whether the device has passed a timestamp, without waiting."""
        return not self._on_gpu or bool(timestamp.query())

    def seconds(self, start: Timestamp, end: Timestamp) -> float:
        """Return the seconds between two timestamps that the device has passed."""
        return float(start.elapsed_time(end) / 1000 if self._on_gpu else end - start)


_streams: list[torch.cuda.Stream] = []  # all that were created, to be used again
# Streams in use, by the object that uses them. PyTorch 2.11 crashes when a stream is freed to
# which there is a weak reference.
_owners: WeakKeyDictionary[object, torch.cuda.Stream] = WeakKeyDictionary()


def new_stream(device: torch.device, owner: object) -> torch.cuda.Stream | None:
    """Return a CUDA stream that no other run uses, or None for the CPU.

    Runs on the same stream would wait for each other. PyTorch also frees cuBLAS's workspace of a
    stream together with a graph, even while graphs of another run on that stream use it.
    Streams of runs that have ended are used again, since each holds a workspace of up to 65 MiB.

    Args:
        device: device of the run.
        owner: object that uses the stream until it is garbage.

    Source: PyTorch's issue 193402.
    """
    if device.type != "cuda":
        return None
    used = list(_owners.values())
    free = (stream for stream in _streams if stream.device == device and stream not in used)
    if (stream := next(free, None)) is None:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        _streams.append(stream)
    _owners[owner] = stream
    return stream


def allocate_workspace(stream: torch.cuda.Stream | None) -> None:
    """Let cuBLAS allocate its workspace of a stream, so that no run counts it as its memory.

    Args:
        stream: stream of a run; None on the CPU.
    """
    if stream is None:
        return
    with torch.cuda.stream(stream):
        values, bias = (
            torch.zeros(shape, device=stream.device, requires_grad=True)
            for shape in ((16, 16), (16,))
        )
        torch.addmm(bias, values, values).sum().backward()  # type: ignore[no-untyped-call]


def current_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the current CUDA stream, or None for the CPU."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


@contextmanager
def on_stream(stream: torch.cuda.Stream | None, deterministic: bool) -> Iterator[None]:
    """Run a block on a CUDA stream with the cuDNN settings of a run.

    Both are global state of PyTorch, so they are set whenever a run takes its turn.

    Args:
        stream: stream for the block's kernels; None on the CPU, where nothing is set.
        deterministic: whether to use only deterministic kernels.
    """
    if stream is None:
        yield
        return
    with (
        torch.cuda.stream(stream),
        torch.backends.cudnn.flags(
            enabled=True,
            deterministic=deterministic,
            benchmark=not deterministic,
            allow_tf32=False,  # fp32 means fp32
        ),
    ):
        yield


def uses_gpu(config: RunConfig) -> bool:
    """Return whether a run trains on a GPU, without initializing CUDA.

    Args:
        config: settings of the run.

    Raises:
        UserError: `device=cuda` is set and PyTorch finds no GPU.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: PyTorch finds no CUDA device here; "
            "use device=auto or device=cpu, or check `nvidia-smi` and the installed torch"
        )
    return config.device != "cpu" and torch.cuda.is_available()


def choose_compute(config: RunConfig, threads: int | None = None) -> Compute:
    """Choose the device, precision and threads of a run on this machine.

    Args:
        config: settings of the run.
        threads: maximum number of CPU threads, at least 1; None for `OMP_NUM_THREADS` or all cores.

    Raises:
        UserError: `device=cuda` is set and PyTorch finds no GPU.
    """
    on_gpu = uses_gpu(config)
    precision = config.precision
    if precision == "auto":
        fast = _bf16_is_fast_on_gpu() if on_gpu else _bf16_is_fast_on_cpu(config.data.batch_size)
        precision = "bf16" if fast else "fp32"
    return Compute(
        device=torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu"),
        precision=precision,
        threads=0 if on_gpu else _threads(config, threads or torch.get_num_threads()),
    )


def _threads(config: RunConfig, maximum: int) -> int:
    """Return one thread for short steps, in which threads mostly wait for each other."""
    if "OMP_NUM_THREADS" in os.environ:
        return maximum
    width = config.model.width if isinstance(config.model, NetworkSection) else 1.0
    size = getattr(config.data, "image_size", _REFERENCE_IMAGE_SIZE)
    work = config.data.batch_size * width**2 * (size / _REFERENCE_IMAGE_SIZE) ** 2
    return maximum if work >= _MIN_WORK_FOR_THREADS else 1


def _bf16_is_fast_on_gpu() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)  # Ampere, the first with bf16 units


def _bf16_is_fast_on_cpu(batch_size: int) -> bool:
    # AVX512_BF16 doubles the speed on AMD's Zen 4 and halves it on Intel's Emerald Rapids, where
    # AMX is fast. Only AMD's processors have SSE4a.
    capabilities = torch.cpu.get_capabilities()
    has_units = capabilities.get("amx_bf16") or (
        capabilities.get("avx512_bf16") and capabilities.get("sse4a")
    )
    return bool(has_units) and batch_size >= _MIN_CPU_BF16_BATCH_SIZE
