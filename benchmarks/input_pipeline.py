"""Section `input`: our input pipeline against a DataLoader without workers."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from bench import Bench
from measure import Table, at_least, in_turn, ratios, seconds_of, spread
from torch import Tensor

from cifar_exp.data.batches import Batches, DeviceImages
from cifar_exp.training.randomness import generator

_GOAL = 50.0


def tables(bench: Bench) -> Iterator[Table]:
    """Measure the images per second of both."""
    size = bench.times(12_800 if bench.device.type == "cpu" else 50_000, 1280)
    config = bench.config(bench.data(size, 10))
    dataset = bench.dataset(config.data)
    batches = Batches(DeviceImages(dataset, bench.device), config.data)
    loader = bench.article(config).train_loader
    pipelines: dict[str, Callable[[], object]] = {
        "article": partial(_load_article, loader, bench.device),
        "ours": partial(_load_ours, batches),
    }
    images = len(dataset.train)
    actions = {
        name: partial(_images_per_second, pipeline, images, bench.device)
        for name, pipeline in pipelines.items()
    }
    measured = in_turn(actions, bench.times(5))
    gains = ratios(measured["ours"], measured["article"])
    row = {
        "images": str(images),
        "article, images/s": spread(measured["article"]),
        "ours, images/s": spread(measured["ours"]),
        "times as fast": spread(gains),
        "n": str(len(gains)),
        **at_least(_GOAL, gains),
    }
    explanation = (
        "All batches of 64 of an epoch, without training: shuffled, flipped and converted to "
        "float32 in [0, 1] on the device. Both include drawing random numbers."
    )
    yield Table("Input pipeline", explanation, [row], [{**row, "images_per_second": measured}])


def _images_per_second(pipeline: Callable[[], object], images: int, device: torch.device) -> float:
    return images / seconds_of(pipeline, device)


def _load_article(loader: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> None:
    for images, labels in loader:
        images.to(device), labels.to(device)


def _load_ours(batches: Batches) -> None:
    batches.begin_epoch(generator(0, "order", 1), generator(0, "augmentation", 1))
    for start in range(0, batches.train_size, batches.batch_size):
        # the last slice may exceed the end
        batches.train_batch(slice(start, start + batches.batch_size))
