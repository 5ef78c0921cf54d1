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
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5
from tqdm import tqdm

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import UserError

_TIMEOUT_SECONDS = 10  # without an answer; a slow but living download goes on


def load(root: Path) -> Dataset:
    """Read CIFAR-10, after extracting or downloading the archive if need be.

    torchvision compares the MD5 of every file, each time.

    Args:
        root: folder of the archive and of the files extracted from it.

    Returns:
        50,000 training and 10,000 test images of 32 x 32 pixels, 10 classes.

    Raises:
        UserError: if files are altered, cannot be downloaded or cannot be written.
    """
    provide(root)
    try:
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except (OSError, RuntimeError) as error:  # torchvision does not say which file
        altered = next(altered_files(root), f"cannot read {root / CIFAR10.base_folder}")
        raise UserError(
            f"{altered}.\nDelete {root / CIFAR10.base_folder} and {root / str(CIFAR10.filename)} "
            f"to download again, or put a good {CIFAR10.filename} there."
        ) from error
    return Dataset(_split(train), _split(test), tuple(train.classes))


def _split(source: CIFAR10) -> Split:
    return Split(torch.from_numpy(source.data).contiguous(), torch.tensor(source.targets))


def provide(root: Path) -> None:
    """Extract or download the files if they are not there; all of them or none.

    Raises:
        UserError: if they cannot be had or cannot be written.
    """
    if (root / CIFAR10.base_folder).exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        # a second process waits here and then finds the files
        with FileLock(root / ".cifar10.lock"), _staging(root) as staging:
            if not (root / CIFAR10.base_folder).exists():
                _extract(_archive(root, staging), staging)
                os.replace(staging / CIFAR10.base_folder, root / CIFAR10.base_folder)
    except OSError as error:
        raise UserError(
            f"cannot write CIFAR-10 into data.root={root}: {error}. "
            "Expected a folder you may write to, or one that already holds the extracted files."
        ) from error


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Give an empty folder, always the same one, so that what a kill leaves does not pile up."""
    folder = root / ".cifar10.staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _archive(root: Path, staging: Path) -> Path:
    """Return the checked archive; a download that is cut off leaves nothing in the root."""
    archive = root / str(CIFAR10.filename)
    if archive.exists():
        if altered := altered_archive(root):
            raise UserError(altered)
        return archive
    download = staging / str(CIFAR10.filename)
    try:
        _download(download)
    except (OSError, HTTPException) as error:
        raise UserError(_no_download(root, str(error))) from error
    if (found := _md5(download)) != CIFAR10.tgz_md5:
        raise UserError(_no_download(root, f"what came has the MD5 {found}"))
    return download.replace(archive)


def _download(target: Path) -> None:
    # torchvision's own download has no timeout, chats without a terminal and leaves torn files
    request = Request(CIFAR10.url, headers={"User-Agent": "cifar-exp"})
    with urlopen(request, timeout=_TIMEOUT_SECONDS) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm.wrapattr(response, "read", size, desc="CIFAR-10", disable=None) as source:
            shutil.copyfileobj(source, file)


def _extract(archive: Path, target: Path) -> None:
    """Copy all files into one folder, wherever their names would lead.

    Python's own safe extraction came with 3.11.4; Debian 12 has 3.11.2.
    """
    folder = target / CIFAR10.base_folder
    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            source = tar.extractfile(member)
            assert source is not None  # it is a file
            with source, (folder / Path(member.name).name).open("wb") as file:
                shutil.copyfileobj(source, file)


def _no_download(root: Path, reason: str) -> str:
    return (
        f"cannot download CIFAR-10 from {CIFAR10.url}: {reason}.\n"
        f"Put {CIFAR10.filename} (MD5 {CIFAR10.tgz_md5}) into {root.resolve()}/ yourself,\n"
        "or choose data=synthetic or data=image_folder, which need no download."
    )


def altered_archive(root: Path) -> str | None:
    """Say what is wrong with the archive in a folder; None if it is good."""
    archive = root / str(CIFAR10.filename)
    if (found := _md5(archive)) == CIFAR10.tgz_md5:
        return None
    return (
        f"{archive} is altered or cut off: expected MD5 {CIFAR10.tgz_md5}, found {found}. "
        "Delete it to download it again, or put a good one in its place."
    )


def altered_files(root: Path) -> Iterator[str]:
    """Say of each extracted file what is wrong with it; nothing is read but its MD5."""
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    for name, expected in [*CIFAR10.train_list, *CIFAR10.test_list, meta]:
        file = root / CIFAR10.base_folder / name
        if (found := _md5(file)) != expected:
            yield f"{file} is altered, cut off or missing: expected MD5 {expected}, found {found}"


def _md5(file: Path) -> str:
    try:
        return str(calculate_md5(file))
    except OSError as error:
        return str(error.strerror).lower()  # such as "no such file or directory"
