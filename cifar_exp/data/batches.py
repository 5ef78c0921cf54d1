"""Batches of images on the device: indexing, augmentation and normalisation."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.settings import Data

_CROP_PADDING = 4  # pixels on each side. Source: He et al., 2016, section 4.2
_MAX_TEST_BATCH_SIZE = 250
_MAX_TEST_BATCH_PIXELS = 2**20  # limits the memory for large images


def evaluation_batch_size(side: int) -> int:
    """Return the number of images that are evaluated at once.

    It does not depend on the training batch size, so that the test metrics do not either.

    Args:
        side: height and width of the images in pixels.
    """
    return max(1, min(_MAX_TEST_BATCH_SIZE, _MAX_TEST_BATCH_PIXELS // side**2))


class DeviceImages:
    """The images of a data set on a device, shared by all runs that train there.

    Args:
        dataset: images in host memory.
        device: device to copy the images to.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.train_labels = dataset.train.labels  # on the host, where each epoch is shuffled
        self.test = dataset.test.images.to(device)
        self.test_labels = dataset.test.labels.to(device)
        self._dataset = dataset

    @cached_property
    def train(self) -> Tensor:
        """The training images. Shape: `(N, H, W, 3)`."""
        return self._dataset.train.images.to(self.device)

    @cached_property
    def train_and_flipped(self) -> Tensor:
        """The training images, followed by their horizontal flips. Shape: `(2 N, H, W, 3)`.

        Row `i + N` is the flip of row `i`, so flipping an image only changes its index.
        """
        images = self._dataset.train.images.to(self.device)
        return torch.cat([images, images.flip(2)])

    def load(self, config: Data) -> None:
        """Copy the images to the device, with what a run's augmentation and normalisation need."""
        _ = self.train_and_flipped if _flips(config) else self.train
        if config.normalize == "channels":
            _ = self.mean_std

    @cached_property
    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel. Shape: `(1, 3, 1, 1)` each."""
        mean, std = (
            torch.tensor(values).view(1, 3, 1, 1)
            for values in channel_statistics(self._dataset.train)
        )
        return mean.to(self.device), std.to(self.device)


class Batches:
    """The batches of one run.

    All random choices of an epoch are drawn at its start. They are stored in a tensor that keeps
    its address, so that CUDA graphs can be replayed in the next epoch.

    Args:
        images: images on the device that computes the batches.
        config: batch size, augmentation and normalisation.
    """

    def __init__(self, images: DeviceImages, config: Data) -> None:
        self.batch_size = config.batch_size
        self.test_batch_size = evaluation_batch_size(images.test.shape[1])
        self.train_size = len(images.train_labels)
        self.test_size = len(images.test_labels)
        self._flips = _flips(config)
        self._crops = config.augment in ("crop", "crop_flip")
        self._cutout = config.cutout
        self._images = images
        self._train = images.train_and_flipped if self._flips else images.train
        self._mean_std = images.mean_std if config.normalize == "channels" else None
        side = max(self._train.shape[1:3])
        self._arange = torch.arange(max(side, self.batch_size), device=images.device)
        # columns are images in the order of the epoch; rows: image index, label, then the shifts
        # of the crop and the centre of the Cutout mask
        rows = 2 + 2 * self._crops + 2 * bool(self._cutout)
        shape = rows, self.train_size
        self._choices = torch.zeros(shape, dtype=torch.int64, device=images.device)
        # pinned memory makes the copy to the GPU asynchronous
        self._drawn = self._choices
        if images.device.type == "cuda":
            self._drawn = torch.zeros(shape, dtype=torch.int64, pin_memory=True)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller."""
        return -(-self.train_size // self.batch_size)

    def begin_epoch(
        self, order_generator: torch.Generator, augment_generator: torch.Generator
    ) -> None:
        """Draw the order of the images and their augmentation.

        On a GPU the copy is asynchronous: call this only after the last epoch has been computed.

        Args:
            order_generator: CPU generator for the order, which is the same on all devices.
            augment_generator: CPU generator for flips, crops and Cutout.
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
        """Return augmented and normalised training images and their labels.

        Args:
            indices: positions in the order of the epoch, as a slice or int64 tensor.

        Shape:
            indices `(B,)`; images `(B, 3, H, W)`, float32 in channels-last format; labels `(B,)`.
        """
        if isinstance(indices, slice):
            chosen = self._choices[:, indices]
        else:
            chosen = self._choices.index_select(1, indices)
        images = self._train.index_select(0, chosen[0])
        if self._crops:
            images = random_crop(images, chosen[2:4].T, self._arange)
        if self._cutout:
            images = cutout(images, chosen[-2:].T, self._cutout, self._arange)
        return self._normalized(images), chosen[1]

    def test_batch(self, indices: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised test images and their labels.

        Shape:
            indices `(B,)`, images `(B, 3, H, W)`, labels `(B,)`.
        """
        return self.test_images(indices), self._images.test_labels[indices]

    def test_images(self, indices: slice | list[int] | Tensor) -> Tensor:
        """Return normalised test images. Shape: `(B, 3, H, W)`."""
        return self._normalized(self._images.test[indices])

    def _normalized(self, images: Tensor) -> Tensor:
        return normalized(images, self._mean_std)


def normalized(images: Tensor, mean_std: tuple[Tensor, Tensor] | None) -> Tensor:
    """Scale images to [0, 1] and normalise their channels.

    Args:
        images: uint8.
        mean_std: mean and standard deviation of each channel; None does not normalise.

    Shape:
        images `(B, H, W, 3)`, mean and std `(1, 3, 1, 1)`, result `(B, 3, H, W)`, float32 in
        channels-last format.
    """
    # the memory is channels-last already: permute copies nothing
    values = images.permute(0, 3, 1, 2) / 255
    if mean_std is not None:
        mean, std = mean_std
        values.sub_(mean).div_(std)
    return values


def _flips(config: Data) -> bool:
    return config.augment in ("flip", "crop_flip")


def random_crop(images: Tensor, shifts: Tensor, arange: Tensor) -> Tensor:
    """Pad images with zeros and crop each to its original size.

    Args:
        images: uint8.
        shifts: first row and column of each crop in the padded image, in [0, 8].
        arange: 0, 1, 2, ... on the device, at least max(B, H, W) values.

    Shape:
        images `(B, H, W, 3)`, shifts `(B, 2)`, result `(B, H, W, 3)`.
    """
    count, height, width, _ = images.shape
    padded = functional.pad(images, (0, 0, *(4 * (_CROP_PADDING,))))
    rows = shifts[:, :1] + arange[:height]
    columns = shifts[:, 1:] + arange[:width]
    return padded[arange[:count, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(images: Tensor, centres: Tensor, side: int, arange: Tensor) -> Tensor:
    """Set a square of each image to zero; the square may extend beyond the border.

    Args:
        images: uint8.
        centres: row and column of the centre of each square.
        side: side of the square in pixels.
        arange: 0, 1, 2, ... on the device, at least max(H, W) values.

    Shape:
        images `(B, H, W, 3)`, centres `(B, 2)`, result `(B, H, W, 3)`.

    Source: DeVries and Taylor, 2017.
    """
    _, height, width, _ = images.shape
    first = centres - side // 2
    rows = arange[:height] - first[:, :1]
    columns = arange[:width] - first[:, 1:]
    in_rows, in_columns = ((offset >= 0) & (offset < side) for offset in (rows, columns))
    mask = in_rows[:, :, None] & in_columns[:, None, :]
    return images * ~mask[..., None]


def channel_statistics(split: Split) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel, with values in [0, 1]."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(3):
        counts = torch.bincount(split.images[..., channel].flatten(), minlength=256).double()
        mean = (counts @ levels / counts.sum()).item()
        variance = (counts @ (levels - mean) ** 2 / counts.sum()).item()
        means.append(mean)
        stds.append(max(variance**0.5, 1 / 255))  # avoids a division by 0
    return means, stds
