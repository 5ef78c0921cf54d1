"""The cache of decoded images."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cifar_exp.data import image_folder, sources
from cifar_exp.data.decoding import opened
from cifar_exp.data.settings import ImageFolder
from tests.data.image_files import GREEN, load, save
from tests.reliability.hold import LONGEST_WAIT_SECONDS

ROOT = Path(__file__).parents[2]


def test_a_cached_folder_is_read_without_importing_pil(root: Path) -> None:
    digest = load(root).digest()
    program = (
        "import sys; from pathlib import Path\n"
        "from cifar_exp.data import image_folder\n"
        "dataset = image_folder.load(Path(sys.argv[1]), 32, Path(sys.argv[2]))\n"
        "print(dataset.digest(), 'PIL' in sys.modules or 'torchvision' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(root), str(root.parent / "cache")]
    result = subprocess.run(
        command, cwd=ROOT, timeout=LONGEST_WAIT_SECONDS, capture_output=True, text=True
    )
    assert result.stdout.split() == [digest, "False"]
    assert result.stderr == ""


def change(root: Path) -> None:
    save(root / "train" / "cat" / "a.png")


def touch(root: Path) -> None:
    file = root / "train" / "cat" / "a.png"
    size = file.stat().st_size
    pixels = Image.new("RGB", (32, 32), GREEN)
    save(file, pixels)
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))  # the same size, but another time
    os.utime(file, ns=(1, 1))


def add(root: Path) -> None:
    save(root / "train" / "cat" / "c.png")


def remove(root: Path) -> None:
    (root / "train" / "cat" / "b.png").unlink()


def rename(root: Path) -> None:
    folder = root / "train" / "cat"
    (folder / "a.png").rename(folder / "z.png")


@pytest.mark.parametrize("edit", [change, touch, add, remove, rename])
def test_a_changed_file_invalidates_the_cache(root: Path, edit: Callable[[Path], None]) -> None:
    before = load(root)
    edit(root)
    after = load(root)
    assert after.digest() != before.digest()
    fresh = image_folder.load(root, 32, root.parent / "other")
    assert after.digest() == fresh.digest()


def decoded(root: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> list[str]:
    """Load a folder with limits and return the files that are decoded."""
    files: list[str] = []

    def record_and_open(path: str) -> AbstractContextManager[Image.Image]:
        files.append(os.path.relpath(path, root))
        return opened(path)

    monkeypatch.setattr(image_folder, "opened", record_and_open)
    sources.load(ImageFolder(root=str(root), **limits), root.parent / "cache")
    return files


def test_only_images_within_a_limit_are_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ImageFolder(root=str(root), limit_train=2)
    limited = ["train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "test/dog/a.png"]
    assert decoded(root, monkeypatch, limit_train=2) == limited
    few = sources.load(config, root.parent / "cache")
    assert decoded(root, monkeypatch, limit_train=2) == []  # cached
    assert len(decoded(root, monkeypatch)) == 6
    shutil.rmtree(root.parent / "cache")
    decoded(root, monkeypatch)
    assert decoded(root, monkeypatch, limit_train=2) == []  # in the cache of all images
    assert sources.load(config, root.parent / "cache").digest() == few.digest()


def test_each_test_fraction_has_a_cache(root: Path) -> None:
    root = root / "train"
    cache = root.parent / "cache"
    first = image_folder.load(root, 32, cache, 0.4)
    second = image_folder.load(root, 32, cache, 0.6)
    assert (len(first.test), len(second.test)) == (2, 2)
    assert len(list(cache.glob("train-*"))) == 2


def test_each_image_size_has_a_cache(root: Path) -> None:
    load(root, 32), load(root, 64)
    cache = root.parent / "cache"
    assert len(list(cache.glob("pets-*"))) == 2
    assert not list(cache.glob("*.tmp"))


def test_concurrent_runs_decode_a_folder_once(root: Path, monkeypatch) -> None:
    decoded: list[str] = []
    waits = threading.Event()
    other = threading.Thread(target=load, args=(root,))
    decode, locked = image_folder._decode, image_folder._locked

    def decode_while_the_other_waits(*given: Any) -> Any:
        decoded.append(given[1])
        if len(decoded) == 1:
            other.start()
            assert waits.wait(LONGEST_WAIT_SECONDS)
        return decode(*given)

    def announced(path: Path) -> Any:
        if threading.current_thread() is other:
            waits.set()
        return locked(path)

    monkeypatch.setattr(image_folder, "_decode", decode_while_the_other_waits)
    monkeypatch.setattr(image_folder, "_locked", announced)
    load(root)
    other.join()
    assert decoded == ["train", "test"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_cache_is_reported_and_rebuilt(
    root: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = load(root).digest()
    (cache,) = (root.parent / "cache").glob("pets-*")
    content = cache.read_bytes()
    flipped = content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]  # one bit of a pixel
    cache.write_bytes({"flip": flipped, "cut": content[:-100], "empty": b""}[damage])
    assert load(root).digest() == before
    assert "is damaged" in caplog.text
    caplog.clear()
    assert load(root).digest() == before
    assert caplog.text == ""  # the new cache is valid


def test_images_are_loaded_if_the_cache_cannot_be_written(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"  # fails for all users, also root
    blocked.write_text("")
    with caplog.at_level(logging.WARNING, "cifar_exp"):
        dataset = image_folder.load(root, 32, blocked / "cache")
    assert len(dataset.train) == 4
    assert "cannot cache the decoded images" in caplog.text


def test_temporary_files_of_killed_processes_are_deleted_after_a_day(root: Path) -> None:
    load(root)
    (cache,) = (root.parent / "cache").glob("pets-*")
    old, young = (cache.with_name(f".{cache.name}.{pid}.tmp") for pid in (1, 2))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    change(root)
    load(root)
    assert not old.exists()
    assert young.exists()
