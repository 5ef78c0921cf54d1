"""Download and read CIFAR-10 and CIFAR-100.

Source: Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
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
from tqdm import tqdm

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import UserError

_TIMEOUT_SECONDS = 10  # without any data


def load(root: Path, name: str = "CIFAR10") -> Dataset:
    """Read a data set whose files have the published MD5, after downloading it if necessary.

    Args:
        root: folder of the archive and the extracted files.
        name: class name in `torchvision.datasets`.

    Returns:
        Images of 32 x 32 pixels.

    Raises:
        UserError: files are altered, or cannot be downloaded or written.
    """
    source = _source(name)
    provide(root, name)
    try:
        train, test = source(root, train=True), source(root, train=False)
    except (OSError, RuntimeError) as error:  # torchvision does not name the file
        altered = next(altered_files(root, name), f"{root / source.base_folder}: cannot be read")
        raise UserError(
            f"{altered}.\nDelete {root / source.base_folder} and {root / str(source.filename)} "
            "to download the archive again."
        ) from error
    return Dataset(_split(train), _split(test), tuple(train.classes))


def _source(name: str) -> Any:
    from torchvision import datasets  # takes 2 s

    return getattr(datasets, name)


def _title(source: Any) -> str:
    return str(source.__name__).replace("CIFAR", "CIFAR-")


def _split(images: Any) -> Split:
    return Split(torch.from_numpy(images.data).contiguous(), torch.tensor(images.targets))


def provide(root: Path, name: str = "CIFAR10") -> None:
    """Download and extract the archive unless its files exist.

    Args:
        root: see `load`.
        name: see `load`.

    Raises:
        UserError: files are altered, or cannot be downloaded or written.
    """
    source = _source(name)
    if (root / source.base_folder).exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        # other processes wait here and then find the files
        with FileLock(root / f".{name.lower()}.lock"), _staging(root, name) as staging:
            if not (root / source.base_folder).exists():
                _extract(_archive(root, staging, source), staging / source.base_folder)
                os.replace(staging / source.base_folder, root / source.base_folder)
    except OSError as error:
        raise UserError(
            f"data.root={root}: cannot write {_title(source)}: {error}. "
            "Expected a writable folder, or one that contains the extracted files."
        ) from error


@contextmanager
def _staging(root: Path, name: str) -> Iterator[Path]:
    """Create an empty folder, whose fixed name lets the next process delete it after a kill."""
    folder = root / f".{name.lower()}.staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _archive(root: Path, staging: Path, source: Any) -> Path:
    """Return the verified archive, after downloading it if it is missing."""
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
        raise UserError(_no_download(root, source, f"expected MD5 {source.tgz_md5}, got {found}"))
    return download.replace(archive)


def _download(target: Path, source: Any) -> None:
    # torchvision's download has no timeout, prints without a terminal and leaves partial files
    request = Request(source.url, headers={"User-Agent": "cifar-exp"})
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm.wrapattr(
            response, "read", size, desc=_title(source), disable=None, leave=False
        ) as stream:
            shutil.copyfileobj(stream, file)


def _extract(archive: Path, folder: Path) -> None:
    """Extract all files into one folder, ignoring the folders in their names.

    `tarfile.data_filter` needs Python 3.11.4, and Debian 12 has 3.11.2.
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
        f"Copy {source.filename} (MD5 {source.tgz_md5}) into {root.resolve()}/,\n"
        "or use data=synthetic or data=image_folder, which need no download."
    )


def altered_archive(root: Path, name: str = "CIFAR10") -> str | None:
    """Describe how the archive in a folder is altered; None if it is not.

    Args:
        root: see `load`.
        name: see `load`.
    """
    source = _source(name)
    archive = root / str(source.filename)
    if (found := _md5(archive)) == source.tgz_md5:
        return None
    return (
        f"{archive}: altered or truncated: expected MD5 {source.tgz_md5}, got {found}. "
        "Delete it to download it again."
    )


def altered_files(root: Path, name: str = "CIFAR10") -> Iterator[str]:
    """Yield descriptions of extracted files whose MD5 is not the published one.

    Args:
        root: see `load`.
        name: see `load`.
    """
    source = _source(name)
    meta = (source.meta["filename"], source.meta["md5"])
    for name, expected in [*source.train_list, *source.test_list, meta]:
        file = root / source.base_folder / name
        if (found := _md5(file)) != expected:
            yield f"{file}: altered, truncated or missing: expected MD5 {expected}, got {found}"


def _md5(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "md5").hexdigest()
    except OSError as error:
        return str(error.strerror).lower()  # such as "no such file or directory"
