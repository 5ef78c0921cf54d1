"""The user's own images: root/train/<class>/ and root/test/<class>/, decoded once and cached."""

import contextlib
import difflib
import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import UserError

if TYPE_CHECKING:  # PIL is imported when an image is decoded; a cache does without
    from PIL.Image import Image

_CACHE_VERSION = 1  # raise it when decoding changes, and old caches are not read any more
_CLUTTER = ("thumbs.db", "desktop.ini", ".txt", ".json", ".csv", ".md")

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
    classes = find_classes(root)
    train, test = (
        [_find_images(root / split / name) for name in classes] for split in ("train", "test")
    )
    fingerprint = _fingerprint([*train, *test], image_size)
    key = hashlib.sha256(f"{root} {image_size}".encode()).hexdigest()[:8]
    path = cache / f"{root.name}-{key}.safetensors"
    dataset = _read_cache(path, fingerprint)
    if dataset is None:
        splits = _decode(train, image_size, "train"), _decode(test, image_size, "test")
        dataset = Dataset(*splits, tuple(classes))
        _write_cache(path, dataset, fingerprint)
    return dataset


def find_classes(root: Path) -> list[str]:
    """Return the sorted names of the class folders, the same in train/ and test/.

    Raises:
        UserError: if a folder is missing, or a class is in one of the two only.
    """
    for folder in (root, root / "train", root / "test"):
        if not folder.is_dir():
            raise UserError(
                f"data.root={root}: there is no folder {folder}. "
                "Expected images in train/<class>/ and test/<class>/ of data.root."
            )
    train, test = (
        sorted(entry.name for entry in _scan(root / split) if entry.is_dir())
        for split in ("train", "test")
    )
    _refuse_missing(train, test, root / "test")
    _refuse_missing(test, train, root / "train")
    if len(train) < 2:
        raise UserError(
            f"{root / 'train'} holds {len(train)} class folders: expected 2 or more, "
            "one folder of images for each class."
        )
    return train


def count(root: Path) -> tuple[int, int]:
    """Return the number of classes and of training images.

    Raises:
        UserError: if a folder or class is missing or empty.
    """
    classes = find_classes(root)
    return len(classes), sum(len(_find_images(root / "train" / name)) for name in classes)


def _refuse_missing(expected: list[str], found: list[str], folder: Path) -> None:
    for name in expected:
        if name not in found:
            near = difflib.get_close_matches(name, set(found) - set(expected), n=1)
            hint = f" (there is '{near[0]}': did you mean that?)" if near else ""
            raise UserError(
                f"{folder} lacks the class '{name}'{hint}. "
                "Expected the same class folders in train/ and test/."
            )


def _find_images(folder: Path) -> list[os.DirEntry[str]]:
    images = sorted(_walk(folder), key=lambda entry: entry.path)
    if not images:
        raise UserError(
            f"{folder} holds no images: add some, or remove this class from both splits."
        )
    return images


def _walk(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    for entry in _scan(folder):
        if entry.is_dir():
            yield from _walk(entry.path)
        elif not entry.name.lower().endswith(_CLUTTER):
            yield entry


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot look into {folder}: {error.strerror}") from error


def _fingerprint(classes: list[list[os.DirEntry[str]]], image_size: int) -> str:
    digest = hashlib.sha256(f"{_CACHE_VERSION} {image_size}".encode())
    for entry in (entry for images in classes for entry in images):
        try:
            stat = entry.stat()
        except OSError as error:  # a link to nowhere
            raise UserError(f"cannot read the image {entry.path}: {error.strerror}") from error
        digest.update(os.fsencode(f"{entry.path}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def _decode(classes: list[list[os.DirEntry[str]]], image_size: int, split: str) -> Split:
    from tqdm import tqdm

    counts = torch.tensor([len(images) for images in classes])
    images = np.empty((int(counts.sum()), image_size, image_size, 3), np.uint8)
    paths = [entry.path for images in classes for entry in images]
    for row, path in enumerate(tqdm(paths, f"decoding {split} images", disable=None)):
        images[row] = _read_image(path, image_size)
    return Split(torch.from_numpy(images), torch.arange(len(counts)).repeat_interleave(counts))


def _read_image(path: str, image_size: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    size = (image_size, image_size)
    try:
        with open(path, "rb", buffering=0) as file:
            data = io.BytesIO(file.read())  # PIL reads small files in twice the time
        with Image.open(data) as stored:
            image = _to_rgb(ImageOps.exif_transpose(stored))
    except (OSError, SyntaxError, ValueError) as error:  # all that PIL raises for bad files
        raise UserError(
            f"cannot read the image {path}: it is cut off, damaged or of an unknown format. "
            "Replace or remove it."
        ) from error
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits; converting would clip what is above 255
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("no range is known for floating-point pixels")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns about the direct way
    return image.convert("RGB")


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save(tensors, metadata))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        _log.warning("no cache of the decoded images, each start decodes them again: %s", error)
        with contextlib.suppress(OSError):
            temporary.unlink()
