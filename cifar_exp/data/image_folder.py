"""Load images from class folders, with a cache of the decoded images."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache as once
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cifar_exp.data.class_folders import SPLITS, TEST_FRACTION, ClassFolders, Entry
from cifar_exp.data.dataset import Dataset, Split, balanced_indices, count_shared
from cifar_exp.data.decoding import (
    UnreadableImage,
    alterations,
    as_pixels,
    opened,
)
from cifar_exp.errors import UserError
from cifar_exp.files import shortened, write_atomically

_CACHE_VERSION = 3  # increase it when decoding changes, which invalidates old caches
_DAY_SECONDS = 86_400
_MAX_NAME_BYTES = 150  # a file name has at most 255, also that of the lock

_log = logging.getLogger("cifar_exp")


def load(
    root: Path,
    image_size: int,
    cache: Path,
    test_fraction: float = TEST_FRACTION,
    limits: tuple[int | None, int | None] = (None, None),
) -> Dataset:
    """Load the images of a folder, from the cache if no file name, size or time has changed.

    Args:
        root: folder that contains train/ and test/ with the same classes, or the classes.
        image_size: side of the images in pixels; the aspect ratio is not kept.
        cache: folder for the decoded images; created if missing, unused if not writable.
        test_fraction: fraction of each class to use as test images if the root contains the
            classes.
        limits: maximum numbers of training and test images to decode; None for all.

    Returns:
        Images sorted by class and path, with classes sorted by name.

    Raises:
        UserError: a folder, class or image is missing, or an image cannot be read.
    """
    root = root.resolve()
    folders, options = _valid_folders(root, test_fraction), (image_size, test_fraction)
    # First the cache of all images, if there is one, then that of the limits, written if missing.
    for cached in dict.fromkeys([(None, None), limits]):
        chosen = [_chosen(folders, *pair) for pair in zip(SPLITS, cached, strict=True)]
        entries = [entry for part in chosen for entry, _ in part]
        name = f"{shortened(root.name, _MAX_NAME_BYTES)}-{_key(folders, image_size, cached)}"
        path = cache / f"{name}.safetensors"
        if cached == limits or path.exists():
            fingerprint, before_lock = _fingerprint(entries, image_size, root), _time_written(path)
            if dataset := _read_cache(path, fingerprint):
                return _with_files(dataset, chosen, root, options)
    with _locked(path):  # concurrent runs wait here, and then read the cache
        is_new = _time_written(path) != before_lock
        dataset = _read_cache(path, fingerprint) if is_new else None
        if dataset is None:
            dataset = _decode_all(chosen, image_size, folders)
            _write_cache(path, dataset, fingerprint)
    return _with_files(dataset, chosen, root, options)


def _time_written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a cache for one process, if its folder is writable."""
    with contextlib.ExitStack() as lock:
        with contextlib.suppress(OSError):  # it is reported when the cache is written
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.enter_context(FileLock(path.with_name(f".{path.name}.lock")))
        yield


def _decode_all(
    chosen: Sequence[Sequence[tuple[Entry, int]]], image_size: int, folders: ClassFolders
) -> Dataset:
    root = folders.root
    if not sys.stderr.isatty():  # no progress bar is shown
        _log.info("decoding %d images of %s", sum(map(len, chosen)), root)
    altered: Counter[str] = Counter()
    train, test = (
        _decode(part, split, image_size, root, altered)
        for part, split in zip(chosen, SPLITS, strict=True)
    )
    for alteration, images in altered.items():
        _log.warning("%d image%s: %s", images, "s" * (images > 1), alteration)
    return Dataset(train, test, tuple(folders.classes), count_shared(train, test))


def _with_files(
    dataset: Dataset,
    chosen: list[list[tuple[Entry, int]]],
    root: Path,
    options: tuple[int, float],
) -> Dataset:
    train, test = (
        replace(split, files=[os.path.relpath(entry.path, root) for entry, _ in part])
        for split, part in zip((dataset.train, dataset.test), chosen, strict=True)
    )
    if dataset.shared:
        _warn_once(
            f"{dataset.shared} of {len(dataset.test)} test images are also training images, so "
            f"accuracies of test images are too high. To list them: {_check_data(root, *options)}"
        )
    return replace(dataset, train=train, test=test)


def _key(folders: ClassFolders, image_size: int, limits: tuple[int | None, int | None]) -> str:
    """Return the part of a cache's name that is unique for each choice of images."""
    key = f"{folders.root} {image_size}"
    key += f" {folders.test_fraction}" * (not folders.is_split)
    key += f" {limits}" * (limits != (None, None))
    return hashlib.sha256(os.fsencode(key)).hexdigest()[:8]


def _chosen(folders: ClassFolders, split: str, limit: int | None) -> list[tuple[Entry, int]]:
    """Return the files of a split within a limit, with their labels."""
    counts = torch.tensor(folders.counts(split))
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    indices = balanced_indices(labels, limit, f"data.limit_{split}").tolist()
    entries = folders.entries(split)
    return [(entries[index], int(labels[index])) for index in indices]


def count(root: Path, test_fraction: float = TEST_FRACTION) -> dict[str, int]:
    """Return the number of training images of each class, and log notes about the layout.

    Args:
        root: see `load`.
        test_fraction: see `load`.

    Raises:
        UserError: a folder or class is missing or empty.
    """
    folders = _valid_folders(root, test_fraction)
    for note in filter(None, (folders.layout, *folders.notes)):
        _warn_once(note)
    return dict(zip(folders.classes, folders.counts("train"), strict=True))


@once
def _warn_once(note: str) -> None:
    _log.warning("%s", note)


def _valid_folders(root: Path, test_fraction: float) -> ClassFolders:
    folders = ClassFolders(root, test_fraction)
    if problems := folders.problems:
        others = f"\nThis is one of {len(problems)} problems. To list all: {_check_data(root)}"
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
    progress = tqdm(chosen, f"decoding {split} images", disable=None, leave=False)
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
        f"{path}: cannot read the image: {reason}. Replace or remove the file. "
        f"To list all such files: {_check_data(root)}"
    )


def _check_data(root: Path, image_size: int = 32, test_fraction: float = TEST_FRACTION) -> str:
    command = f"python -m cifar_exp check-data {shlex.quote(str(root))}"
    command += f" --image-size {image_size}" * (image_size != 32)
    return command + f" --test-fraction {test_fraction:g}" * (test_fraction != TEST_FRACTION)


def _read_cache(path: Path, fingerprint: str) -> Dataset | None:
    """Return the cached images; None if the cache is missing, outdated or damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != fingerprint:
                return None
            train, test = (
                Split(file.get_tensor(f"{split}.images"), file.get_tensor(f"{split}.labels"))
                for split in SPLITS
            )
        classes, shared = tuple(json.loads(metadata["classes"])), int(metadata["shared"])
        dataset = Dataset(train, test, classes, shared)
        if dataset.digest() == metadata["digest"]:
            return dataset
        reason = "its checksum is wrong"
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error)
    _log.warning("%s: the cache is damaged (%s). Decoding all images again.", path, reason)
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
        "shared": str(dataset.shared),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        _log.warning("cannot cache the decoded images; each start decodes them again: %s", error)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of killed processes; recent files may still be written to."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if time.time() - file.stat().st_mtime > _DAY_SECONDS:
                file.unlink()
