"""Labelled images in memory, from any of the sources."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cifar_exp.errors import UserError

_HELD_OUT_SEED = 20_240_602  # any number; another one holds out other images


@dataclass(frozen=True)
class Split:
    """Images and the class of each.

    Args:
        images: uint8 RGB, contiguous.
        labels: int64, positions in `Dataset.classes`.

    Shape:
        images `(N, H, W, 3)`, labels `(N,)`.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Training and test images with the names of their classes.

    With `data.val_fraction` the validation images stand for the test images.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]

    def digest(self) -> str:
        """Return the SHA-256 of everything in here, as 64 hex digits."""
        tensors = [self.train.images, self.train.labels, self.test.images, self.test.labels]
        shapes = [list(tensor.shape) for tensor in tensors]
        digest = hashlib.sha256(json.dumps([self.classes, shapes]).encode())
        for tensor in tensors:
            digest.update(tensor.flatten().numpy().data)  # no copy
        return digest.hexdigest()


def balanced(split: Split, limit: int | None, key: str) -> Split:
    """Take the first image of each class, then the second of each, up to a limit.

    Args:
        split: where to take from.
        limit: images to take, at least one a class; None takes all.
        key: the setting that an error names.

    Returns:
        The taken images, in the order they had.

    Raises:
        UserError: if the limit is lower than the number of classes.
    """
    chosen = balanced_rows(split.labels, limit, key)
    return split if len(chosen) == len(split) else Split(split.images[chosen], split.labels[chosen])


def balanced_rows(labels: Tensor, limit: int | None, key: str) -> Tensor:
    """Return the places of the images that `balanced` takes, in the order they had.

    Args:
        labels: of all images.
        limit: as in `balanced`.
        key: as in `balanced`.

    Raises:
        UserError: as in `balanced`.

    Shape:
        labels `(N,)`, result `(M,)` with M at most the limit.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    counts = labels.bincount()
    check_limit(limit, len(counts), key)
    # rank: how many images of the same class come before
    rank = torch.empty_like(labels)
    rank[labels.argsort(stable=True)] = torch.cat([torch.arange(n) for n in counts.tolist()])
    return (rank * len(counts) + labels).argsort()[:limit].sort().values


def held_out(split: Split, fraction: float) -> tuple[Split, Split]:
    """Part a split in two, each class in the same proportion.

    Which images go where depends on nothing but the split and the fraction, so that all runs of a
    search are judged by the same images, whatever their seed.

    Args:
        split: the training images.
        fraction: of them that is held out, in (0, 0.5].

    Returns:
        What is left to train on, and what is held out, both in the order they had.

    At least one image of each class is held out, however few it has; see `check_held_out`.

    Raises:
        UserError: if fewer images than classes would be held out.
    """
    counts = split.labels.bincount()
    size = validation_size(len(split), fraction, len(counts))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(_HELD_OUT_SEED))
    by_class = order[split.labels[order].argsort(stable=True)]
    # how far each image is in the shuffled row of its class, in (0, 1)
    places = torch.cat([(torch.arange(n) + 0.5) / n for n in counts.tolist()])
    # the first of each class before all others, which a rare class would else not come to
    starts = (counts.cumsum(0) - counts)[counts > 0]
    places[starts] -= 1
    chosen = torch.zeros(len(split), dtype=torch.bool)
    chosen[by_class[places.argsort(stable=True)[:size]]] = True
    return (
        Split(split.images[~chosen], split.labels[~chosen]),
        Split(split.images[chosen], split.labels[chosen]),
    )


def check_held_out(counts: Sequence[int], classes: Sequence[str], fraction: float) -> None:
    """Refuse classes that cannot be both trained on and held out.

    Args:
        counts: training images of each class.
        classes: their names.
        fraction: as `data.val_fraction`.

    Raises:
        UserError: a class has one image.
    """
    for name, count in zip(classes, counts, strict=False):
        if count == 1:
            raise UserError(
                f"data.val_fraction={fraction:g}: the class '{name}' has one training image, and "
                "needs two, one to train on and one to hold out. Add images, or remove the class."
            )


def validation_size(train_size: int, fraction: float, classes: int) -> int:
    """Return how many of the training images are held out, at least one a class."""
    size = round(fraction * train_size)
    if size < classes:
        raise UserError(
            f"data.val_fraction={fraction:g} of {train_size} training images holds out {size}: "
            f"expected at least one for each of the {classes} classes"
        )
    return size


def check_limit(limit: int | None, classes: int, key: str) -> None:
    """Refuse a limit below one image a class. Raises: UserError: it is lower."""
    if limit is not None and limit < classes:
        raise UserError(
            f"{key}={limit} is lower than the {classes} classes: "
            f"expected {classes} or more, or null for all images."
        )
