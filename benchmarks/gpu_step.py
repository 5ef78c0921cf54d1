"""Which kernels take the time of a training step on a GPU, and how fast its variants are.

    python benchmarks/gpu_step.py

prints two kinds of tables in about a minute: the kernels of our step by time, and the time of a
step of VGG16 in plain PyTorch, captured as a CUDA graph, in several variants.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from article_loop import vgg16
from bench import Bench
from measure import number
from tabulate import tabulate
from torch import nn

from cifar_exp.training.progress import EpochMetrics

_STEPS = 200
_KERNELS = 20  # the slowest ones
_BATCH_SIZE = 64


def kernels(width: float) -> str:
    """Profile an epoch of our loop and return its slowest kernels as a Markdown table."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(torch.device("cuda", 0), None, False, Path(scratch))
        data = bench.data(_BATCH_SIZE * _STEPS, 1000, _BATCH_SIZE)
        epochs = (
            event
            for event in bench.training(bench.config(data, width)).run()
            if isinstance(event, EpochMetrics)
        )
        next(epochs), next(epochs)
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities, acc_events=True) as profile:
            next(epochs)
            torch.cuda.synchronize()
    found = sorted(profile.key_averages(), key=lambda kernel: -kernel.device_time_total)
    rows = [
        {
            "kernel": kernel.key[:90],
            "a step": f"{kernel.count / _STEPS:.0f}",
            "µs each": number(kernel.device_time_total / kernel.count),
            "µs a step": number(kernel.device_time_total / _STEPS),
        }
        for kernel in found[:_KERNELS]
    ]
    total = sum(kernel.device_time_total for kernel in found) / _STEPS
    title = f"## Kernels: width {width:g}, batch {_BATCH_SIZE}, {total:,.0f} µs a step\n"
    return f"{title}\n{tabulate(rows, headers='keys', tablefmt='github')}\n"


@dataclass(frozen=True)
class Variant:
    """A way to compute a step.

    Attributes:
        name: row of the table.
        kind: type of the convolutions.
        channels_last: memory format of the images and weights.
        tf32: whether fp32 convolutions may round to TF32.
        choose: whether cuDNN measures its algorithms, which is not deterministic.
        compiled: whether `torch.compile` fuses kernels.
        left_out: types of layers of VGG16 that are left out.
    """

    name: str
    kind: torch.dtype = torch.bfloat16
    channels_last: bool = True
    tf32: bool = False
    choose: bool = False
    compiled: bool = False
    left_out: tuple[type[nn.Module], ...] = ()


_BASE = Variant("bf16, channels-last")
_VARIANTS = (
    _BASE,
    replace(_BASE, name="the same again"),
    replace(_BASE, name="bf16, contiguous", channels_last=False),
    replace(_BASE, name="bf16, cuDNN chooses by measuring", choose=True),
    replace(_BASE, name="bf16 without BatchNorm", left_out=(nn.BatchNorm2d,)),
    replace(_BASE, name="bf16 without BatchNorm and ReLU", left_out=(nn.BatchNorm2d, nn.ReLU)),
    replace(_BASE, name="fp16, channels-last", kind=torch.float16),
    replace(_BASE, name="fp32, channels-last", kind=torch.float32),
    replace(_BASE, name="fp32, contiguous", kind=torch.float32, channels_last=False),
    replace(_BASE, name="TF32, channels-last", kind=torch.float32, tf32=True),
    replace(_BASE, name="bf16, torch.compile", compiled=True),
)


def variants(width: float) -> str:
    """Time a replayed step of each variant and return a Markdown table."""
    rows = list(_timed(width))
    title = f"## Variants of a step in plain PyTorch: width {width:g}, batch {_BATCH_SIZE}\n"
    return f"{title}\n{tabulate(rows, headers='keys', tablefmt='github')}\n"


def _timed(width: float) -> Iterator[dict[str, str]]:
    first = None
    for variant in _VARIANTS:
        started = time.perf_counter()
        with torch.backends.cudnn.flags(
            enabled=True,
            benchmark=variant.choose,
            deterministic=not variant.choose,
            allow_tf32=variant.tf32,
        ):
            milliseconds = _step_milliseconds(variant, width)
        first = first or milliseconds
        yield {
            "variant": variant.name,
            "ms": f"{milliseconds:.3f}",
            "times as fast": number(first / milliseconds),
            "prepared in, s": number(time.perf_counter() - started),
        }


def _step_milliseconds(variant: Variant, width: float) -> float:
    torch.manual_seed(0)
    layers = [layer for layer in vgg16(width) if not isinstance(layer, variant.left_out)]
    memory_format = torch.channels_last if variant.channels_last else torch.contiguous_format
    model = nn.Sequential(*layers).cuda().to(memory_format=memory_format)
    images = torch.rand(_BATCH_SIZE, 3, 32, 32, device="cuda")
    images = images.contiguous(memory_format=memory_format)
    labels = torch.randint(10, (_BATCH_SIZE,), device="cuda")
    lr = torch.tensor(1e-3, device="cuda")
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True, capturable=True)
    network = torch.compile(model) if variant.compiled else model
    mixed = variant.kind is not torch.float32

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", variant.kind, enabled=mixed, cache_enabled=False):
            logits = network(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(4):
            step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for replay in range(20 + _STEPS):
            if replay == 20:
                start.record()
            graph.replay()
        end.record()
        stream.synchronize()
    return start.elapsed_time(end) / _STEPS


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    for width in (1.0, 0.125):
        print(kernels(width), flush=True)
        print(variants(width), flush=True)
