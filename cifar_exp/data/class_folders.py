"""Find image files by split and class, without opening them.

The classes are the folders in train/ and test/, or in the root, which is then split.
"""

import difflib
import hashlib
import os
import unicodedata
from operator import attrgetter
from pathlib import Path

from cifar_exp.errors import UserError, some

Entry = os.DirEntry[str]

SPLITS = ("train", "test")
TEST_FRACTION = 0.2
_VALIDATION = ("val", "valid", "validation")
# Accepted folder names of a split in any case, the first that exists is used.
_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", *_VALIDATION),
}
_SPLIT_NAMES = {name for names in _NAMES.values() for name in names}
_CLUTTER = (
    "thumbs.db",
    "desktop.ini",
    *(".txt", ".json", ".csv", ".md", ".xml", ".yaml", ".yml", ".safetensors"),
    *(".ini", ".db", ".xmp", ".aae"),  # sidecar files of photo software
)
# Folders that operating systems and photo software create; hidden folders are ignored anyway.
_SYSTEM_FOLDERS = {
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "lost+found",
    "system volume information",
    "thumbnails",
    # archives that this program downloads to data/
    "cifar-10-batches-py",
    "cifar-100-python",
}
_SPLIT_SEED = 20_240_603  # arbitrary; another value selects other test images


class ClassFolders:
    """The image files of a folder and all problems of its layout.

    Args:
        root: folder that contains train/ and test/ with the same classes, or the classes.
        test_fraction: fraction of each class to use as test images if the root contains the
            classes.

    Attributes:
        images: files by split and class, sorted by class name and path.
        problems: messages about what training refuses, in the order to fix it.
        layout: message about the split if the root contains the classes; "" otherwise.
        notes: messages about choices that the user may not expect.
        ignored: paths that are neither classes nor images, by their name.
        is_split: whether the root contains, or should contain, train/ and test/.
        has_splits: whether the root contains train/ or test/.
    """

    def __init__(self, root: Path, test_fraction: float = TEST_FRACTION) -> None:
        self.root, self.test_fraction = root, test_fraction
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.layout = ""
        self.ignored: list[str] = []
        self.images: dict[str, dict[str, list[Entry]]] = {split: {} for split in SPLITS}
        self.is_split, self.has_splits = True, False
        self._nested: dict[str, list[str]] = {}
        if not os.path.isdir(root):
            self._miss(root)
            return
        entries = self._scan(root)
        if not _is_utf8(os.path.realpath(root)):  # config.yaml could not be read
            self.problems.append(f"{root}: expected a path in UTF-8. Rename its folders.")
        if not self.problems:
            self._read(entries)

    def _read(self, entries: list[Entry]) -> None:
        inner = [entry for entry in entries if _is_folder(entry)]
        self._folders = {split: self._folder_of(split, inner) for split in SPLITS}
        self.has_splits = any(os.path.isdir(folder) for folder in self._folders.values())
        self.is_split = self.has_splits or not inner
        if self.is_split:
            used = {folder.name for folder in self._folders.values()}
            self.ignored += [entry.path for entry in entries if entry.name not in used]
            self._read_splits([entry for entry in inner if entry.name.lower() not in _SPLIT_NAMES])
        else:
            self._split(entries)
        self._describe_nested()
        self._describe_similar()
        self._describe_unused()

    @property
    def classes(self) -> list[str]:
        """Sorted names of the classes in either split."""
        return sorted({*self.images["train"], *self.images["test"]})

    def entries(self, split: str) -> list[Entry]:
        """Return the files of a split, sorted by class and path."""
        return [entry for images in self.images[split].values() for entry in images]

    def counts(self, split: str) -> list[int]:
        """Return the number of files of each class in a split."""
        return [len(images) for images in self.images[split].values()]

    def _folder_of(self, split: str, inner: list[Entry]) -> Path:
        found = [
            entry.name
            for name in _NAMES[split]
            for entry in sorted(inner, key=lambda entry: entry.name != name)  # `test` before `Test`
            if entry.name.lower() == name
        ]
        used = found[0] if found else split
        if used != split:
            self.notes.append(f"{self.root}: no folder {split}; using {used} instead")
        return self.root / used

    def _miss(self, folder: Path, hint: str = "") -> None:
        problem = "expected a folder, got a file" if os.path.isfile(folder) else "folder not found"
        self.problems.append(
            f"{folder}: {problem}. Expected images in train/<class>/ and test/<class>/ of "
            f"data.root={self.root}, or in its <class>/ folders.{hint}"
        )

    def _read_splits(self, others: list[Entry]) -> None:
        for split, folder in self._folders.items():
            if os.path.isdir(folder):
                self.images[split] = self._classes_in(self._scan(folder))
                continue
            hint = ""
            if others:
                hint = " A class cannot have the name of a split."
            elif split == "test":
                hint = f" Use data.root={self._folders['train']} to split the training images."
            self._miss(folder, hint)
        if all(os.path.isdir(folder) for folder in self._folders.values()):
            self._compare()
        if self.test_fraction != TEST_FRACTION:
            self.problems.append(
                f"data.test_fraction={self.test_fraction:g}: {self.root} already contains test "
                "images. Remove the setting."
            )

    def _split(self, entries: list[Entry]) -> None:
        """Split each class by a hash of the paths, so that adding files moves few others."""
        for name, images in self._classes_in(entries).items():
            count = min(max(1, round(self.test_fraction * len(images))), len(images) - 1)
            if len(images) == 1:
                self.problems.append(
                    f"{images[0].path}: the only image of its class. Add another: training and "
                    "testing need one each."
                )
            test = {*sorted((image.path for image in images), key=self._hash)[:count]}
            self.images["train"][name] = [image for image in images if image.path not in test]
            self.images["test"][name] = [image for image in images if image.path in test]
        self._expect_classes(self.root, len(self.images["train"]))
        self.layout = (
            f"{self.root}: no folders train and test; using {100 * self.test_fraction:.0f} % of "
            "each class as test images (data.test_fraction)"
        )

    def _hash(self, path: str) -> bytes:
        name = unicodedata.normalize("NFC", os.path.relpath(path, self.root).replace(os.sep, "/"))
        return hashlib.sha256(os.fsencode(f"{_SPLIT_SEED} {name}")).digest()

    def _classes_in(self, entries: list[Entry]) -> dict[str, list[Entry]]:
        """Return the images of each class, whose name is Unicode-normalized."""
        classes: dict[str, list[Entry]] = {}
        for entry in entries:
            if _is_folder(entry):
                images = classes.setdefault(unicodedata.normalize("NFC", entry.name), [])
                images += self._images_of(entry)
            else:
                self.ignored.append(entry.path)
        return {name: sorted(classes[name], key=attrgetter("path")) for name in sorted(classes)}

    def _images_of(self, entry: Entry) -> list[Entry]:
        images = self._walk(entry.path)
        if not images:
            self.problems.append(
                f"{entry.path}: contains no images. Add some, or remove the class from all splits."
            )
        if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            self.problems.append(
                f"{entry.path}: the name is not valid UTF-8. Rename the folder, which is a class."
            )
        names = {os.path.relpath(image.path, entry.path).split(os.sep)[0] for image in images}
        if len(names) > 1 and all((Path(entry.path) / name).is_dir() for name in names):
            self._nested[entry.path] = sorted(names)
        return images

    def _walk(self, folder: str, parents: frozenset[str] = frozenset()) -> list[Entry]:
        real = os.path.realpath(folder)
        if real in parents:
            self.problems.append(
                f"{folder}: a symbolic link leads to a folder that contains it. Remove the link."
            )
            return []
        images = []
        for entry in self._scan(folder):
            if _is_folder(entry):
                images += self._walk(entry.path, parents | {real})
            elif _is_clutter(entry.name):
                self.ignored.append(entry.path)
            else:
                images.append(entry)
        return images

    def _scan(self, folder: str | Path) -> list[Entry]:
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=attrgetter("name"))
        except OSError as error:
            self.problems.append(f"{folder}: cannot read the folder: {error.strerror}")
            return []
        self.ignored += [entry.path for entry in entries if _is_ignored(entry.name)]
        return [entry for entry in entries if not _is_ignored(entry.name)]

    def _compare(self) -> None:
        train, test = (list(self.images[split]) for split in SPLITS)
        self._miss_classes(train, test, self._folders["test"])
        self._miss_classes(test, train, self._folders["train"])
        if len(self.classes) < 2:
            self._expect_classes(self._folders["train"], len(train))

    def _expect_classes(self, folder: Path, count: int) -> None:
        if count >= 2:
            return
        hint = " Each class is a folder of images."
        for path, names in self._nested.items():
            hint = f" If {some(names)} in {path} are the classes, move them up."
            if not self.is_split:
                hint = f" Did you mean data.root={path}, which contains {some(names)}?"
        self.problems.append(f"{folder}: expected at least 2 class folders, found {count}.{hint}")

    def _miss_classes(self, expected: list[str], found: list[str], folder: Path) -> None:
        for name in sorted({*expected} - {*found}):
            near = difflib.get_close_matches(name, {*found} - {*expected}, n=1)
            hint = f"; is '{near[0]}' misspelt?" if near else "."
            self.problems.append(
                f"{folder}: class '{name}' not found{hint} "
                "Expected the same class folders in train/ and test/."
            )

    def _describe_nested(self) -> None:
        if not self._nested:
            return
        shown = [
            f"{os.path.relpath(path, self.root)} ({some(names)})"
            for path, names in self._nested.items()
        ]
        self.notes.append(
            f"{self.root}: folders inside a class belong to it: {some(shown)}. If they are the "
            "classes, move them up."
        )

    def _describe_similar(self) -> None:
        names: dict[str, list[str]] = {}
        for name in self.classes:
            names.setdefault(name.casefold().strip(), []).append(f"'{name}'")
        self.notes += [
            f"{self.root}: classes differ only in case or spaces: {some(similar)}. If they are "
            "the same class, merge them."
            for similar in names.values()
            if len(similar) > 1
        ]

    def _describe_unused(self) -> None:
        """Add a note about folders and files that look like images but belong to no class."""
        unused = sorted(
            os.path.relpath(path, self.root) + "/" * os.path.isdir(path)
            for path in self.ignored
            if not _is_ignored(name := os.path.basename(path)) and not _is_clutter(name)
        )
        if not unused:
            return
        note = f"{self.root}: not used, since outside the class folders: {some(unused)}."
        if any(name.rstrip("/").lower() in _VALIDATION for name in unused):
            note += " To validate on held-out training images, set data.val_fraction=0.1."
        self.notes.append(note)


def images_in(folder: str) -> list[str]:
    """Return the sorted paths of all images in a folder and its subfolders.

    Raises:
        UserError: a folder cannot be read.
    """
    images: list[str] = []
    seen: set[str] = set()  # symbolic links may lead in circles
    for parent, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_ignored(name))
        images += [
            os.path.join(parent, name)
            for name in files
            if not _is_ignored(name) and not _is_clutter(name)
        ]
    return sorted(images)


def is_among_classes(folder: Path, root: Path) -> bool:
    """Return whether a folder is, or would be, a class of an image folder or inside one.

    Args:
        folder: need not exist.
        root: of the image folder.
    """
    folder, root = (Path(os.path.realpath(path)) for path in (folder, root))
    if not (os.path.isdir(root) and folder.is_relative_to(root)):
        return False
    parts = folder.relative_to(root).parts
    if any(map(_is_ignored, parts)):
        return False
    is_split = any(name.lower() in _SPLIT_NAMES for name in os.listdir(root))
    return not is_split or bool(parts and parts[0].lower() in _SPLIT_NAMES)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot read the folder: {error.strerror}") from error


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _is_clutter(name: str) -> bool:
    return name.lower().endswith(_CLUTTER)


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which fails when it is read as an image
        return False
