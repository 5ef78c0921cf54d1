"""The speed of a run, measured on a few steps with random images."""

import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import DeviceImages, evaluation_batch_size
from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.settings import Contents
from cifar_exp.training.device import choose_compute
from cifar_exp.training.loop import Training
from cifar_exp.training.progress import EpochMetrics

_LONG_STEP_SECONDS = 0.5  # a longer step is not measured at the full batch size
_MEASURED_SECONDS = 1.5
_MAX_STEPS = 20


def measure_speed(config: RunConfig, contents: Contents, threads: int) -> tuple[float, float, int]:
    """Train a few steps in memory; nothing is written.

    The batch grows until a step takes long or the batch has its full size.

    Args:
        config: settings of the run.
        contents: number of classes and size of the images.
        threads: CPU threads of the run.

    Returns:
        Seconds per training image, seconds per evaluated image, and the peak memory in bytes.
    """
    batch = min(config.data.batch_size, 2)
    train, test, memory = _epoch(config, contents, threads, batch, steps=1)
    while batch < config.data.batch_size and batch * train < _LONG_STEP_SECONDS:
        batch = min(4 * batch, config.data.batch_size)
        train, test, memory = _epoch(config, contents, threads, batch, steps=1)
    steps = min(_MAX_STEPS, int(_MEASURED_SECONDS / (batch * train)))
    return _epoch(config, contents, threads, batch, steps) if steps > 1 else (train, test, memory)


def _epoch(
    config: RunConfig, contents: Contents, threads: int, batch: int, steps: int
) -> tuple[float, float, int]:
    """Train two epochs of a number of steps, and return the measurements of the second."""
    classes = [str(index) for index in range(contents.classes)]
    test_size = evaluation_batch_size(contents.image_size)
    if batch < config.data.batch_size:  # the measurement at the full batch size comes later
        test_size = min(max(batch, 2), test_size)
    splits = (_noise(batch * steps, contents), _noise(test_size, contents))
    short = config.model_copy(
        update={
            "data": config.data.model_copy(update={"batch_size": batch}),
            "training": config.training.model_copy(update={"epochs": 2, "patience": None}),
        }
    )
    compute = choose_compute(config, threads)
    if compute.threads:
        torch.set_num_threads(compute.threads)
    images = DeviceImages(Dataset(*splits, tuple(classes)), compute.device)
    training = Training(short, images, tuple(classes), compute)
    *_, last = (event for event in training.run() if isinstance(event, EpochMetrics))
    return (
        last["train_seconds"] / (batch * steps),
        last[f"{'val' if config.data.val_fraction else 'test'}_seconds"] / test_size,
        int(last["peak_memory_bytes"]),
    )


def _noise(size: int, contents: Contents) -> Split:
    side = contents.image_size
    images = torch.randint(256, (size, side, side, 3), dtype=torch.uint8)
    return Split(images, torch.arange(size) % contents.classes)
