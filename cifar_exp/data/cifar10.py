"""CIFAR-10 as torchvision reads it, with a download that fails fast, whole and in words.

Source: Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.datasets.utils import calculate_md5
from tqdm import tqdm

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import UserError

_TIMEOUT_SECONDS = 10  # without an answer; a slow but living download goes on


def load(root: Path, name: str = "CIFAR10") -> Dataset:
    """Read CIFAR-10, after extracting or downloading the archive if need be.

    torchvision compares the MD5 of every file, each time.

    Args:
        root: folder of the archive and of the files extracted from it.
        name: torchvision's class of the data set; the others here take it as well.

    Returns:
        The published training and test images, of 32 x 32 pixels.

    Raises:
        UserError: if files are altered, cannot be downloaded or cannot be written.
    """
    source = _source(name)
    provide(root, name)
    try:
        train, test = source(root, train=True), source(root, train=False)
    except (OSError, RuntimeError) as error:  # torchvision does not say which file
        altered = next(altered_files(root, name), f"cannot read {root / source.base_folder}")
        raise UserError(
            f"{altered}.\nDelete {root / source.base_folder} and {root / str(source.filename)} "
            f"to download again, or put a good {source.filename} there."
        ) from error
    return Dataset(_split(train), _split(test), tuple(train.classes))


def _source(name: str) -> Any:
    return getattr(datasets, name)


def _title(source: Any) -> str:
    return str(source.__name__).replace("CIFAR", "CIFAR-")


def _split(images: Any) -> Split:
    return Split(torch.from_numpy(images.data).contiguous(), torch.tensor(images.targets))


def provide(root: Path, name: str = "CIFAR10") -> None:
    """Extract or download the files if they are not there; all of them or none.

    Raises:
        UserError: if they cannot be had or cannot be written.
    """
    source = _source(name)
    if (root / source.base_folder).exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        # a second process waits here and then finds the files
        with FileLock(root / f".{name.lower()}.lock"), _staging(root, name) as staging:
            if not (root / source.base_folder).exists():
                _extract(_archive(root, staging, source), staging / source.base_folder)
                os.replace(staging / source.base_folder, root / source.base_folder)
    except OSError as error:
        raise UserError(
            f"cannot write {_title(source)} into data.root={root}: {error}. "
            "Expected a folder you may write to, or one that already holds the extracted files."
        ) from error


@contextmanager
def _staging(root: Path, name: str) -> Iterator[Path]:
    """Give an empty folder, always the same one, so that what a kill leaves does not pile up."""
    folder = root / f".{name.lower()}.staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _archive(root: Path, staging: Path, source: Any) -> Path:
    """Return the checked archive; a download that is cut off leaves nothing in the root."""
    archive = root / str(source.filename)
    if archive.exists():
        if altered := altered_archive(root, source.__name__):
            raise UserError(altered)
        return archive
    download = staging / str(source.filename)
    try:
        _download(download, source)
    except (OSError, HTTPException) as error:
        raise UserError(_no_download(root, source, str(error))) from error
    if (found := _md5(download)) != source.tgz_md5:
        raise UserError(_no_download(root, source, f"what came has the MD5 {found}"))
    return download.replace(archive)


def _download(target: Path, source: Any) -> None:
    # torchvision's own download has no timeout, chats without a terminal and leaves torn files
    request = Request(source.url, headers={"User-Agent": "cifar-exp"})
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm.wrapattr(response, "read", size, desc=_title(source), disable=None) as stream:
            shutil.copyfileobj(stream, file)


def _extract(archive: Path, folder: Path) -> None:
    """Copy all files into one folder, wherever their names would lead.

    Python's own safe extraction came with 3.11.4; Debian 12 has 3.11.2.
    """
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            source = tar.extractfile(member)
            assert source is not None  # it is a file
            with source, (folder / Path(member.name).name).open("wb") as file:
                shutil.copyfileobj(source, file)


def _no_download(root: Path, source: Any, reason: str) -> str:
    return (
        f"cannot download {_title(source)} from {source.url}: {reason}.\n"
        f"Put {source.filename} (MD5 {source.tgz_md5}) into {root.resolve()}/ yourself,\n"
        "or choose data=synthetic or data=image_folder, which need no download."
    )


def altered_archive(root: Path, name: str = "CIFAR10") -> str | None:
    """Say what is wrong with the archive in a folder; None if it is good."""
    source = _source(name)
    archive = root / str(source.filename)
    if (found := _md5(archive)) == source.tgz_md5:
        return None
    return (
        f"{archive} is altered or cut off: expected MD5 {source.tgz_md5}, found {found}. "
        "Delete it to download it again, or put a good one in its place."
    )


def altered_files(root: Path, name: str = "CIFAR10") -> Iterator[str]:
    """Say of each extracted file what is wrong with it; nothing is read but its MD5."""
    source = _source(name)
    meta = (source.meta["filename"], source.meta["md5"])
    for name, expected in [*source.train_list, *source.test_list, meta]:
        file = root / source.base_folder / name
        if (found := _md5(file)) != expected:
            yield f"{file} is altered, cut off or missing: expected MD5 {expected}, found {found}"


def _md5(file: Path) -> str:
    try:
        return str(calculate_md5(file))
    except OSError as error:
        return str(error.strerror).lower()  # such as "no such file or directory"
