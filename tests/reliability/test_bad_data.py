"""Bad image files and folders: `check-data` and training report them."""

import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine
from tests.reliability.hold import LONGEST_WAIT_SECONDS

# Trains for less than a second if the data is valid.
SMALL = ("model=vgg11", "model.width=0.0625", "epochs=1", "batch_size=2", "logger=none")
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


def noise(seed: int, size: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image folder with three classes, each with two training images and one test image."""
    folder = tmp_path / "pets"
    for i, name in enumerate(("cat", "dog", "horse")):
        for j, file in enumerate(("train/{}/a.png", "train/{}/b.png", "test/{}/a.png")):
            path = folder / file.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(3 * i + j).save(path)
    return folder


def check_data(*arguments: str | Path, status: int) -> str:
    """Run `python -m cifar_exp check-data`, which must not print Python warnings or a traceback."""
    # strict, so that printing an invalid file name would fail
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-W", "error", "-m", "cifar_exp", "check-data", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LONGEST_WAIT_SECONDS, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "" or done.stderr == ""
    return done.stdout + done.stderr


def findings(output: str, kind: str) -> list[str]:
    """Return the lines under the heading that starts with `kind`."""
    (block,) = (block for block in output.split("\n\n") if block.startswith(kind))
    return [line.strip() for line in block.splitlines()[1:]]


def refused(train: CommandLine, *overrides: str) -> list[str]:
    """Train, check that it fails without a traceback, and return the output lines."""
    output = train(*overrides, *SMALL, status=1)
    assert "Traceback" not in output
    assert "Warning" not in output
    return output.splitlines()


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header has this size, with a valid checksum."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, data, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_missing_extra_misspelt_hidden_and_empty_classes_are_listed_together(
    root: Path, train: CommandLine
) -> None:
    (root / "test" / "horse").rename(root / "test" / "hrose")
    (root / "train" / "dog").rename(root / "train" / ".dog")
    (root / "test" / "zebra").mkdir()
    noise(20).save(root / "test" / "zebra" / "a.png")
    (root / "train" / "cow").mkdir()
    (root / "test" / "cow").mkdir()
    noise(21).save(root / "test" / "cow" / "a.png")
    output = check_data(root, status=1)
    assert [
        re.split(r"\.? Expected", line)[0] for line in findings(output, "problem: class folders")
    ] == [
        f"{root}/train/cow: contains no images. Add some, or remove the class from all splits.",
        f"{root}/test: class 'horse' not found; is 'hrose' misspelt?",
        f"{root}/train: class 'dog' not found",
        f"{root}/train: class 'hrose' not found; is 'horse' misspelt?",
        f"{root}/train: class 'zebra' not found",
    ]
    assert "train/.dog" in findings(output, "remark: ignored")
    table = {line.split()[0]: line.split()[1:] for line in output.splitlines() if "  " in line[:12]}
    assert table["cow"] == ["0", "1"]
    assert table["horse"] == ["2"]
    last = refused(train, "data=image_folder", f"data.root={root}")[-1]
    assert f"one of 5 problems. To list all: python -m cifar_exp check-data {root}" in last


def damage(folder: Path) -> dict[str, str]:
    """Write files with all faults into a folder. Returns the expected problem of each."""
    noise(30).save(folder / "half.jpg")
    (folder / "half.jpg").write_bytes((folder / "half.jpg").read_bytes()[:900])
    noise(31).save(folder / "half.png")
    (folder / "half.png").write_bytes((folder / "half.png").read_bytes()[:1500])
    (folder / "empty.png").write_bytes(b"")
    (folder / "movie.mp4").write_bytes(random.Random(0).randbytes(5000))
    Image.new("F", (32, 32), 0.5).save(folder / "depth.tif")
    (folder / "large.png").write_bytes(png_claiming(16_385, 16_385))
    (folder / "larger.png").write_bytes(png_claiming(50_000, 50_000))
    (folder / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as file:
        file.write(b"hello")
    unknown = "damaged, truncated or of an unknown format"
    return {
        "half.jpg": "damaged or truncated (",
        "half.png": "damaged or truncated (",
        "empty.png": "the file is empty",
        "movie.mp4": ".mp4 files are not supported",
        "depth.tif": "floating-point pixels are not supported",
        "large.png": "expected at most 268,435,456 pixels, got 268,468,225",
        "larger.png": "expected at most 268,435,456 pixels, got 2,500,000,000",
        "gone.png": "No such file or directory",
        "pipe.png": "not a regular file",
        "\\udcff.png": unknown,
    }


def test_every_unreadable_file_is_listed_with_the_reason(root: Path) -> None:
    faults = damage(root / "train" / "cat")
    output = check_data(root, status=1)
    lines = dict(line.split(": ", 1) for line in findings(output, "problem: images that cannot"))
    assert set(lines) == {f"train/cat/{name}" for name in faults}
    for name, fault in faults.items():
        assert lines[f"train/cat/{name}"].startswith(fault)
    assert output.endswith("problems: 10\n")


def test_long_lists_are_shortened(root: Path) -> None:
    for i in range(15):
        (root / "test" / "dog" / f"{i:02}.png").write_bytes(b"")
    lines = findings(check_data(root, status=1), "problem: images that cannot be read (15)")
    assert lines[0] == "test/dog/00.png: the file is empty"
    assert lines[9:] == ["test/dog/09.png: the file is empty", "and 5 more"]


@pytest.mark.parametrize("name", ["large.png", "\udcff.png", "half.jpg"])
def test_training_reports_an_unreadable_image(root: Path, train: CommandLine, name: str) -> None:
    faults = damage(root.parent)
    os.rename(root.parent / name, root / "train" / "cat" / name)
    shown = name.encode(errors="backslashreplace").decode()
    last = refused(train, "data=image_folder", f"data.root={root}")[-1]
    assert last.startswith(f"{root}/train/cat/{shown}: cannot read the image: {faults[shown]}")


def test_unusual_images_are_reported_and_trained_on(root: Path, train: CommandLine) -> None:
    cat, dog = root / "train" / "cat", root / "train" / "dog"
    noise(40).save(cat / "waving.gif", save_all=True, append_images=[noise(41)])
    noise(42).save(cat / "waving.png", save_all=True, append_images=[noise(43)])
    noise(44).save(cat / "waving.webp", save_all=True, append_images=[noise(45)])
    depths = np.random.default_rng(46).integers(0, 2**16, (32, 32), np.uint16)
    Image.fromarray(depths).save(cat / "deep.png")
    noise(47).convert("CMYK").save(cat / "print.jpg")
    noise(48, 16).save(cat / "icon.ico")
    noise(49, 130).crop((0, 0, 130, 40)).save(cat / "banner.bmp")
    Image.new("L", (8000, 8000), 77).save(cat / "poster.png")
    noise(3).save(dog / "again.bmp")  # dog/a.png
    (cat / ".DS_Store").write_bytes(b"")
    (root / "train" / "notes.txt").write_text("")
    (root / "train" / ".cache").mkdir()
    output = check_data(root, status=0)
    assert "problems: 0" in output
    assert {
        heading: findings(output, f"remark: {heading}")
        for heading in ("several", "16 bits", "CMYK", "smaller", "one side", "same", "classes")
    } == {
        "several": [f"train/cat/waving.{kind}" for kind in ("gif", "png", "webp")],
        "16 bits": ["train/cat/deep.png"],
        "CMYK": ["train/cat/print.jpg"],
        "smaller": ["train/cat/icon.ico"],
        "one side": ["train/cat/banner.bmp"],
        "same": ["train/dog/a.png, train/dog/again.bmp"],
        "classes": ["train: 'cat' has 10 images, 'horse' has 2"],
    }
    ignored = ["train/.cache", "train/cat/.DS_Store", "train/notes.txt"]
    assert findings(output, "remark: ignored") == ignored
    assert "width 16 to 8000, height 16 to 8000 pixels" in output
    trained = train("data=image_folder", f"data.root={root}", *SMALL)
    warnings = [line for line in trained.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: 1 image: 16 bits per channel: reduced to 8",
        "warning: 1 image: CMYK: converted to RGB",
    ]


def test_test_images_among_training_images_are_a_problem_and_cause_a_warning(
    root: Path, train: CommandLine
) -> None:
    noise(0).save(root / "test" / "cat" / "b.bmp")  # train/cat/a.png
    noise(1).save(root / "test" / "dog" / "b.png")  # train/cat/b.png, called a dog
    output = check_data(root, status=1)
    wrong = "train/cat/b.png, test/dog/b.png"
    both = findings(output, "problem: same image in train and test")
    assert both == ["train/cat/a.png, test/cat/b.bmp", wrong]
    assert findings(output, "problem: same image in several classes") == [wrong]
    trained = train("data=image_folder", f"data.root={root}", *SMALL)
    (warning,) = (line for line in trained.splitlines() if line.startswith("warning: "))
    assert "2 of 5 test images are also training images" in warning
    assert f"python -m cifar_exp check-data {root}" in warning


def test_a_folder_without_images_is_reported_in_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        problem, archives = check_data(folder, status=1).splitlines()
        assert problem.startswith(str(folder))
        assert "folder not found. Expected images in train/<class>/" in problem
        assert archives == "No archive of CIFAR-10 or CIFAR-100 found there either."


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def test_altered_batches_of_cifar10_are_listed_and_never_unpickled(
    tmp_path: Path, train: CommandLine
) -> None:
    root, ran = tmp_path / "data", tmp_path / "ran"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in BATCHES:
        (folder / name).write_bytes(pickle.dumps(Payload(ran)))
    (folder / "data_batch_3").unlink()
    (root / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    output = check_data(root, status=1)
    lines = findings(output, "problem: files")
    assert [line.split(": ")[0] for line in lines] == [str(folder / name) for name in BATCHES]
    assert "expected MD5 c99cafc152244af753f735de768cd75f, got " in lines[0]  # as published
    assert "no such file" in lines[2]
    (archive,) = findings(output, "problem: archive")
    assert archive.startswith(f"{root / 'cifar-10-python.tar.gz'}: altered or truncated")
    refusal = refused(train, "data=cifar10", f"data.root={root}")
    assert any(f"{folder / 'data_batch_1'}: altered" in line for line in refusal)
    assert not ran.exists()
    pickle.loads((folder / "data_batch_1").read_bytes())
    assert ran.exists()  # unpickling does run it
