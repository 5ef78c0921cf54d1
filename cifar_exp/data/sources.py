"""From the settings of `data` to a data set, whatever its source."""

from collections.abc import Collection
from pathlib import Path

from cifar_exp.data.dataset import (
    Dataset,
    balanced,
    check_held_out,
    check_limit,
    held_out,
    validation_size,
)
from cifar_exp.data.settings import Data
from cifar_exp.errors import UserError


def load(config: Data, cache: Path, trusted: Collection[str] = ()) -> Dataset:
    """Read, download or make the images that the settings name.

    Args:
        config: the source, and limits on the number of images.
        cache: folder for the decoded images of `image_folder`; made when needed.
        trusted: names of custom code that may be called. The settings of a run that is to
            be trained were checked when they were composed; those that are read from a file may be
            a stranger's, and name any code.

    Returns:
        The data set after the limits.

    Raises:
        UserError: if images are missing, damaged or cannot be downloaded, a limit is too low, or
            the user's own function may not be called or fails.
    """
    dataset = config.read(cache, trusted)
    train = balanced(dataset.train, config.limit_train, "data.limit_train")
    if config.evaluated_on == "validation":  # the test images are not even kept
        check_held_out(train.labels.bincount().tolist(), dataset.classes, config.val_fraction)
        return Dataset(*held_out(train, config.val_fraction), dataset.classes)
    test = balanced(dataset.test, config.limit_test, "data.limit_test")
    return Dataset(train, test, dataset.classes)


def check(config: Data, trusted: Collection[str] = ()) -> tuple[int, int, int]:
    """Look, without reading an image, whether the settings can work; for before a sweep.

    CIFAR-10 is downloaded here if it is not there, and the user's own function is called.

    Args:
        config: the source, and limits on the number of images.
        trusted: as in `load`.

    Returns:
        The number of classes, the pixels on each side of an image, and the images in the last
        batch of an epoch.

    Raises:
        UserError: if files, a folder or a class are missing, a limit is too low, or a batch is
            larger than the training set.
    """
    counts, classes, train_size, image_size = config.contents(trusted)
    if counts and config.evaluated_on == "validation":
        check_held_out(list(counts.values()), list(counts), config.val_fraction)
    check_limit(config.limit_train, classes, "data.limit_train")
    check_limit(config.limit_test, classes, "data.limit_test")
    train_size = min(train_size, config.limit_train or train_size)
    if config.evaluated_on == "validation":
        train_size -= validation_size(train_size, config.val_fraction, classes)
    if config.batch_size > train_size:
        raise UserError(
            f"data.batch_size: expected at most the {train_size} training images, "
            f"got {config.batch_size}"
        )
    config.provide()
    return classes, image_size, (train_size - 1) % config.batch_size + 1
