"""Variants of a step on the CPU that are not used, against the one that is.

    python benchmarks/variants.py

takes five minutes. CPU time on one thread, so that other programs disturb little.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from bench import Bench
from measure import in_turn, ratios
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cifar_exp.training.loop import Training
from cifar_exp.training.randomness import generator

_REPETITIONS = 15


def main() -> None:
    """Print the CPU time of each variant relative to the used one, for two widths."""
    torch.set_num_threads(1)
    for width in (1 / 8, 1.0):
        _measure(width)


def _measure(width: float) -> None:
    steps = 4 if width < 1 else 1
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(torch.device("cpu"), None, False, Path(scratch))
        config = bench.config(bench.data(640, 1000), width, "fp32")
        used, relu_first = (bench.training(config) for _ in range(2))
    for training in (used, relu_first):
        training.batches.begin_epoch(generator(0, "order", 1), generator(0, "augment", 1))
    _put_relu_first(relu_first)
    images, labels = used.batches.train_batch(slice(0, 64))
    for training in (used, relu_first):
        training.step.backward(training.step.forward(images, labels, 64)[0])
    pairs = zip(used.model.parameters(), relu_first.model.parameters(), strict=True)
    equal = all(torch.equal(first.grad, second.grad) for first, second in pairs)
    print(f"width {width:g}; ReLU before pooling gives the same gradients: {equal}")
    _compare(
        "training step",
        {
            "used": lambda: used.step.train(slice(0, 64)),
            "ReLU before pooling": lambda: relu_first.step.train(slice(0, 64)),
        },
        steps,
    )
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in used.model.parameters()]))
    flat.grad = torch.ones_like(flat)
    adam = torch.optim.Adam([flat], fused=True)
    _compare(
        "optimizer",
        {"used": used.step.optimizer.step, "one flat tensor": adam.step},
        10 * steps,
    )
    used.model.eval()
    folded = _folded(used.model.features)
    tests = {f"{size} images at a time": size for size in (250, 64, 1000)}
    evaluations = {name: _evaluation(used, used.model, size) for name, size in tests.items()}
    evaluations["250, BatchNorm folded"] = _evaluation(
        used, lambda batch: used.model.classifier(folded(batch).flatten(1)), 250
    )
    _compare("evaluation", evaluations, 1)


def _put_relu_first(training: Training) -> None:
    layers = training.model.features
    for index, layer in enumerate(list(layers)):
        if isinstance(layer, nn.MaxPool2d):
            layers[index], layers[index + 1] = layers[index + 1], layers[index]


def _folded(features: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in features:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _evaluation(
    training: Training, network: Callable[[Tensor], Tensor], size: int
) -> Callable[[], None]:
    @torch.no_grad()
    def evaluate() -> None:
        for start in range(0, 1000, size):
            images, labels = training.batches.test_batch(slice(start, start + size))
            functional.cross_entropy(network(images), labels)

    return evaluate


def _compare(what: str, variants: dict[str, Callable[[], object]], steps: int) -> None:
    """Print the times of variants; the first one is the used one."""

    def seconds(variant: Callable[[], object]) -> float:
        started = time.process_time()
        for _ in range(steps):
            variant()
        return (time.process_time() - started) / steps

    repetitions = _REPETITIONS if steps > 1 else _REPETITIONS // 3
    measured = in_turn(
        {name: lambda variant=variant: seconds(variant) for name, variant in variants.items()},
        repetitions,
    )
    used = next(iter(measured.values()))
    for name, found in measured.items():
        ratio = median(ratios(found, used))
        print(f"  {what}, {name}: {1000 * median(found):.2f} ms, {ratio:.2f} times", flush=True)


if __name__ == "__main__":
    main()
