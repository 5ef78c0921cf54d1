"""Load and check the data set that the `data` settings describe."""

from collections.abc import Collection
from pathlib import Path

from cifar_exp.data.dataset import (
    Dataset,
    balanced,
    check_held_out,
    check_limit,
    count_shared,
    held_out,
    validation_size,
)
from cifar_exp.data.settings import Contents, Data, DataSection
from cifar_exp.errors import UserError


def load(config: Data, cache: Path, trusted: Collection[str] = ()) -> Dataset:
    """Read, download or generate a data set, and apply its limits.

    Args:
        config: source and limits.
        cache: folder for the decoded images of `image_folder`; created if missing.
        trusted: names of custom code that may be called. Settings from a file may name any code.

    Returns:
        The data set; with `data.val_fraction`, the validation images as `test`.

    Raises:
        UserError: images are missing, damaged or cannot be downloaded, a limit is too low, or
            custom code is not trusted or fails.
    """
    dataset = config.read(cache, trusted)
    train = balanced(dataset.train, config.limit_train, "data.limit_train")
    if config.evaluated_on == "validation":
        check_held_out(train.labels.bincount().tolist(), dataset.classes, config.val_fraction)
        rest, validation = held_out(train, config.val_fraction)
        # users cannot mend published data
        shared = count_shared(rest, validation) if config.place else 0
        return Dataset(rest, validation, dataset.classes, shared)
    test = balanced(dataset.test, config.limit_test, "data.limit_test")
    return Dataset(train, test, dataset.classes, dataset.shared)


def check(
    config: Data,
    trusted: Collection[str] = (),
    known: dict[str, Contents] | None = None,
    downloads: bool = True,
) -> Contents:
    """Check the settings before a sweep starts, without decoding images.

    Custom code is called.

    Args:
        config: source and limits.
        trusted: names of custom code that may be called.
        known: cache of the contents of data sets; pass the same dictionary to several calls.
        downloads: whether to download a missing archive.

    Returns:
        The contents after the limits, without validation images.

    Raises:
        UserError: files, a folder or a class are missing, a limit is too low, a batch is larger
            than the training set, or custom code is not trusted or fails.
    """
    known = {} if known is None else known
    source = config.model_dump_json(exclude=set(DataSection.model_fields))
    if source not in known:  # a folder has many files to list
        known[source] = config.contents(trusted)
    counts, classes, train_size, image_size = known[source]
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
            f"got {config.batch_size}. Set batch_size={train_size} or a smaller one."
        )
    if downloads:
        config.provide()
    return Contents(counts, classes, train_size, image_size)
