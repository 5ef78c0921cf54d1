import errno
import os
import shutil
from pathlib import Path

import pytest

from cifar_exp.data.class_folders import SPLITS, ClassFolders, images_in
from cifar_exp.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create two classes with an empty file each, in train/ and test/."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            (tmp_path / "pets" / split / name / "a.png").write_bytes(b"")
    return tmp_path / "pets"


def names(folders: ClassFolders, split: str) -> list[str]:
    return [os.path.relpath(entry.path, folders.root / split) for entry in folders.entries(split)]


def test_files_are_sorted_by_class_and_path(root: Path) -> None:
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
def test_other_names_of_the_test_folder_are_accepted_with_a_note(root: Path, name: str) -> None:
    (root / "test").rename(root / name)
    folders = ClassFolders(root)
    assert folders.problems == []
    assert names(folders, "train") == ["cat/a.png", "dog/a.png"]
    assert [Path(entry.path).parts[-3] for entry in folders.entries("test")] == [name, name]
    assert folders.notes == [f"{root}: no folder test; using {name} instead"]


def test_the_test_folder_is_preferred_to_a_validation_folder(root: Path) -> None:
    make(root, "val/cat/v.png", "training/cat/t.png")
    folders = ClassFolders(root)
    assert names(folders, "test") == ["cat/a.png", "dog/a.png"]
    assert sorted(folders.ignored) == [str(root / "training"), str(root / "val")]
    assert folders.notes == [
        f"{root}: not used, since outside the class folders: training/, val/. "
        "To validate on held-out training images, set data.val_fraction=0.1."
    ]


@pytest.mark.parametrize("in_splits", [True, False])
def test_a_note_names_what_belongs_to_no_class(root: Path, in_splits: bool) -> None:
    part = root if in_splits else root / "train"
    make(part, "more/a.png" if in_splits else "a.txt", "b.jpg", ".hidden", "list.csv")
    make(root, "train/c.jpg", "train/@eaDir/c.jpg")
    unused = "b.jpg, more/, train/c.jpg" if in_splits else "b.jpg, c.jpg"
    note = f"{part}: not used, since outside the class folders: {unused}."
    assert ClassFolders(part).notes == [note]


def test_class_folders_without_splits_are_split(tmp_path: Path) -> None:
    files = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)]
    folders = ClassFolders(make(tmp_path, *files, "cow/0.png", "cow/1.png"))
    assert folders.problems == []
    assert [folders.counts(split) for split in ("train", "test")] == [[8, 1, 8], [2, 1, 2]]
    paths = {split: {entry.path for entry in folders.entries(split)} for split in SPLITS}
    assert not paths["train"] & paths["test"]
    assert "using 20 % of each class as test images (data.test_fraction)" in folders.layout
    # the same in another folder; a new file moves no others
    moved = ClassFolders(make(tmp_path / "elsewhere", *files, "cat/new.png"), 0.1)
    before = {os.path.relpath(path, tmp_path) for path in paths["test"]}
    assert {os.path.relpath(entry.path, moved.root) for entry in moved.entries("test")} <= {
        *before,
        "cat/new.png",
    }


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    (problem,) = ClassFolders(make(tmp_path, "cat/a.png", "dog/a.png", "dog/b.png")).problems
    assert problem.startswith(f"{tmp_path}/cat/a.png: the only image of its class")


def test_a_test_fraction_is_refused_if_there_are_test_images(root: Path) -> None:
    (problem,) = ClassFolders(root, 0.3).problems
    assert problem.startswith(f"data.test_fraction=0.3: {root} already contains test images")


def test_without_test_images_the_message_suggests_the_training_folder(root: Path) -> None:
    shutil.rmtree(root / "test")
    (problem,) = ClassFolders(root).problems
    assert f"Use data.root={root}/train to split" in problem


def test_folders_inside_a_class_are_noted(root: Path) -> None:
    make(root, "train/animals/cat/a.png", "train/animals/dog/a.png", "test/animals/a.png")
    (note,) = ClassFolders(root).notes
    assert "folders inside a class belong to it: train/animals (cat, dog)" in note


def test_folders_in_the_only_class_are_suggested_as_classes(tmp_path: Path) -> None:
    problems = ClassFolders(make(tmp_path, "photos/cat/a.png", "photos/dog/a.png")).problems
    assert f"Did you mean data.root={tmp_path}/photos, which contains cat, dog?" in problems[0]


@pytest.mark.parametrize("clutter", ["@eaDir", "__MACOSX", "#recycle", "Thumbnails", ".@__thumb"])
def test_thumbnail_and_system_folders_are_ignored(root: Path, clutter: str) -> None:
    make(root, f"train/cat/{clutter}/a.png/SYNOPHOTO_THUMB_M.jpg", f"train/{clutter}/a.jpg")
    make(root, f"{clutter}/a.jpg", "train/cat/a.xmp")
    folders = ClassFolders(root)
    assert (folders.problems, folders.notes) == ([], [])
    assert names(folders, "train") == ["cat/a.png", "dog/a.png"]


def test_class_names_are_compared_after_unicode_normalization(root: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    make(root, f"train/{composed}/a.png", f"test/{decomposed}/b.png", f"train/{decomposed}/c.png")
    folders = ClassFolders(root)
    assert folders.problems == []
    assert folders.classes == [composed, "cat", "dog"]
    assert (folders.counts("train"), folders.counts("test")) == ([2, 1, 1], [1, 1, 1])


def test_images_in_a_folder_are_listed_without_other_files(root: Path) -> None:
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
        f"{root}/train/horse: contains no images",
        f"{root}/test/cow: contains no images",
        f"{root}/test/dog: contains no images",
        f"{root}/test/hrose: contains no images",
        f"{root}/test: class 'horse' not found; is 'hrose' misspelt?",
        f"{root}/train: class 'cow' not found.",
        f"{root}/train: class 'hrose' not found; is 'horse' misspelt?",
    ]
    assert len(problems) == len(expected)
    for problem, beginning in zip(problems, expected, strict=True):
        assert problem.startswith(beginning)


def test_ignored_files_and_folders_are_listed(root: Path) -> None:
    ignored = ["a.csv", "more/b.png", "train/notes.txt", "train/.cache", "train/cat/.DS_Store"]
    make(root, *ignored)
    ignored[1] = "more"  # neither a split nor a class
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


def test_links_that_lead_in_circles_are_reported(root: Path) -> None:
    cat, dog = root / "train" / "cat", root / "train" / "dog"
    (cat / "to_dog").symlink_to(dog)
    (dog / "to_cat").symlink_to(cat)
    (dog / "itself").symlink_to("itself")  # a file, which cannot be read
    folders = ClassFolders(root)
    circles = [problem for problem in folders.problems if "leads to a folder that" in problem]
    assert [problem.split()[0] for problem in circles] == [
        f"{cat}/to_dog/to_cat:",
        f"{dog}/to_cat/to_dog:",
    ]
    assert len(images_in(str(root))) == 5  # each once
    assert "dog/itself" in names(folders, "train")


def test_a_class_name_that_is_not_valid_utf8_is_a_problem(root: Path) -> None:
    for split in ("train", "test"):
        folder = os.fsencode(root / split) + b"/\xff"
        os.mkdir(folder)
        with open(folder + b"/a.png", "wb"):
            pass
    assert [problem.split(": ")[1] for problem in ClassFolders(root).problems] == [
        "the name is not valid UTF-8. Rename the folder, which is a class."
    ] * 2


@pytest.mark.parametrize("name", ["train", "test", "Validation"])
def test_a_class_with_the_name_of_a_split_is_refused(tmp_path: Path, name: str) -> None:
    files = [f"{class_name}/{number}.png" for class_name in (name, "bus") for number in range(4)]
    problems = ClassFolders(make(tmp_path, *files)).problems
    assert "A class cannot have the name of a split." in problems[0]


def test_class_names_that_differ_in_case_or_spaces_are_noted(root: Path) -> None:
    make(root, "train/Cat/a.png", "test/Cat/a.png", "train/dog /a.png", "test/dog /a.png")
    assert ClassFolders(root).notes == [
        f"{root}: classes differ only in case or spaces: {names}. If they are the same class, "
        "merge them."
        for names in ("'Cat', 'cat'", "'dog', 'dog '")
    ]


def test_an_unreadable_folder_is_the_only_problem(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str | Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    message = f"{root}: cannot read the folder: Permission denied"
    assert ClassFolders(root).problems == [message]
    with pytest.raises(UserError, match=message):
        images_in(str(root))


def test_a_folder_whose_path_is_not_utf8_is_refused(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"f\xffoo")
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        (root / name / "a.png").touch()
    (problem,) = ClassFolders(root).problems
    assert problem.endswith(": expected a path in UTF-8. Rename its folders.")
