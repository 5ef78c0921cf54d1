"""The user's images: train/<class>/ and test/<class>/, or <class>/; decoded once and cached."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache as once
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cifar_exp.data.class_folders import SPLITS, TEST_FRACTION, ClassFolders, Entry
from cifar_exp.data.dataset import Dataset, Split, balanced_rows
from cifar_exp.data.decoding import (
    UnreadableImage,
    alterations,
    as_pixels,
    opened,
    pixel_digest,
)
from cifar_exp.errors import UserError
from cifar_exp.files import write_atomically

_CACHE_VERSION = 2  # raise it when decoding changes, and old caches are not read any more
_DAY_SECONDS = 86_400

_CHECK = "python -m cifar_exp check-data"

_log = logging.getLogger("cifar_exp")


def load(
    root: Path,
    image_size: int,
    cache: Path,
    test_fraction: float = TEST_FRACTION,
    limits: tuple[int | None, int | None] = (None, None),
) -> Dataset:
    """Read images, or the cache if no file's name, size or time has changed.

    Args:
        root: folder that holds train/ and test/ with the same classes, or the classes.
        image_size: pixels a side; other images are resized, whatever their aspect.
        cache: folder for the decoded images; made when needed, not used if not writable.
        test_fraction: share of each class that is tested where the root holds the classes.
        limits: how many training and test images are needed; no others are decoded.

    Returns:
        Images in the order of their classes and paths; classes sorted by name.

    Raises:
        UserError: if a folder, class or image is missing, or an image cannot be read.
    """
    root = root.resolve()
    folders = _sound(root, test_fraction)
    for needed in dict.fromkeys([(None, None), limits]):  # all may have been decoded before
        chosen = [_chosen(folders, *pair) for pair in zip(SPLITS, needed, strict=True)]
        entries = [entry for part in chosen for entry, _ in part]
        path = cache / f"{root.name}-{_key(folders, image_size, needed)}.safetensors"
        if needed == limits or path.exists():
            fingerprint = _fingerprint(entries, image_size, root)
            if dataset := _read_cache(path, fingerprint):
                return dataset
    altered: Counter[str] = Counter()
    train, test = (
        _decode(part, split, image_size, root, altered)
        for part, split in zip(chosen, SPLITS, strict=True)
    )
    for what, images in altered.items():
        _log.warning("%d image%s: %s", images, "s" * (images > 1), what)
    dataset = Dataset(train, test, tuple(folders.classes))
    _warn_of_shared_images(dataset, root)
    _write_cache(path, dataset, fingerprint)
    return dataset


def _key(folders: ClassFolders, image_size: int, limits: tuple[int | None, int | None]) -> str:
    """Return a part of a cache's name that is its own for each choice of images."""
    what = f"{folders.root} {image_size}"
    what += f" {folders.test_fraction}" * (not folders.is_split)
    what += f" {limits}" * (limits != (None, None))
    return hashlib.sha256(os.fsencode(what)).hexdigest()[:8]


def _chosen(folders: ClassFolders, split: str, limit: int | None) -> list[tuple[Entry, int]]:
    """Return the files that are needed, each with its label."""
    counts = torch.tensor(folders.counts(split))
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    rows = balanced_rows(labels, limit, f"data.limit_{split}").tolist()
    entries = folders.entries(split)
    return [(entries[row], int(labels[row])) for row in rows]


def count(root: Path, test_fraction: float = TEST_FRACTION) -> dict[str, int]:
    """Return the number of training images of each class; warns of what may not be meant.

    Raises:
        UserError: if a folder or class is missing or empty.
    """
    folders = _sound(root, test_fraction)
    for note in filter(None, (folders.layout, *folders.notes)):
        _warn_once(note)
    return dict(zip(folders.classes, folders.counts("train"), strict=True))


@once
def _warn_once(note: str) -> None:
    _log.warning("%s", note)


def _sound(root: Path, test_fraction: float) -> ClassFolders:
    folders = ClassFolders(root, test_fraction)
    if problems := folders.problems:
        others = f"\nThis is one of {len(problems)} problems: {_CHECK} {root} names them all."
        raise UserError(problems[0] + (others if len(problems) > 1 else ""))
    return folders


def _fingerprint(entries: Sequence[Entry], image_size: int, root: Path) -> str:
    digest = hashlib.sha256(f"{_CACHE_VERSION} {image_size}".encode())
    for entry in entries:
        try:
            stat = entry.stat()
        except OSError as error:  # a link to nowhere
            raise _unreadable(entry.path, error.strerror, root) from error
        digest.update(os.fsencode(f"{entry.path}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def _decode(
    chosen: Sequence[tuple[Entry, int]],
    split: str,
    image_size: int,
    root: Path,
    altered: Counter[str],
) -> Split:
    from tqdm import tqdm

    images = np.empty((len(chosen), image_size, image_size, 3), np.uint8)
    progress = tqdm(chosen, f"decoding {split} images", disable=None)
    for row, (entry, _) in enumerate(progress):
        try:
            with opened(entry.path) as image:
                altered.update(alterations(image))
                images[row] = as_pixels(image, image_size)
        except UnreadableImage as error:
            raise _unreadable(entry.path, error, root) from error
    return Split(torch.from_numpy(images), torch.tensor([label for _, label in chosen]))


def _unreadable(path: str, reason: object, root: Path) -> UserError:
    return UserError(
        f"cannot read the image {path}: {reason}. Replace or remove it; "
        f"{_CHECK} {root} names all such files."
    )


def _warn_of_shared_images(dataset: Dataset, root: Path) -> None:
    trained = {pixel_digest(image) for image in dataset.train.images.numpy()}
    shared = sum(pixel_digest(image) in trained for image in dataset.test.images.numpy())
    if shared:
        _log.warning(
            "%d of %d test images are among the training images too, so the results will look "
            "better than they are: %s %s names them",
            *(shared, len(dataset.test), _CHECK, root),
        )


def _read_cache(path: Path, fingerprint: str) -> Dataset | None:
    """Return the cached images; None where there are none, or others, or damaged ones."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != fingerprint:
                return None
            train, test = (
                Split(file.get_tensor(f"{split}.images"), file.get_tensor(f"{split}.labels"))
                for split in ("train", "test")
            )
        dataset = Dataset(train, test, tuple(json.loads(metadata["classes"])))
        if dataset.digest() == metadata["digest"]:
            return dataset
        reason = "its checksum is wrong"
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error)
    _log.warning("the cache %s is damaged (%s): decoding all images again", path, reason)
    return None


def _write_cache(path: Path, dataset: Dataset, fingerprint: str) -> None:
    tensors = {
        "train.images": dataset.train.images,
        "train.labels": dataset.train.labels,
        "test.images": dataset.test.images,
        "test.labels": dataset.test.labels,
    }
    metadata = {
        "fingerprint": fingerprint,
        "classes": json.dumps(dataset.classes),
        "digest": dataset.digest(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        write_atomically(path, lambda temporary: temporary.write_bytes(save(tensors, metadata)))
    except (OSError, SafetensorError) as error:
        _log.warning("no cache of the decoded images, each start decodes them again: %s", error)


def _remove_stale(path: Path) -> None:
    """Remove what killed processes left; a young file may be another's that is being written."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):  # another process may be removing it
            if time.time() - file.stat().st_mtime > _DAY_SECONDS:
                file.unlink()
