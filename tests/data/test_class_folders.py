import os
import shutil
from pathlib import Path

import pytest

from cifar_exp.data.class_folders import SPLITS, ClassFolders, images_in


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


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Test", "testing", "VAL"])
def test_other_names_of_the_test_folder_are_taken_and_printed(root: Path, name: str) -> None:
    (root / "test").rename(root / name)
    folders = ClassFolders(root)
    assert folders.problems == []
    assert names(folders, "train") == ["cat/a.png", "dog/a.png"]
    assert [Path(entry.path).parts[-3] for entry in folders.entries("test")] == [name, name]
    assert folders.notes == [f"{root}: has no folder test; {name} is taken for the test images"]


def test_the_test_folder_comes_before_a_validation_folder(root: Path) -> None:
    make(root, "val/cat/v.png", "training/cat/t.png")
    folders = ClassFolders(root)
    assert names(folders, "test") == ["cat/a.png", "dog/a.png"]
    assert folders.notes == []
    assert sorted(folders.ignored) == [str(root / "training"), str(root / "val")]


def test_classes_alone_are_split_by_a_share_of_each(tmp_path: Path) -> None:
    files = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)]
    folders = ClassFolders(make(tmp_path, *files, "cow/0.png", "cow/1.png"))
    assert folders.problems == []
    assert [folders.counts(split) for split in ("train", "test")] == [[8, 1, 8], [2, 1, 2]]
    paths = {split: {entry.path for entry in folders.entries(split)} for split in SPLITS}
    assert not paths["train"] & paths["test"]
    assert "20% of each class are test images (data.test_fraction)" in folders.layout
    # the same wherever the folder is; another photo moves no other
    moved = ClassFolders(make(tmp_path / "elsewhere", *files, "cat/new.png"), 0.1)
    before = {os.path.relpath(path, tmp_path) for path in paths["test"]}
    assert {os.path.relpath(entry.path, moved.root) for entry in moved.entries("test")} <= {
        *before,
        "cat/new.png",
    }


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    (problem,) = ClassFolders(make(tmp_path, "cat/a.png", "dog/a.png", "dog/b.png")).problems
    assert problem.startswith(f"{tmp_path}/cat/a.png is the only image of its class")


def test_a_share_for_a_folder_that_is_split_already_is_refused(root: Path) -> None:
    (problem,) = ClassFolders(root, 0.3).problems
    assert problem.startswith("data.test_fraction=0.3: expected none")


def test_training_images_alone_are_refused_with_the_folder_to_give(root: Path) -> None:
    shutil.rmtree(root / "test")
    (problem,) = ClassFolders(root).problems
    assert f"data.root={root}/train would be split" in problem


def test_folders_in_a_class_are_printed(root: Path) -> None:
    make(root, "train/animals/cat/a.png", "train/animals/dog/a.png", "test/animals/a.png")
    (note,) = ClassFolders(root).notes
    assert "one class, with the folders in it: train/animals (cat, dog)" in note


def test_folders_in_the_only_class_may_be_the_classes(tmp_path: Path) -> None:
    problems = ClassFolders(make(tmp_path, "photos/cat/a.png", "photos/dog/a.png")).problems
    assert f"{tmp_path}/photos holds cat, dog: are these the classes?" in problems[0]


@pytest.mark.parametrize("clutter", ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".@__thumb"])
def test_thumbnails_of_systems_are_no_images(root: Path, clutter: str) -> None:
    make(root, f"train/cat/{clutter}/a.png/SYNOPHOTO_THUMB_M.jpg", f"train/{clutter}/a.jpg")
    make(root, f"{clutter}/a.jpg", "train/cat/a.xmp")
    folders = ClassFolders(root)
    assert (folders.problems, folders.notes) == ([], [])
    assert names(folders, "train") == ["cat/a.png", "dog/a.png"]


def test_classes_that_differ_in_their_unicode_form_are_the_same(root: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    make(root, f"train/{composed}/a.png", f"test/{decomposed}/b.png", f"train/{decomposed}/c.png")
    folders = ClassFolders(root)
    assert folders.problems == []
    assert folders.classes == [composed, "cat", "dog"]
    assert (folders.counts("train"), folders.counts("test")) == ([2, 1, 1], [1, 1, 1])


def test_the_images_of_a_folder_are_listed_without_clutter(root: Path) -> None:
    make(root, "@eaDir/a.jpg", "notes.txt", ".hidden.png", "z.png")
    found = [os.path.relpath(image, root) for image in images_in(str(root))]
    splits = [f"{split}/{name}/a.png" for split in ("test", "train") for name in ("cat", "dog")]
    assert found == [*splits, "z.png"]


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
