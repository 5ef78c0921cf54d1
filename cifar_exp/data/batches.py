"""Batches from images that live on the device: indexed, augmented, normalised all at once."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from cifar_exp.config.schema import Data
from cifar_exp.data.dataset import Dataset, Split

_CROP_PADDING = 4  # pixels on each side. Source: He et al., 2016, section 4.2
# A fixed size, so that the test metrics do not depend on the training batch size.
_TEST_BATCH_SIZE = 250


class Batches:
    """The batches of one data set on one device.

    Random choices are drawn for a whole epoch and apart from their application. With flips the
    table of training images holds every image a second time, mirrored: row `i + N` mirrors row
    `i`, so that flipping costs no more than choosing a row.

    Args:
        dataset: uint8 images, `(N, H, W, 3)` in memory.
        config: batch size, augmentation and normalisation.
        device: where the images are kept and the batches are made.
    """

    def __init__(self, dataset: Dataset, config: Data, device: torch.device) -> None:
        self.batch_size = config.batch_size
        self.train_size = len(dataset.train)
        self.test_size = len(dataset.test)
        self._flips = config.augment in ("flip", "crop_flip")
        self._crops = config.augment in ("crop", "crop_flip")
        train = dataset.train.images.to(device)
        self._train_images = torch.cat([train, train.flip(2)]) if self._flips else train
        self._train_labels = dataset.train.labels.to(device)
        self._test_images = dataset.test.images.to(device)
        self._test_labels = dataset.test.labels.to(device)
        self._mean_std = _channel_statistics(dataset.train, device, config.normalize)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has; the last may be short."""
        return -(-self.train_size // self.batch_size)

    def train(
        self, order_generator: torch.Generator, augment_generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every training image once, in random order.

        Args:
            order_generator: a CPU generator for the order, so that all devices agree on it.
            augment_generator: a CPU generator for flips and crops.

        Yields:
            images `(B, 3, H, W)`, float32 in channels-last format, and labels `(B,)`.
        """
        device = self._train_labels.device
        order = torch.randperm(self.train_size, generator=order_generator)
        flips = torch.randint(2, (self.train_size,), generator=augment_generator)
        shape = (self.train_size, 2)
        shifts = torch.randint(2 * _CROP_PADDING + 1, shape, generator=augment_generator)
        labels = self._train_labels[order.to(device)]
        rows = (order + self.train_size * flips if self._flips else order).to(device)
        shifts = shifts.to(device)
        for start in range(0, self.train_size, self.batch_size):
            batch = slice(start, start + self.batch_size)
            images = self._train_images.index_select(0, rows[batch])
            if self._crops:
                images = random_crop(images, shifts[batch])
            yield self._normalized(images), labels[batch]

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every test image once, in order and unchanged but for normalisation."""
        for start in range(0, self.test_size, _TEST_BATCH_SIZE):
            batch = slice(start, start + _TEST_BATCH_SIZE)
            yield self.test_images(batch), self._test_labels[batch]

    def test_images(self, rows: slice | list[int]) -> Tensor:
        """Return some of the test images, normalised. Shape: `(B, 3, H, W)`."""
        return self._normalized(self._test_images[rows])

    def _normalized(self, images: Tensor) -> Tensor:
        # the memory is already channels-last; permuting only renames the dimensions
        values = images.permute(0, 3, 1, 2).float().div_(255)
        if self._mean_std is not None:
            mean, std = self._mean_std
            values.sub_(mean).div_(std)
        return values


def random_crop(images: Tensor, shifts: Tensor) -> Tensor:
    """Pad images with black and cut a window of the old size out of each.

    Args:
        images: uint8.
        shifts: first row and column of each window, in [0, 8].

    Shape:
        images `(B, H, W, 3)`, shifts `(B, 2)`, result `(B, H, W, 3)`.
    """
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, *(4 * (_CROP_PADDING,))))
    rows = shifts[:, :1] + torch.arange(height, device=images.device)
    columns = shifts[:, 1:] + torch.arange(width, device=images.device)
    index = torch.arange(count, device=images.device)
    return padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]


def channel_statistics(split: Split) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, of values in [0, 1]."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(3):
        counts = torch.bincount(split.images[..., channel].flatten(), minlength=256).double()
        mean = (counts @ levels / counts.sum()).item()
        variance = (counts @ (levels - mean) ** 2 / counts.sum()).item()
        means.append(mean)
        stds.append(max(variance**0.5, 1 / 255))  # images of one colour must not divide by 0
    return means, stds


def _channel_statistics(
    split: Split, device: torch.device, normalize: str
) -> tuple[Tensor, Tensor] | None:
    if normalize == "none":
        return None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in channel_statistics(split))
    return mean.to(device), std.to(device)
