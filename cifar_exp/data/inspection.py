"""Everything that is wrong or odd about a folder of images, found without stopping at the first."""

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate
from tqdm import tqdm

from cifar_exp.data.class_folders import SPLITS, ClassFolders
from cifar_exp.data.decoding import (
    UnreadableImage,
    alterations,
    as_pixels,
    opened,
    pixel_digest,
    upright,
)
from cifar_exp.data.settings import ARCHIVES, Archive
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from cifar_exp.data.dataset import Dataset  # PyTorch takes 2 s, and files do without

Findings = dict[str, list[str]]
_Place = tuple[str, str, str]  # split, class and path of an image

_SHOWN = 10  # findings of a kind that are printed
_COPIES = 4  # files that are printed of those with the same image
_UNEQUAL = 3  # times as many images in a class as in another are remarkable
_LONG = 3  # times as wide as high, or as high as wide


@dataclass(frozen=True)
class Inspection:
    """What a data set holds, and what was found.

    Args:
        title: the folder, and what it was taken for.
        counts: number of images by split and class.
        sizes: width and height of every kind of image, in pixels.
        problems: by kind: what training refuses, or what makes its result wrong.
        remarks: by kind: what training accepts, and someone may want to know.
    """

    title: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    problems: Findings = field(default_factory=lambda: defaultdict(list))
    remarks: Findings = field(default_factory=lambda: defaultdict(list))

    @property
    def problem_count(self) -> int:
        """The number of problems of all kinds."""
        return sum(map(len, self.problems.values()))


def inspect_data(root: Path, image_size: int) -> list[Inspection]:
    """Inspect the data sets that a folder holds.

    Args:
        root: what one would give as data.root.
        image_size: pixels a side, at which images are compared.

    Returns:
        One for an image folder, one for each archive, such as CIFAR-10.

    Raises:
        UserError: the folder holds neither.
    """
    inspections = []
    archives = [a for a in ARCHIVES if (root / a.folder).exists() or (root / a.file).exists()]
    folders = ClassFolders(root)
    has_images = any(folders.entries(split) for split in SPLITS)
    if folders.has_splits or (has_images and not archives):
        inspections.append(_inspect_images(folders, image_size))
    inspections += [_inspect_archive(root, archive) for archive in archives]
    if not inspections:
        raise UserError(
            f"{root}: expected a folder with train/ and test/, with classes, or with "
            f"{' or '.join(name for a in ARCHIVES for name in (a.folder, a.file))}; "
            f"{'there is none of them' if root.is_dir() else 'there is no such folder'}. "
            "Give the folder that you would give as data.root."
        )
    return inspections


def _inspect_images(folders: ClassFolders, image_size: int) -> Inspection:
    root = folders.root
    found = Inspection(folders.layout or f"{root}: an image folder")
    for split, classes in folders.images.items():
        found.counts[split] = {name: len(images) for name, images in classes.items()}
    found.problems["class folders"] += folders.problems
    if folders.notes:
        found.remarks["folders"] += folders.notes
    same: dict[bytes, list[_Place]] = defaultdict(list)
    entries = [
        (split, name, entry)
        for split in SPLITS
        for name, images in folders.images[split].items()
        for entry in images
    ]
    for split, name, entry in tqdm(entries, "reading images", disable=None):
        path = os.path.relpath(entry.path, root)
        try:
            digest = _look_at(entry.path, path, image_size, found)
            same[digest].append((split, name, path))
        except UnreadableImage as error:
            found.problems["images that cannot be read"].append(f"{path}: {error}")
    _compare_images(same.values(), found.problems, found.remarks)
    _compare_counts(found)
    ignored = sorted(os.path.relpath(path, root) for path in folders.ignored)
    found.remarks["ignored: hidden, outside of the classes, or no image by its name"] += ignored
    return found


def _look_at(file: str, path: str, image_size: int, found: Inspection) -> bytes:
    with opened(file) as image:
        pixels = as_pixels(image, image_size)
        found.sizes.add(upright(image).size)
        for kind in _oddities(image, image_size):
            found.remarks[kind].append(path)
    return pixel_digest(pixels)


def _oddities(image: "Image", image_size: int) -> Iterator[str]:
    width, height = image.size
    if min(width, height) < image_size:
        yield f"smaller than {image_size} x {image_size} pixels: enlarged"
    if max(width, height) > _LONG * min(width, height):
        yield f"one side more than {_LONG} times the other: squeezed into a square"
    yield from alterations(image)
    with contextlib.suppress(Exception):  # the other frames may be damaged, and no one reads them
        if getattr(image, "is_animated", False):
            yield "several frames: the first is used"


def _compare_images(groups: Iterable[list[_Place]], problems: Findings, remarks: Findings) -> None:
    """Tell which images are there more than once.

    Args:
        groups: split, class and path of equal images.
        problems: where to tell of those that are in both splits or in several classes.
        remarks: where to tell of the others.
    """
    for group in groups:
        if len(group) == 1:
            continue
        places = [place[:2] for place in group]
        paths = [path for _, _, path in group]
        splits, classes = (set(names) for names in zip(*places, strict=True))
        # one of each split and class comes first, and is not cut off
        firsts = set(dict(zip(reversed(places), reversed(paths), strict=True)).values())
        line = _cut(sorted(paths, key=lambda path: path not in firsts), _COPIES, ", ")
        if len(splits) > 1:
            problems["the same image in train and test"].append(line)
        if len(classes) > 1:
            problems["the same image in several classes"].append(line)
        if len(splits) == len(classes) == 1:
            remarks["the same image more than once in a class"].append(line)


def _compare_counts(found: Inspection) -> None:
    for split, counts in found.counts.items():
        filled = sorted((count, name) for name, count in counts.items() if count)
        if filled and filled[-1][0] > _UNEQUAL * filled[0][0]:
            (least, rare), (most, common) = filled[0], filled[-1]
            found.remarks["classes of very unequal size"].append(
                f"{split}: '{common}' has {most:,} images, '{rare}' has {least:,}"
            )


def _inspect_archive(root: Path, archive: type[Archive]) -> Inspection:
    from cifar_exp.data import cifar10  # torchvision takes 2 s

    found, name = Inspection(f"{root}: {archive.title}"), archive.torchvision
    if (root / archive.file).exists() and (altered := cifar10.altered_archive(root, name)):
        found.problems["archive"].append(altered)
    if not (root / archive.folder).exists():
        found.remarks["not extracted yet"].append(f"training will extract {archive.file}")
        return found
    altered_files = list(cifar10.altered_files(root, name))
    kind = f"files (delete {archive.folder}, and training will get good ones)"
    found.problems[kind] += altered_files
    if not altered_files:  # what has another MD5 is never unpickled
        _inspect_dataset(cifar10.load(root, name), found)
    return found


def _inspect_dataset(dataset: "Dataset", found: Inspection) -> None:
    same: dict[bytes, list[_Place]] = defaultdict(list)
    for split, rows in (("train", dataset.train), ("test", dataset.test)):
        names = [dataset.classes[label] for label in rows.labels]
        found.counts[split] = dict(Counter(names))
        found.sizes.add((rows.images.shape[2], rows.images.shape[1]))
        for row, (name, pixels) in enumerate(zip(names, rows.images.numpy(), strict=True)):
            same[pixel_digest(pixels)].append((split, name, f"{split}/{name}/{row}"))
    # the files are as published, and so is every result on them: nothing to mend
    _compare_images(same.values(), found.remarks, found.remarks)


def as_text(found: Inspection) -> str:
    """Return the counts, the sizes and all findings, for the terminal."""
    parts = [found.title, *_counts_and_sizes(found)]
    for level, findings in (("problem", found.problems), ("remark", found.remarks)):
        for kind, lines in findings.items():
            if lines:
                shown = _cut(lines, _SHOWN, "\n    ")
                parts.append(f"{level}: {kind} ({len(lines):,})\n    {shown}")
    parts.append(f"problems: {found.problem_count:,}")
    # file names may hold bytes that no terminal takes as text
    return "\n\n".join(parts).encode(errors="backslashreplace").decode()


def _counts_and_sizes(found: Inspection) -> Iterator[str]:
    classes = sorted({name for counts in found.counts.values() for name in counts})
    if classes:
        rows = [[name, *(found.counts[split].get(name) for split in SPLITS)] for name in classes]
        rows.append(["all", *(sum(found.counts[split].values()) for split in SPLITS)])
        yield tabulate(rows, ["class", *SPLITS])
    if found.sizes:
        widths, heights = zip(*found.sizes, strict=True)
        yield f"width {_range(widths)}, height {_range(heights)} pixels"


def _range(values: Iterable[int]) -> str:
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


def _cut(lines: list[str], limit: int, separator: str) -> str:
    more = [f"and {len(lines) - limit:,} more"] if len(lines) > limit else []
    return separator.join([*lines[:limit], *more])
