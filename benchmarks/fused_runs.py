"""Compare K runs of VGG as separate networks and as one fused network.

separate: one step of each run after the other. alone: a single run. grouped: one network with
grouped convolutions, one group for each run. vmap: `torch.func.vmap` over stacked weights. All are
first checked to compute the same losses. A CPU uses one thread, as each worker of a sweep does. On
a GPU, steps are also replayed as CUDA graphs, each on a separate stream.

Source: Wang et al., "Horizontally Fused Training Array", MLSys 2021; PyTorch's "Model ensembling".
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from statistics import median, quantiles

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from cifar_exp.models.build import build_model
from cifar_exp.models.settings import Model
from cifar_exp.models.vgg import Vgg
from cifar_exp.optimizers import Adam
from cifar_exp.training.device import Compute
from cifar_exp.training.optimizers import ParamOptimizer

# Largest differences of the loss before and after the first step, which amplifies rounding.
ROUNDING = {"fp32": (1e-4, 2e-2), "bf16": (2e-2, 2e-1)}
SPREAD = "{1:.2f} ({0:.2f} to {2:.2f})"  # median and quartiles
Step = Callable[[], Tensor]  # trains, and returns the loss of each run before the step


class Grouped(nn.Module):
    """Several networks without dropout, fused into one with grouped convolutions."""

    def __init__(self, *models: Vgg) -> None:
        super().__init__()
        self._runs = len(models)
        layers = zip(*(model.features for model in models), strict=True)
        self.features = nn.Sequential(*(self._fused(*same) for same in layers))
        self.weight = nn.Parameter(torch.stack([m.classifier.weight.data.T for m in models]))
        self.bias = nn.Parameter(torch.stack([m.classifier.bias.data[None] for m in models]))

    def _fused(self, *layers: nn.Module) -> nn.Module:
        first, runs = layers[0], self._runs
        if isinstance(first, nn.Conv2d):
            channels = runs * first.in_channels, runs * first.out_channels
            fused: nn.Module = nn.Conv2d(*channels, kernel_size=3, padding=1, groups=runs)
        elif isinstance(first, nn.BatchNorm2d):
            fused = nn.BatchNorm2d(runs * first.num_features)
            fused.num_batches_tracked = None  # one kernel less on a GPU
        else:
            return first
        for name, weight in fused.named_parameters():
            weight.data.copy_(torch.cat([layer.get_parameter(name).data for layer in layers]))
        return fused

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shape: `(N, K * 3, 32, 32)` to `(K, N, classes)`."""
        features = self.features(images).view(len(images), self._runs, -1)
        return torch.baddbmm(self.bias, features.transpose(0, 1), self.weight)


def network_step(model: nn.Module, images: Tensor, labels: Tensor, compute: Compute) -> Step:
    """Return the step of a network. Shape: labels `(N,)` of one run or `(K, N)` of K runs."""
    update = ParamOptimizer(Adam(), model.parameters())

    def step() -> Tensor:
        update.zero_grad()
        with compute.autocast():
            logits = model(images).float().movedim(-1, 1)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none").mean(-1)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        update.step()
        return losses.detach()

    return step


def vmap_step(models: list[Grouped], images: Tensor, labels: Tensor) -> Step:
    """Return the step of K networks of one run each. Shape: images `(K, N, 3, 32, 32)`."""
    weights, buffers = stack_module_state(models)
    values = {name: weight.detach() for name, weight in weights.items()}
    update = ParamOptimizer(Adam(), weights.values())

    def loss(values: object, buffers: object, images: Tensor, labels: Tensor) -> Tensor:
        (logits,) = functional_call(models[0], (values, buffers), images)  # type: ignore[arg-type]
        return nn.functional.cross_entropy(logits, labels)

    gradients_and_losses = vmap(grad_and_value(loss))

    def step() -> Tensor:
        gradients, losses = gradients_and_losses(values, buffers, images, labels)
        for name, weight in weights.items():
            weight.grad = gradients[name]
        update.step()
        return torch.as_tensor(losses)

    return step


def captured(step: Step) -> Step:
    """Return the step as a CUDA graph with a separate stream and memory pool."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()  # weights and images were made on another stream
    with torch.cuda.stream(stream):
        for _ in range(3):  # warm-up: creates moments, chooses kernels
            step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        losses = step()

    def replay() -> Tensor:
        with torch.cuda.stream(stream):
            graph.replay()
        return losses

    return replay


def implementations(options: argparse.Namespace, compute: Compute) -> dict[str, list[Step]]:
    """Return the steps of each implementation; the first is the reference."""
    images = torch.rand(options.runs, options.batch, 3, 32, 32, device=compute.device)
    labels = torch.randint(10, images.shape[:2], device=compute.device)
    config = Model(name=options.model, width=options.width)
    models = [build_model(config, 10, seed) for seed in range(options.runs)]
    plain, grouped = [Grouped(model) for model in models], Grouped(*models)
    channels = images.transpose(0, 1).flatten(1, 2)
    last, contiguous = torch.channels_last, torch.contiguous_format

    def step(layout: torch.memory_format, model: nn.Module, images: Tensor, labels: Tensor) -> Step:
        model = deepcopy(model).to(compute.device, memory_format=layout)  # type: ignore[call-overload]
        return network_step(model, images.contiguous(memory_format=layout), labels, compute)

    found = {
        "separate, channels-last": [*map(partial(step, last), models, images, labels)],
        "alone, channels-last": [step(last, models[0], images[0], labels[0])],
        "grouped, channels-last": [step(last, grouped, channels, labels)],
        "separate, contiguous": [*map(partial(step, contiguous), plain, images, labels[:, None])],
        "grouped, contiguous": [step(contiguous, grouped, channels, labels)],
    }
    if compute.precision == "fp32":  # in autocast vmap's BatchNorm fails (PyTorch 2.15)
        found["vmap"] = [vmap_step([model.to(compute.device) for model in plain], images, labels)]
    return found


def milliseconds(steps: list[Step], rounds: int, device: torch.device) -> float:
    """Return the milliseconds per step and run, over `rounds` rounds of steps."""
    wait = torch.get_device_module(device).synchronize  # does nothing on a CPU
    runs = sum(step().numel() for step in steps)
    wait()
    start = time.perf_counter()
    for _ in range(rounds):
        for step in steps:
            step()
    wait()
    return 1000 * (time.perf_counter() - start) / (rounds * runs)


def compare(options: argparse.Namespace, compute: Compute) -> None:
    """Check and measure all implementations in one precision, and print a table."""
    found = implementations(options, compute)
    for rounding in ROUNDING[compute.precision]:
        losses = [torch.hstack([step() for step in steps]) for steps in found.values()]
        for name, loss in zip(found, losses, strict=True):
            assert ((loss - losses[0][: len(loss)]).abs() < rounding).all(), (name, loss, losses[0])
    graphs = implementations(options, compute) if compute.on_gpu else {}
    graphs.pop("vmap", None)
    found |= {f"{name}, graphs": [*map(captured, steps)] for name, steps in graphs.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(options.n):
        for name, steps in found.items():
            times[name].append(milliseconds(steps, options.rounds, compute.device))
    rows = []
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(next(iter(times.values())), taken, strict=True)]
        spreads = (SPREAD.format(*quantiles(values, n=4)) for values in (taken, ratios))
        rows.append((name, f"{1000 * options.batch / median(taken):.0f}", *spreads))
    print(f"\n{compute}; " + ", ".join(f"{key} {value}" for key, value in vars(options).items()))
    print(
        tabulate(rows, ("implementation", "images/s", "ms per step and run (quartiles)", "speed"))
    )


def main() -> None:
    """Compare all implementations in both precisions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", choices=("vgg11", "vgg16"), default="vgg16")
    for name, value in (("width", 1 / 8), ("runs", 4), ("batch", 64), ("n", 20), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    for precision in ROUNDING:
        compare(options, Compute(torch.device(options.device), precision, threads=1))


if __name__ == "__main__":
    main()
