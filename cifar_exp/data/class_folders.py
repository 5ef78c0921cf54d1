"""Which image files lie in the class folders of a folder; none is opened here.

The classes are folders of train/ and test/, or of the root itself, which is split then.
"""

import difflib
import hashlib
import os
import unicodedata
from pathlib import Path

Entry = os.DirEntry[str]

SPLITS = ("train", "test")
TEST_FRACTION = 0.2
# The names of a split's folder, of any case; the first that is there is taken.
_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
_CLUTTER = (
    "thumbs.db",
    "desktop.ini",
    *(".txt", ".json", ".csv", ".md", ".xml", ".yaml", ".yml"),
    *(".ini", ".db", ".xmp", ".aae"),  # what photo programs keep beside a photo
)
# What systems keep in folders of photos, such as thumbnails; hidden folders are left out anyway.
_OF_SYSTEMS = {
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "lost+found",
    "system volume information",
}
_SPLIT_SEED = 20_240_603  # any number; another one makes other images test images
_SHOWN = 3  # names in a message


class ClassFolders:
    """What is found, with everything that is wrong about the folders, in the order to mend it.

    Args:
        root: folder that holds train/ and test/ with the same classes, or the classes themselves.
        test_fraction: share of each class that becomes test images where the root is not split.

    Attributes:
        images: files by split and class; classes sorted by name, files by path.
        problems: what training refuses, a message each.
        layout: how the images are split where the root holds the classes; "" where it is split.
        notes: what is decided here and may not be meant, a message each.
        ignored: paths of what is no class and no image by its name.
        is_split: whether the root holds train/ and test/, or should.
        has_splits: whether it holds one of them.
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
        if not root.is_dir():
            self._miss(root)
            return
        inner = sorted(filter(_is_folder, self._scan(root)), key=lambda entry: entry.name)
        self._folders = {split: self._folder_of(split, inner) for split in SPLITS}
        self.has_splits = any(folder.is_dir() for folder in self._folders.values())
        self.is_split = self.has_splits or not inner
        if self.is_split:
            self._look_into_splits()
        else:
            self._split(inner)
        self._describe_nested()

    @property
    def classes(self) -> list[str]:
        """The sorted names of the classes in either split."""
        return sorted({*self.images["train"], *self.images["test"]})

    def entries(self, split: str) -> list[Entry]:
        """The files of a split in the order of their classes and paths."""
        return [entry for images in self.images[split].values() for entry in images]

    def counts(self, split: str) -> list[int]:
        """The number of files of each class in a split."""
        return [len(images) for images in self.images[split].values()]

    def _folder_of(self, split: str, inner: list[Entry]) -> Path:
        found = [
            entry.name
            for name in _NAMES[split]
            for entry in sorted(inner, key=lambda entry: entry.name != name)  # `test` before `Test`
            if entry.name.lower() == name
        ]
        if found and found[0] != split:
            self.notes.append(
                f"{self.root}: has no folder {split}; {found[0]} is taken for the {split} images"
            )
        self.ignored += [str(self.root / name) for name in found[1:]]
        return self.root / (found[0] if found else split)

    def _miss(self, folder: Path, hint: str = "") -> None:
        self.problems.append(
            f"data.root={self.root}: there is no folder {folder}. Expected images in "
            f"train/<class>/ and test/<class>/ of data.root, or in <class>/ alone.{hint}"
        )

    def _look_into_splits(self) -> None:
        for split, folder in self._folders.items():
            if folder.is_dir():
                self.images[split] = self._classes_in(sorted(self._scan(folder), key=_name))
            elif split == "test":
                self._miss(folder, f" data.root={self._folders['train']} would be split.")
            else:
                self._miss(folder)
        if all(folder.is_dir() for folder in self._folders.values()):
            self._compare()
        if self.test_fraction != TEST_FRACTION:
            self.problems.append(
                f"data.test_fraction={self.test_fraction:g}: expected none, since {self.root} is "
                "split already; leave it out."
            )

    def _split(self, inner: list[Entry]) -> None:
        """Split each class by the digests of its paths, so that other files change little."""
        for name, images in self._classes_in(inner).items():
            count = min(max(1, round(self.test_fraction * len(images))), len(images) - 1)
            if len(images) == 1:
                self.problems.append(
                    f"{images[0].path} is the only image of its class: add another, since "
                    "training and testing need one each."
                )
            tested = {*sorted((image.path for image in images), key=self._place)[: max(0, count)]}
            self.images["train"][name] = [image for image in images if image.path not in tested]
            self.images["test"][name] = [image for image in images if image.path in tested]
        self._expect_classes(self.root, len(self.images["train"]))
        self.layout = (
            f"{self.root}: has no folders train and test; {self.test_fraction:.0%} of each class "
            "are test images (data.test_fraction)"
        )

    def _place(self, path: str) -> bytes:
        inner = unicodedata.normalize("NFC", os.path.relpath(path, self.root).replace(os.sep, "/"))
        return hashlib.sha256(os.fsencode(f"{_SPLIT_SEED} {inner}")).digest()

    def _classes_in(self, entries: list[Entry]) -> dict[str, list[Entry]]:
        """Return the images of each class; names that differ in their Unicode form are one."""
        classes: dict[str, list[Entry]] = {}
        for entry in entries:
            if _is_folder(entry):
                images = classes.setdefault(unicodedata.normalize("NFC", entry.name), [])
                images += self._images_of(entry)
            else:
                self.ignored.append(entry.path)
        return {name: sorted(classes[name], key=_path) for name in sorted(classes)}

    def _images_of(self, entry: Entry) -> list[Entry]:
        images = self._walk(entry.path)
        if not images:
            self.problems.append(
                f"{entry.path} holds no images: add some, or remove this class from both splits."
            )
        if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            # results are written with the names of the classes
            self.problems.append(f"{entry.path} has a name that is no UTF-8 text: rename it.")
        within = {os.path.relpath(image.path, entry.path).split(os.sep)[0] for image in images}
        if len(within) > 1 and all((Path(entry.path) / name).is_dir() for name in within):
            self._nested[entry.path] = sorted(within)
        return images

    def _walk(self, folder: str, above: frozenset[str] = frozenset()) -> list[Entry]:
        real = os.path.realpath(folder)
        if real in above:
            self.problems.append(f"{folder} is a link to a folder that it lies in: remove it.")
            return []
        images = []
        for entry in self._scan(folder):
            if _is_folder(entry):
                images += self._walk(entry.path, above | {real})
            elif entry.name.lower().endswith(_CLUTTER):
                self.ignored.append(entry.path)
            else:
                images.append(entry)
        return images

    def _scan(self, folder: str | Path) -> list[Entry]:
        try:
            with os.scandir(folder) as scanned:
                entries = list(scanned)
        except OSError as error:
            self.problems.append(f"cannot look into {folder}: {error.strerror}")
            return []
        self.ignored += [entry.path for entry in entries if _is_left_out(entry.name)]
        return [entry for entry in entries if not _is_left_out(entry.name)]

    def _compare(self) -> None:
        train, test = (list(self.images[split]) for split in SPLITS)
        self._miss_classes(train, test, self._folders["test"])
        self._miss_classes(test, train, self._folders["train"])
        if len(self.classes) < 2:
            self._expect_classes(self._folders["train"], len(train))

    def _expect_classes(self, folder: Path, count: int) -> None:
        if count >= 2:
            return
        inner = [
            f" {path} holds {_some(names)}: are these the classes?"
            for path, names in self._nested.items()
        ]
        self.problems.append(
            f"{folder} holds {count} class folders: expected 2 or more, "
            f"one folder of images for each class.{inner[0] if inner else ''}"
        )

    def _miss_classes(self, expected: list[str], found: list[str], folder: Path) -> None:
        for name in sorted({*expected} - {*found}):
            near = difflib.get_close_matches(name, {*found} - {*expected}, n=1)
            hint = f" (there is '{near[0]}': did you mean that?)" if near else ""
            self.problems.append(
                f"{folder} lacks the class '{name}'{hint}. "
                "Expected the same class folders in train/ and test/."
            )

    def _describe_nested(self) -> None:
        if not self._nested:
            return
        shown = [
            f"{os.path.relpath(path, self.root)} ({_some(names)})"
            for path, names in self._nested.items()
        ]
        self.notes.append(
            f"{self.root}: each folder is one class, with the folders in it: {_some(shown)}; where "
            "those are the classes, move them up"
        )


def images_in(folder: str) -> list[str]:
    """Return the sorted paths of the images in a folder and in the folders in it."""
    images: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        images += [
            os.path.join(place, name)
            for name in files
            if not _is_left_out(name) and not name.lower().endswith(_CLUTTER)
        ]
    return sorted(images)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)


def _path(entry: Entry) -> str:
    return entry.path


def _name(entry: Entry) -> str:
    return entry.name


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image tells so
        return False
