from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_exp.data import cifar10
from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.inspection import Inspection, as_text, inspect_data
from cifar_exp.errors import UserError

FILES = "files (delete cifar-10-batches-py to extract them again)"
TWICE = "same image several times in a class"
LEAK = "same image in train and test"
CLASSES = "same image in several classes"


def noise(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create two classes, each with a training and a test image, without duplicates."""
    for i, folder in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        save(tmp_path / folder / "a.png", noise(i))
    return tmp_path


def only(root: Path, image_size: int = 32) -> Inspection:
    (found,) = inspect_data(root, image_size)
    return found


def filled(findings: dict[str, list[str]]) -> dict[str, list[str]]:
    return {kind: lines for kind, lines in findings.items() if lines}


def test_class_folders_without_splits_are_inspected(root: Path) -> None:
    save(root / "train" / "cat" / "b.png", noise(9))
    save(root / "train" / "dog" / "b.png", noise(9))
    found = only(root / "train")
    assert found.counts == {"train": {"cat": 1, "dog": 1}, "test": {"cat": 1, "dog": 1}}
    assert filled(found.problems)[CLASSES] == ["cat/b.png, dog/b.png"]
    assert "no folders train and test" in found.title
    assert not filled(found.remarks)


def test_a_valid_folder_has_counts_and_sizes_without_findings(root: Path) -> None:
    save(root / "train" / "cat" / "b.png", noise(9, 50, 40))
    found = only(root)
    assert found.counts == {"train": {"cat": 2, "dog": 1}, "test": {"cat": 1, "dog": 1}}
    assert found.sizes == {(32, 32), (50, 40)}
    assert filled(found.problems) == filled(found.remarks) == {}
    assert as_text(found).splitlines() == [
        f"{root}: an image folder",
        "",
        "class      train    test",
        "-------  -------  ------",
        "cat            2       1",
        "dog            1       1",
        "all            3       2",
        "",
        "width 32 to 50, height 32 to 40 pixels",
        "",
        "problems: 0",
    ]


def test_duplicates_are_reported_by_split_and_class(root: Path) -> None:
    save(root / "train" / "cat" / "again.bmp", noise(0))
    save(root / "train" / "dog" / "b.png", noise(7))
    save(root / "test" / "dog" / "b.tif", noise(7))
    save(root / "test" / "dog" / "c.png", noise(8))
    save(root / "test" / "cat" / "c.png", noise(8))
    found = only(root)
    assert found.remarks[TWICE] == ["train/cat/a.png, train/cat/again.bmp"]
    assert found.problems[LEAK] == ["train/dog/b.png, test/dog/b.tif"]
    assert found.problems[CLASSES] == ["test/cat/c.png, test/dog/c.png"]
    assert found.problem_count == 2


def test_a_duplicate_across_splits_and_classes_is_two_problems(root: Path) -> None:
    save(root / "test" / "dog" / "b.png", noise(0))
    found = only(root)
    assert found.problems[LEAK] == found.problems[CLASSES]
    assert found.problems[LEAK] == ["train/cat/a.png, test/dog/b.png"]


def test_a_duplicate_of_each_split_and_class_is_named(root: Path) -> None:
    for i in range(10):
        save(root / "train" / "cat" / f"{i}.png", noise(0))
    save(root / "test" / "dog" / "z.png", noise(0))
    (line,) = only(root).problems[LEAK]
    assert line == ("train/cat/0.png, test/dog/z.png, train/cat/1.png, train/cat/2.png, and 8 more")


def test_images_are_compared_at_the_given_size(root: Path) -> None:
    # black and white columns of one pixel become gray at 32 pixels
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    save(root / "train" / "cat" / "b.png", Image.fromarray(stripes))
    with Image.open(root / "train" / "cat" / "b.png") as image:
        small = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    save(root / "test" / "cat" / "b.png", small)
    assert len(only(root, 32).problems[LEAK]) == 1
    assert only(root, 64).problems[LEAK] == []


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((31, 40), "smaller than 32 x 32 pixels: enlarged"),
        ((130, 40), "one side over 3 times the other: distorted to a square"),
        ((40, 130), "one side over 3 times the other: distorted to a square"),
        ((120, 40), None),
        ((32, 32), None),
    ],
)
def test_unusual_sizes_are_remarks(root: Path, size: tuple[int, int], kind: str | None) -> None:
    save(root / "train" / "cat" / "b.png", noise(9, *size))
    assert filled(only(root).remarks) == ({kind: ["train/cat/b.png"]} if kind else {})


def test_classes_of_very_unequal_size_are_a_remark(root: Path) -> None:
    for i in range(2):
        save(root / "train" / "cat" / f"{i}.png", noise(10 + i))
    assert filled(only(root).remarks) == {}  # three times as many
    save(root / "train" / "cat" / "3.png", noise(13))
    assert only(root).remarks["classes of very unequal size"] == [
        "train: 'cat' has 4 images, 'dog' has 1"
    ]


def test_damage_in_later_frames_is_ignored(root: Path) -> None:
    file = root / "train" / "cat" / "b.gif"
    noise(9).save(file, save_all=True, append_images=[noise(10)])
    assert only(root).remarks["several frames: the first is used"] == ["train/cat/b.gif"]
    file.write_bytes(file.read_bytes()[:-500])
    assert only(root).problem_count == 0


def test_a_folder_can_contain_images_and_cifar10(root: Path) -> None:
    (root / "cifar-10-batches-py").mkdir()
    images, cifar = inspect_data(root, 32)
    assert images.title == f"{root}: an image folder"
    assert cifar.title == f"{root}: CIFAR-10"
    assert len(cifar.problems[FILES]) == 7


def test_classes_next_to_cifar10_are_inspected_without_its_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(4):
            save(tmp_path / name / f"{number}.png", noise(number + 10 * (name == "dog")))
    (tmp_path / "cifar-10-batches-py").mkdir()
    images, _ = inspect_data(tmp_path, 32, test_fraction=0.5)
    assert images.counts == {"train": {"cat": 2, "dog": 2}, "test": {"cat": 2, "dog": 2}}
    assert not images.problem_count


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No archive of CIFAR-10 or CIFAR-100 found there"):
        inspect_data(tmp_path, 32)
    with pytest.raises(UserError, match="none: folder not found"):
        inspect_data(tmp_path / "none", 32)


def test_names_with_line_breaks_are_printed_as_one_line(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "c\nat")
    (root / "train" / "c\nat" / "b\n.png").write_bytes(b"")
    lines = as_text(only(root)).splitlines()
    assert "c\N{REPLACEMENT CHARACTER}at" in {line[:4] for line in lines}
    assert any("b\N{REPLACEMENT CHARACTER}.png: the file is empty" in line for line in lines)


def test_duplicates_in_cifar10_are_remarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 32, 32, 3)
    train = Split(images[[0, 1, 1]].contiguous(), torch.tensor([0, 1, 1]))
    test = Split(images[[0, 2]].contiguous(), torch.tensor([0, 1]))
    monkeypatch.setattr(cifar10, "load", lambda root, name: Dataset(train, test, ("cat", "dog")))
    monkeypatch.setattr(cifar10, "altered_files", lambda root, name: iter(()))
    (tmp_path / "cifar-10-batches-py").mkdir()
    found = only(tmp_path)
    assert found.counts == {"train": {"cat": 1, "dog": 2}, "test": {"cat": 1, "dog": 1}}
    assert found.problem_count == 0
    assert found.remarks[LEAK] == ["train/cat/0, test/cat/0"]
    assert found.remarks[TWICE] == ["train/dog/1, train/dog/2"]
