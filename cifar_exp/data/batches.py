"""Batches from images that live on the device: indexed, augmented, normalised all at once."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.settings import Data

_CROP_PADDING = 4  # pixels on each side. Source: He et al., 2016, section 4.2
# A fixed size, so that the test metrics do not depend on the training batch size.
TEST_BATCH_SIZE = 250


class DeviceImages:
    """The images of a data set on a device; runs that take turns there share them.

    Args:
        dataset: uint8 images, `(N, H, W, 3)` in memory.
        device: where they go.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.train_labels = dataset.train.labels  # on the host, where an epoch is drawn
        self.test = dataset.test.images.to(device)
        self.test_labels = dataset.test.labels.to(device)
        self._dataset = dataset

    @cached_property
    def train(self) -> Tensor:
        """The training images as they are. Shape: `(N, H, W, 3)`."""
        return self._dataset.train.images.to(self.device)

    @cached_property
    def train_and_mirrored(self) -> Tensor:
        """The training images, then each once more mirrored. Shape: `(2 N, H, W, 3)`.

        Row `i + N` mirrors row `i`, so that flipping costs no more than choosing a row.
        """
        images = self._dataset.train.images.to(self.device)
        return torch.cat([images, images.flip(2)])

    def load(self, config: Data) -> None:
        """Make what the batches of a run need. Args: config: flips and normalisation."""
        _ = self.train_and_mirrored if _flips(config) else self.train
        if config.normalize == "channels":
            _ = self.mean_std

    @cached_property
    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels, of values in [0, 1]. Shape: `(1, 3, 1, 1)` each."""
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in channel_statistics(self._dataset.train)
        )
        return mean.to(self.device), std.to(self.device)


class Batches:
    """The batches of one run.

    Random choices are drawn for a whole epoch and apart from their application. They lie in a
    tensor that keeps its address from epoch to epoch, which a captured GPU step needs.

    Args:
        images: where they are is where the batches are made.
        config: batch size, augmentation and normalisation.
    """

    def __init__(self, images: DeviceImages, config: Data) -> None:
        self.batch_size = config.batch_size
        self.test_batch_size = TEST_BATCH_SIZE
        self.train_size = len(images.train_labels)
        self.test_size = len(images.test_labels)
        self._flips = _flips(config)
        self._crops = config.augment in ("crop", "crop_flip")
        self._cutout = config.cutout
        self._images = images
        self._train = images.train_and_mirrored if self._flips else images.train
        self._mean_std = images.mean_std if config.normalize == "channels" else None
        side = max(self._train.shape[1:3])
        self._counted = torch.arange(max(side, self.batch_size), device=images.device)
        # of each place in the epoch's order: row and label of its image, then its window and hole
        kinds = 2 + 2 * self._crops + 2 * bool(self._cutout)
        shape = kinds, self.train_size
        self._choices = torch.zeros(shape, dtype=torch.int64, device=images.device)
        # from pinned memory a copy to the GPU is not waited for
        self._drawn = self._choices
        if images.device.type == "cuda":
            self._drawn = torch.zeros(shape, dtype=torch.int64, pin_memory=True)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has; the last may be short."""
        return -(-self.train_size // self.batch_size)

    def begin_epoch(
        self, order_generator: torch.Generator, augment_generator: torch.Generator
    ) -> None:
        """Draw the order of the images and what happens to each of them.

        On a GPU this waits for nothing, so what the last epoch has asked of it must be done.

        Args:
            order_generator: a CPU generator for the order, so that all devices agree on it.
            augment_generator: a CPU generator for flips, crops and holes.
        """
        size = self.train_size
        order = torch.randperm(size, generator=order_generator)
        flips = torch.randint(2, (size,), generator=augment_generator)
        shifts = torch.randint(2 * _CROP_PADDING + 1, (size, 2), generator=augment_generator)
        self._drawn[0] = order + size * flips if self._flips else order
        self._drawn[1] = self._images.train_labels[order]
        if self._crops:
            self._drawn[2:4] = shifts.T
        if self._cutout:
            side = self._train.shape[1]
            self._drawn[-2:] = torch.randint(side, (size, 2), generator=augment_generator).T
        if self._drawn is not self._choices:
            self._choices.copy_(self._drawn, non_blocking=True)

    def train_batch(self, indices: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return images of this epoch, augmented and normalised, and their labels.

        Args:
            indices: in the epoch's order, as a slice or int64 of shape `(B,)`.

        Shape:
            images `(B, 3, H, W)`, float32 in channels-last format; labels `(B,)`.
        """
        if isinstance(indices, slice):
            chosen = self._choices[:, indices]
        else:
            chosen = self._choices.index_select(1, indices)
        images = self._train.index_select(0, chosen[0])
        if self._crops:
            images = random_crop(images, chosen[2:4].T, self._counted)
        if self._cutout:
            images = cutout(images, chosen[-2:].T, self._cutout, self._counted)
        return self._normalized(images), chosen[1]

    def test_batch(self, indices: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return test images, normalised and otherwise unchanged, and their labels.

        Shape:
            images `(B, 3, H, W)`, labels `(B,)`.
        """
        return self.test_images(indices), self._images.test_labels[indices]

    def test_images(self, rows: slice | list[int] | Tensor) -> Tensor:
        """Return some of the test images, normalised. Shape: `(B, 3, H, W)`."""
        return self._normalized(self._images.test[rows])

    def _normalized(self, images: Tensor) -> Tensor:
        return normalized(images, self._mean_std)


def normalized(images: Tensor, mean_std: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return images as a network takes them.

    Args:
        images: uint8.
        mean_std: of the channels, of values in [0, 1]; None leaves these as they are.

    Shape:
        images `(B, H, W, 3)`, mean and std `(1, 3, 1, 1)`, result `(B, 3, H, W)` in channels-last
        format.
    """
    # the memory is already channels-last; permuting only renames the dimensions
    values = images.permute(0, 3, 1, 2) / 255  # float32
    if mean_std is not None:
        mean, std = mean_std
        values.sub_(mean).div_(std)
    return values


def _flips(config: Data) -> bool:
    return config.augment in ("flip", "crop_flip")


def random_crop(images: Tensor, shifts: Tensor, counted: Tensor) -> Tensor:
    """Pad images with black and cut a window of the old size out of each.

    Args:
        images: uint8.
        shifts: first row and column of each window, in [0, 8].
        counted: 0, 1, 2, ... on the device, at least B, H and W of them.

    Shape:
        images `(B, H, W, 3)`, shifts `(B, 2)`, result `(B, H, W, 3)`.
    """
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, *(4 * (_CROP_PADDING,))))
    rows = shifts[:, :1] + counted[:height]
    columns = shifts[:, 1:] + counted[:width]
    return padded[counted[:count, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, centres: Tensor, side: int, counted: Tensor) -> Tensor:
    """Blacken a square of each image; what reaches over the border is cut off.

    Args:
        images: uint8.
        centres: row and column of each square's centre.
        side: pixels.
        counted: 0, 1, 2, ... on the device, at least H and W of them.

    Shape:
        images `(B, H, W, 3)`, centres `(B, 2)`, result `(B, H, W, 3)`.

    Source: DeVries and Taylor, 2017.
    """
    _, height, width, _ = images.shape
    first = centres - side // 2
    row = counted[:height] - first[:, :1]
    column = counted[:width] - first[:, 1:]
    in_rows, in_columns = ((place >= 0) & (place < side) for place in (row, column))
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return images * ~hole[..., None]


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
