"""Labelled images in memory, and how they are limited and held out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cifar_exp.data.decoding import pixel_digest
from cifar_exp.errors import UserError

_HELD_OUT_SEED = 20_240_602  # arbitrary; another value holds out other images


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Args:
        images: uint8 RGB, contiguous.
        labels: int64 indices into `Dataset.classes`.
        files: paths relative to `data.root`; empty if the images are not files.

    Shape:
        images `(N, H, W, 3)`, labels `(N,)`.
    """

    images: Tensor
    labels: Tensor
    files: Sequence[str] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, indices: Tensor) -> "Split":
        """Return the images at some indices. Shape: indices `(M,)`."""
        files = [self.files[index] for index in indices.tolist()] if self.files else ()
        return Split(self.images[indices], self.labels[indices], files)


@dataclass(frozen=True)
class Dataset:
    """Training and test images with their class names.

    With `data.val_fraction`, `test` holds the validation images.

    Args:
        train: training images.
        test: evaluated images.
        classes: class names.
        shared: number of evaluated images that are training images as well; 0 if not counted.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    shared: int = 0

    def digest(self) -> str:
        """Return the SHA-256 of images, labels and class names as 64 hex digits."""
        tensors = [self.train.images, self.train.labels, self.test.images, self.test.labels]
        shapes = [list(tensor.shape) for tensor in tensors]
        digest = hashlib.sha256(json.dumps([self.classes, shapes]).encode())
        for tensor in tensors:
            digest.update(tensor.flatten().numpy().data)  # no copy
        return digest.hexdigest()


def count_shared(train: Split, test: Split) -> int:
    """Count the evaluated images that are training images as well, pixel for pixel."""
    known = set(map(pixel_digest, train.images.numpy()))
    return sum(pixel_digest(image) in known for image in test.images.numpy())


def evenly_spaced(size: int, limit: int) -> list[int]:
    """Return indices spread over a split, which may be sorted by class.

    Args:
        size: number of images of the split.
        limit: maximum number of indices.
    """
    count = min(size, limit)
    return [number * size // count for number in range(count)]


def balanced(split: Split, limit: int | None, key: str) -> Split:
    """Limit a split to a number of images, balanced over the classes.

    Args:
        split: all images.
        limit: maximum number of images, at least the number of classes; None keeps all.
        key: the setting that an error names.

    Returns:
        The first images of each class, in their original order.

    Raises:
        UserError: the limit is lower than the number of classes.
    """
    indices = balanced_indices(split.labels, limit, key)
    return split if len(indices) == len(split) else split.take(indices)


def balanced_indices(labels: Tensor, limit: int | None, key: str) -> Tensor:
    """Return the sorted indices of the images that `balanced` keeps.

    Args:
        labels: labels of all images.
        limit: see `balanced`.
        key: see `balanced`.

    Raises:
        UserError: the limit is lower than the number of classes.

    Shape:
        labels `(N,)`, result `(min(N, limit),)`.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    counts = labels.bincount()
    check_limit(limit, len(counts), key)
    # rank: number of earlier images of the same class
    rank = torch.empty_like(labels)
    rank[labels.argsort(stable=True)] = torch.cat([torch.arange(n) for n in counts.tolist()])
    return (rank * len(counts) + labels).argsort()[:limit].sort().values


def held_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Hold out a stratified part of the training images, at least one image of each class.

    The choice depends on the split and the fraction alone, so that all runs of a search are
    evaluated on the same images, whatever their seed.

    Args:
        split: the training images.
        fraction: fraction of the images to hold out, in (0, 0.5].

    Returns:
        The remaining and the held-out images, both in their original order.

    Raises:
        UserError: fewer images than classes would be held out.
    """
    counts = split.labels.bincount()
    size = validation_size(len(split), fraction, len(counts))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    by_class = order[split.labels[order].argsort(stable=True)]
    # relative position of each image in its shuffled class, in (0, 1)
    positions = torch.cat([(torch.arange(n) + 0.5) / n for n in counts.tolist()])
    # the first image of each class is always chosen, also in a rare class
    starts = (counts.cumsum(0) - counts)[counts > 0]
    positions[starts] -= 1
    chosen = torch.zeros(len(split), dtype=torch.bool)
    chosen[by_class[positions.argsort(stable=True)[:size]]] = True
    return split.take(torch.where(~chosen)[0]), split.take(torch.where(chosen)[0])


def check_held_out(counts: Sequence[int], classes: Sequence[str], fraction: float) -> None:
    """Check that each class has an image to train on and one to hold out.

    Args:
        counts: number of training images of each class.
        classes: class names.
        fraction: value of `data.val_fraction`.

    Raises:
        UserError: a class has a single image.
    """
    for name, count in zip(classes, counts, strict=False):
        if count == 1:
            raise UserError(
                f"data.val_fraction={fraction:g}: class '{name}' has one training image and needs "
                "at least two, one of them to hold out. Add images, or remove the class."
            )


def validation_size(train_size: int, fraction: float, classes: int) -> int:
    """Return the number of training images to hold out.

    Args:
        train_size: number of training images.
        fraction: value of `data.val_fraction`.
        classes: number of classes.

    Raises:
        UserError: the number is lower than the number of classes.
    """
    size = round(fraction * train_size)
    if size < classes:
        raise UserError(
            f"data.val_fraction={fraction:g}: expected to hold out at least one image of each of "
            f"the {classes} classes, got {size} of {train_size} training images. Set a larger "
            "fraction, or use more training images."
        )
    return size


def check_limit(limit: int | None, classes: int, key: str) -> None:
    """Check that a limit leaves at least one image of each class.

    Args:
        limit: maximum number of images; None for no limit.
        classes: number of classes.
        key: the setting that an error names.

    Raises:
        UserError: the limit is lower than the number of classes.
    """
    if limit is not None and limit < classes:
        raise UserError(
            f"{key}={limit}: expected at least {classes}, the number of classes, "
            "or null for all images"
        )
