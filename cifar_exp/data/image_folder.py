"""The user's own images: root/train/<class>/ and root/test/<class>/, decoded once and cached."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cifar_exp.data.class_folders import ClassFolders
from cifar_exp.data.dataset import Dataset, Split
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


def load(root: Path, image_size: int, cache: Path) -> Dataset:
    """Read all images, or the cache if no file's name, size or time has changed.

    Args:
        root: folder that holds train/ and test/ with the same classes.
        image_size: pixels a side; other images are resized, whatever their aspect.
        cache: folder for the decoded images; made when needed, not used if not writable.

    Returns:
        Images in the order of their classes and paths; classes sorted by name.

    Raises:
        UserError: if a folder, class or image is missing, or an image cannot be read.
    """
    root = root.resolve()
    folders = _sound(root)
    fingerprint = _fingerprint(folders, image_size)
    key = hashlib.sha256(os.fsencode(f"{root} {image_size}")).hexdigest()[:8]
    path = cache / f"{root.name}-{key}.safetensors"
    dataset = _read_cache(path, fingerprint)
    if dataset is None:
        altered: Counter[str] = Counter()
        train, test = (_decode(folders, split, image_size, altered) for split in ("train", "test"))
        for what, images in altered.items():
            _log.warning("%d image%s: %s", images, "s" * (images > 1), what)
        dataset = Dataset(train, test, tuple(folders.classes))
        _warn_of_shared_images(dataset, root)
        _write_cache(path, dataset, fingerprint)
    return dataset


def count(root: Path) -> dict[str, int]:
    """Return the number of training images of each class.

    Raises:
        UserError: if a folder or class is missing or empty.
    """
    folders = _sound(root)
    return {name: len(images) for name, images in folders.images["train"].items()}


def _sound(root: Path) -> ClassFolders:
    folders = ClassFolders(root)
    if problems := folders.problems:
        others = f"\nThis is one of {len(problems)} problems: {_CHECK} {root} names them all."
        raise UserError(problems[0] + (others if len(problems) > 1 else ""))
    return folders


def _fingerprint(folders: ClassFolders, image_size: int) -> str:
    digest = hashlib.sha256(f"{_CACHE_VERSION} {image_size}".encode())
    for entry in (*folders.entries("train"), *folders.entries("test")):
        try:
            stat = entry.stat()
        except OSError as error:  # a link to nowhere
            raise _unreadable(entry.path, error.strerror, folders.root) from error
        digest.update(os.fsencode(f"{entry.path}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def _decode(folders: ClassFolders, split: str, image_size: int, altered: Counter[str]) -> Split:
    from tqdm import tqdm

    counts = torch.tensor([len(images) for images in folders.images[split].values()])
    images = np.empty((int(counts.sum()), image_size, image_size, 3), np.uint8)
    entries = tqdm(folders.entries(split), f"decoding {split} images", disable=None)
    for row, entry in enumerate(entries):
        try:
            with opened(entry.path) as image:
                altered.update(alterations(image))
                images[row] = as_pixels(image, image_size)
        except UnreadableImage as error:
            raise _unreadable(entry.path, error, folders.root) from error
    return Split(torch.from_numpy(images), torch.arange(len(counts)).repeat_interleave(counts))


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
