"""What a run computes on, in which precision, and how its time is told."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.models.settings import NetworkSection

# Below this batch size bf16 is slower than fp32 on a CPU (measured on Zen 4: 6.1 against 3.2 ms
# a step at batch 1).
_SMALLEST_BF16_BATCH_ON_CPU = 16
# Work of a training step from which several threads are taken: images of 32x32 pixels through a
# network of full width. Measured in docs/decisions/0009-packing.md.
_LEAST_WORK_OF_SEVERAL_THREADS = 16
_PIXELS_A_SIDE = 32


@dataclass(frozen=True)
class Compute:
    """What a run took: `threads` of the CPU, 0 on a GPU, in each of its `processes`."""

    device: torch.device
    precision: str
    threads: int
    processes: int = 1

    def __str__(self) -> str:
        """Return for example "cpu, fp32, 2 threads"."""
        together = f", {self.processes} processes" * (self.processes > 1)
        if self.device.type == "cuda":
            return f"cuda, {self.precision}{together}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"cpu, {self.precision}, {threads}{together}"

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in bf16 what gains by it, while the block runs."""
        # without the cache, which a captured step must not share with another
        return torch.autocast(
            self.device.type,
            torch.bfloat16,
            enabled=self.precision == "bf16",
            cache_enabled=not self.on_gpu,
        )


# A time in seconds, or an event in a GPU's stream.
Mark = Any


class Clock:
    """Tells the time of a device: the wall clock of a CPU, events in a GPU's stream.

    Args:
        device: whose work is timed.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"

    def mark(self) -> Mark:
        """Return a mark that is passed when all work enqueued so far is done."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def passed(self, mark: Mark) -> bool:
        """Tell whether the device has come to a mark; never waits."""
        return not self._on_gpu or bool(mark.query())

    def seconds(self, start: Mark, end: Mark) -> float:
        """Return the seconds between two marks that have been passed."""
        return float(start.elapsed_time(end) / 1000 if self._on_gpu else end - start)


_STREAMS = 32  # PyTorch has this many for each GPU, and returns them in turn
_in_use: WeakSet[torch.cuda.Stream] = WeakSet()


def new_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream of a GPU that no other run uses, or None for the CPU.

    Two runs on one stream would wait for each other. And when graphs are freed, PyTorch frees
    cuBLAS's workspace of their stream, which the graphs of the other run still use.

    Args:
        device: of the run.

    Source: PyTorch's issue 193402.
    """
    if device.type != "cuda":
        return None
    for _ in range(_STREAMS):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        if stream not in _in_use:
            break
    _in_use.add(stream)
    return stream


def current_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return the current stream of a GPU, or None for the CPU."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


@contextmanager
def on_stream(stream: torch.cuda.Stream | None, deterministic: bool) -> Iterator[None]:
    """Send the block's work to a GPU stream; without one the block runs as it is.

    Both settings are PyTorch's global state, so they are set around each turn of a run and not
    once: several runs may take turns.

    Args:
        stream: where the block's kernels run; None on the CPU.
        deterministic: only kernels that give the same bits every time.
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
    """Return whether `auto` or `cuda` finds a GPU here. Does not initialise CUDA.

    Raises:
        UserError: `device=cuda` is set, and PyTorch finds no GPU.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: PyTorch finds no CUDA device here; "
            "use device=auto or device=cpu, or check `nvidia-smi` and the installed torch"
        )
    return config.device != "cpu" and torch.cuda.is_available()


def choose_compute(config: RunConfig, threads: int | None = None) -> Compute:
    """Decide what `auto` means on this machine.

    Args:
        config: the run's settings.
        threads: of the CPU that it may take; None for all cores, or `OMP_NUM_THREADS`.

    Raises:
        UserError: `device=cuda` is asked for where PyTorch finds no GPU.
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


def _threads(config: RunConfig, most: int) -> int:
    """Return how many threads pay: threads of short steps mostly wait for each other.

    Beside another program each wait can last until the system gives that thread its core again.
    """
    if "OMP_NUM_THREADS" in os.environ:  # was set by someone who knows
        return most
    width = config.model.width if isinstance(config.model, NetworkSection) else 1.0
    size = getattr(config.data, "image_size", _PIXELS_A_SIDE)
    work = config.data.batch_size * width**2 * (size / _PIXELS_A_SIDE) ** 2
    return most if work >= _LEAST_WORK_OF_SEVERAL_THREADS else 1


def _bf16_is_fast_on_gpu() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)  # Ampere was the first with bf16 units


def _bf16_is_fast_on_cpu(batch_size: int) -> bool:
    # AVX512's bf16 doubles the speed of AMD's Zen 4 and halves that of Intel's Xeons (measured on
    # Emerald Rapids), which have AMX for it. SSE4a is in AMD's processors alone.
    has = torch.cpu.get_capabilities()
    has_units = has.get("amx_bf16") or (has.get("avx512_bf16") and has.get("sse4a"))
    return bool(has_units) and batch_size >= _SMALLEST_BF16_BATCH_ON_CPU
