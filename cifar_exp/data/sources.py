"""From the settings of `data` to a data set, whatever its source."""

from collections.abc import Collection
from pathlib import Path

from cifar_exp.config.paths import as_path
from cifar_exp.config.schema import Cifar10, Data, ImageFolder, OwnData, Synthetic
from cifar_exp.data.dataset import (
    Dataset,
    balanced,
    check_held_out,
    check_limit,
    held_out,
    validation_size,
)
from cifar_exp.errors import UserError


def load(config: Data, cache: Path, trusted: Collection[str] = ()) -> Dataset:
    """Read, download or make the images that the settings name.

    Args:
        config: the source, and limits on the number of images.
        cache: folder for the decoded images of `image_folder`; made when needed.
        trusted: names of the user's own code that may be called. The settings of a run that is to
            be trained were checked when they were composed; those that are read from a file may be
            a stranger's, and name any code.

    Returns:
        The data set after the limits.

    Raises:
        UserError: if images are missing, damaged or cannot be downloaded, a limit is too low, or
            the user's own function may not be called or fails.
    """
    # each source is imported when it is asked for: torchvision alone takes 2 s
    match config:
        case Cifar10():
            from cifar_exp.data import cifar10

            dataset = cifar10.load(as_path(config.root))
        case ImageFolder():
            from cifar_exp.data import image_folder

            dataset = image_folder.load(
                as_path(config.root),
                config.image_size,
                cache,
                config.test_fraction,
                (config.limit_train, config.limit_test),
            )
        case Synthetic():
            from cifar_exp.data import synthetic

            dataset = synthetic.load(config.train_size, config.test_size)
        case OwnData():
            from cifar_exp.data import custom

            dataset = custom.load(config, trusted)
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
    image_size = 32
    match config:
        case Cifar10():
            classes, train_size = 10, 50_000
        case ImageFolder():
            from cifar_exp.data import image_folder

            counts = image_folder.count(as_path(config.root), config.test_fraction)
            classes, train_size = len(counts), sum(counts.values())
            if config.evaluated_on == "validation":
                names, images = list(counts), list(counts.values())
                check_held_out(images, names, config.val_fraction)
            image_size = config.image_size
        case Synthetic():
            classes, train_size = 10, config.train_size
        case OwnData():
            from cifar_exp.data import custom

            dataset = custom.load(config, trusted)
            classes, train_size = len(dataset.classes), len(dataset.train)
            image_size = dataset.train.images.shape[1]
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
    if isinstance(config, Cifar10):
        from cifar_exp.data import cifar10

        cifar10.provide(as_path(config.root))
    return classes, image_size, (train_size - 1) % config.batch_size + 1
