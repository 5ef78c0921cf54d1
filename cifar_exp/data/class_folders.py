"""Which image files lie in train/<class>/ and test/<class>/ of a folder; none is opened here."""

import difflib
import os
from pathlib import Path

Entry = os.DirEntry[str]

SPLITS = ("train", "test")
_CLUTTER = ("thumbs.db", "desktop.ini", ".txt", ".json", ".csv", ".md")


class ClassFolders:
    """What is found, with everything that is wrong about the folders, in the order to mend it.

    Args:
        root: folder that holds train/ and test/ with the same classes.

    Attributes:
        images: files by split and class; classes sorted by name, files by path.
        problems: what training refuses, a message each.
        ignored: paths of what is no class and no image by its name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.ignored: list[str] = []
        self.images: dict[str, dict[str, list[Entry]]] = {split: {} for split in SPLITS}
        if not root.is_dir():
            self._miss(root)
            return
        for split in SPLITS:
            self._look_into(split)
        if all((root / split).is_dir() for split in SPLITS):
            self._compare()

    @property
    def classes(self) -> list[str]:
        """The sorted names of the classes in either split."""
        return sorted({*self.images["train"], *self.images["test"]})

    def entries(self, split: str) -> list[Entry]:
        """The files of a split in the order of their classes and paths."""
        return [entry for images in self.images[split].values() for entry in images]

    def _miss(self, folder: Path) -> None:
        self.problems.append(
            f"data.root={self.root}: there is no folder {folder}. "
            "Expected images in train/<class>/ and test/<class>/ of data.root."
        )

    def _look_into(self, split: str) -> None:
        folder = self.root / split
        if not folder.is_dir():
            self._miss(folder)
            return
        for entry in sorted(self._scan(folder), key=lambda entry: entry.name):
            if _is_folder(entry):
                self._add_class(split, entry)
            else:
                self.ignored.append(entry.path)

    def _add_class(self, split: str, entry: Entry) -> None:
        images = sorted(self._walk(entry.path), key=lambda image: image.path)
        self.images[split][entry.name] = images
        if not images:
            self.problems.append(
                f"{entry.path} holds no images: add some, or remove this class from both splits."
            )
        if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
            # results are written with the names of the classes
            self.problems.append(f"{entry.path} has a name that is no UTF-8 text: rename it.")

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
        self.ignored += [entry.path for entry in entries if _is_hidden(entry)]
        return [entry for entry in entries if not _is_hidden(entry)]

    def _compare(self) -> None:
        train, test = (list(self.images[split]) for split in SPLITS)
        self._miss_classes(train, test, self.root / "test")
        self._miss_classes(test, train, self.root / "train")
        if len(self.classes) < 2:
            self.problems.append(
                f"{self.root / 'train'} holds {len(train)} class folders: expected 2 or more, "
                "one folder of images for each class."
            )

    def _miss_classes(self, expected: list[str], found: list[str], folder: Path) -> None:
        for name in sorted({*expected} - {*found}):
            near = difflib.get_close_matches(name, {*found} - {*expected}, n=1)
            hint = f" (there is '{near[0]}': did you mean that?)" if near else ""
            self.problems.append(
                f"{folder} lacks the class '{name}'{hint}. "
                "Expected the same class folders in train/ and test/."
            )


def _is_hidden(entry: Entry) -> bool:
    return entry.name.startswith(".")


def _is_folder(entry: Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image tells so
        return False
