import os
from pathlib import Path

import pytest

from cifar_exp.data.class_folders import ClassFolders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with a file in each; none of them is opened here."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            (tmp_path / "pets" / split / name / "a.png").write_bytes(b"")
    return tmp_path / "pets"


def names(folders: ClassFolders, split: str) -> list[str]:
    return [os.path.relpath(entry.path, folders.root / split) for entry in folders.entries(split)]


def test_files_come_in_the_order_of_classes_and_paths(root: Path) -> None:
    (root / "train" / "cat" / "1").mkdir()
    (root / "train" / "cat" / "1" / "z.png").write_bytes(b"")
    folders = ClassFolders(root)
    assert folders.problems == folders.ignored == []
    assert folders.classes == ["cat", "dog"]
    assert names(folders, "train") == ["cat/1/z.png", "cat/a.png", "dog/a.png"]


def test_all_problems_are_found_at_once(root: Path) -> None:
    (root / "train" / "horse").mkdir()
    (root / "test" / "hrose").mkdir()
    (root / "test" / "cow").mkdir()
    (root / "test" / "dog" / "a.png").unlink()
    problems = ClassFolders(root).problems
    expected = [
        f"{root}/train/horse holds no images",
        f"{root}/test/cow holds no images",
        f"{root}/test/dog holds no images",
        f"{root}/test/hrose holds no images",
        f"{root}/test lacks the class 'horse' (there is 'hrose': did you mean that?)",
        f"{root}/train lacks the class 'cow'.",
        f"{root}/train lacks the class 'hrose' (there is 'horse': did you mean that?)",
    ]
    assert len(problems) == len(expected)
    for problem, beginning in zip(problems, expected, strict=True):
        assert problem.startswith(beginning)


def test_what_is_no_class_and_no_image_is_ignored_and_told(root: Path) -> None:
    ignored = ["train/notes.txt", "train/.cache", "train/cat/.DS_Store", "test/dog/labels.csv"]
    for name in ignored:
        (root / name).write_bytes(b"")
    folders = ClassFolders(root)
    assert sorted(folders.ignored) == sorted(str(root / name) for name in ignored)
    assert names(folders, "train") == ["cat/a.png", "dog/a.png"]


def test_links_to_folders_are_followed(root: Path) -> None:
    (root / "train" / "cat" / "more").symlink_to(root / "test" / "cat")
    (root / "train" / "cow").symlink_to(root / "train" / "dog")
    (root / "test" / "cow").symlink_to(root / "test" / "dog")
    folders = ClassFolders(root)
    assert folders.problems == []
    assert names(folders, "train") == ["cat/a.png", "cat/more/a.png", "cow/a.png", "dog/a.png"]


def test_links_that_lead_in_circles_are_told_and_left(root: Path) -> None:
    cat, dog = root / "train" / "cat", root / "train" / "dog"
    (cat / "to_dog").symlink_to(dog)
    (dog / "to_cat").symlink_to(cat)
    (dog / "itself").symlink_to("itself")  # not even a folder; it is told when it is read
    folders = ClassFolders(root)
    circles = [problem for problem in folders.problems if "is a link to a folder" in problem]
    assert [problem.split()[0] for problem in circles] == [
        f"{cat}/to_dog/to_cat",
        f"{dog}/to_cat/to_dog",
    ]
    assert "dog/itself" in names(folders, "train")


def test_a_class_whose_name_is_no_text_is_told(root: Path) -> None:
    for split in ("train", "test"):
        folder = os.fsencode(root / split) + b"/\xff"
        os.mkdir(folder)
        with open(folder + b"/a.png", "wb"):
            pass
    assert [problem.split("has a name")[1] for problem in ClassFolders(root).problems] == [
        " that is no UTF-8 text: rename it."
    ] * 2
