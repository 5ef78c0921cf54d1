"""Find all problems of a folder of images."""

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate
from tqdm import tqdm

from cifar_exp.data.class_folders import SPLITS, TEST_FRACTION, ClassFolders
from cifar_exp.data.decoding import (
    UnreadableImage,
    alterations,
    as_pixels,
    opened,
    pixel_digest,
    upright_size,
)
from cifar_exp.data.settings import ARCHIVES, Archive
from cifar_exp.errors import UserError
from cifar_exp.terminal import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from cifar_exp.data.dataset import Dataset  # importing PyTorch takes 2 s

Findings = dict[str, list[str]]
_Image = tuple[str, str, str]  # split, class and path

_SHOWN = 10  # printed findings of each kind
_COPIES = 4  # printed files with the same image
_UNEQUAL = 3  # ratio of class sizes above which they are reported
_LONG = 3  # aspect ratio above which an image is reported


@dataclass(frozen=True)
class Inspection:
    """The contents of a data set and the findings about it.

    Args:
        title: the folder and the kind of data set.
        counts: number of images by split and class.
        sizes: all distinct widths and heights of images in pixels.
        problems: by kind, what training refuses or what makes its results wrong.
        remarks: by kind, what training accepts but the user may not expect.
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


def inspect_data(
    root: Path, image_size: int, test_fraction: float = TEST_FRACTION
) -> list[Inspection]:
    """Inspect the data sets that a folder contains.

    Args:
        root: folder, as in `data.root`.
        image_size: side in pixels at which images are compared.
        test_fraction: fraction of each class that becomes test images, as `data.test_fraction`.

    Returns:
        One inspection of an image folder, and one of each archive such as CIFAR-10.

    Raises:
        UserError: the folder contains no data set.
    """
    archives = [
        archive
        for archive in ARCHIVES
        if any(os.path.exists(root / name) for name in (archive.folder, archive.file))
    ]
    folders = ClassFolders(root, test_fraction)
    inspections = []
    if folders.has_splits or any(folders.entries(split) for split in SPLITS):
        inspections.append(_inspect_images(folders, image_size))
    inspections += [_inspect_archive(root, archive) for archive in archives]
    if not inspections:
        titles = " or ".join(archive.title for archive in ARCHIVES)
        raise UserError(f"{folders.problems[0]}\nNo archive of {titles} found there either.")
    return inspections


def _inspect_images(folders: ClassFolders, image_size: int) -> Inspection:
    root = folders.root
    found = Inspection(folders.layout or f"{root}: an image folder")
    for split, classes in folders.images.items():
        found.counts[split] = {name: len(images) for name, images in classes.items()}
    found.problems["class folders"] += folders.problems
    if folders.notes:
        found.remarks["folders"] += folders.notes
    same: dict[bytes, list[_Image]] = defaultdict(list)
    entries = [
        (split, name, entry)
        for split, classes in folders.images.items()
        for name, images in classes.items()
        for entry in images
    ]
    for split, name, entry in tqdm(entries, "reading images", disable=None, leave=False):
        path = os.path.relpath(entry.path, root)
        try:
            digest = _inspect_image(entry.path, path, image_size, found)
            same[digest].append((split, name, path))
        except UnreadableImage as error:
            found.problems["images that cannot be read"].append(f"{path}: {error}")
    _compare_images(same.values(), found.problems, found.remarks)
    _compare_counts(found)
    ignored = sorted(os.path.relpath(path, root) for path in folders.ignored)
    found.remarks["ignored: hidden, outside the class folders, or not an image by name"] += ignored
    return found


def _inspect_image(file: str, path: str, image_size: int, found: Inspection) -> bytes:
    with opened(file) as image:
        pixels = as_pixels(image, image_size)
        found.sizes.add(upright_size(image))
        for kind in _remarks(image, image_size):
            found.remarks[kind].append(path)
    return pixel_digest(pixels)


def _remarks(image: "Image", image_size: int) -> Iterator[str]:
    width, height = image.size
    if min(width, height) < image_size:
        yield f"smaller than {image_size} x {image_size} pixels: enlarged"
    if max(width, height) > _LONG * min(width, height):
        yield f"one side over {_LONG} times the other: distorted to a square"
    yield from alterations(image)
    with contextlib.suppress(Exception):  # other frames may be damaged
        if getattr(image, "is_animated", False):
            yield "several frames: the first is used"


def _compare_images(groups: Iterable[list[_Image]], problems: Findings, remarks: Findings) -> None:
    """Report images that occur more than once; those of several splits or classes are problems."""
    for group in groups:
        if len(group) == 1:
            continue
        keys = [(split, name) for split, name, _ in group]
        paths = [path for _, _, path in group]
        splits, classes = (set(names) for names in zip(*keys, strict=True))
        # an image of each split and class comes first, so that it is shown
        firsts = set(dict(zip(reversed(keys), reversed(paths), strict=True)).values())
        line = _cut(sorted(paths, key=lambda path: path not in firsts), _COPIES, ", ")
        if len(splits) > 1:
            problems["same image in train and test"].append(line)
        if len(classes) > 1:
            problems["same image in several classes"].append(line)
        if len(splits) == len(classes) == 1:
            remarks["same image several times in a class"].append(line)


def _compare_counts(found: Inspection) -> None:
    for split, counts in found.counts.items():
        filled = sorted((count, name) for name, count in counts.items() if count)
        if filled and filled[-1][0] > _UNEQUAL * filled[0][0]:
            (fewest, smallest), (most, largest) = filled[0], filled[-1]
            found.remarks["classes of very unequal size"].append(
                f"{split}: '{largest}' has {most:,} images, '{smallest}' has {fewest:,}"
            )


def _inspect_archive(root: Path, archive: type[Archive]) -> Inspection:
    from cifar_exp.data import cifar10

    found, name = Inspection(f"{root}: {archive.title}"), archive.torchvision
    if (root / archive.file).exists() and (altered := cifar10.altered_archive(root, name)):
        found.problems["archive"].append(altered)
    if not (root / archive.folder).exists():
        found.remarks["not extracted yet"].append(f"training will extract {archive.file}")
        return found
    altered_files = list(cifar10.altered_files(root, name))
    found.problems[f"files (delete {archive.folder} to extract them again)"] += altered_files
    if not altered_files:  # altered files are never unpickled
        _inspect_dataset(cifar10.load(root, name), found)
    return found


def _inspect_dataset(dataset: "Dataset", found: Inspection) -> None:
    same: dict[bytes, list[_Image]] = defaultdict(list)
    for split, part in (("train", dataset.train), ("test", dataset.test)):
        names = [dataset.classes[label] for label in part.labels]
        found.counts[split] = dict(Counter(names))
        found.sizes.add((part.images.shape[2], part.images.shape[1]))
        for index, (name, pixels) in enumerate(zip(names, part.images.numpy(), strict=True)):
            same[pixel_digest(pixels)].append((split, name, f"{split}/{name}/{index}"))
    # users cannot fix duplicates in published data
    _compare_images(same.values(), found.remarks, found.remarks)


def as_text(found: Inspection) -> str:
    """Format an inspection for the terminal."""
    parts = [found.title, *_counts_and_sizes(found)]
    for level, findings in (("problem", found.problems), ("remark", found.remarks)):
        for kind, lines in findings.items():
            if lines:
                shown = _cut([one_line(line) for line in lines], _SHOWN, "\n    ")
                parts.append(f"{level}: {kind} ({len(lines):,})\n    {shown}")
    parts.append(f"problems: {found.problem_count:,}")
    # file names may not be valid UTF-8
    return "\n\n".join(parts).encode(errors="backslashreplace").decode()


def _counts_and_sizes(found: Inspection) -> Iterator[str]:
    classes = sorted({name for counts in found.counts.values() for name in counts})
    if classes:
        rows = [
            [one_line(name), *(found.counts[split].get(name) for split in SPLITS)]
            for name in classes
        ]
        rows.append(["all", *(sum(found.counts[split].values()) for split in SPLITS)])
        yield tabulate(rows, ["class", *SPLITS])
    if found.sizes:
        widths, heights = zip(*found.sizes, strict=True)
        yield f"width {_range(widths)}, height {_range(heights)} pixels"


def _range(values: Iterable[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _cut(lines: list[str], limit: int, separator: str) -> str:
    more = [f"and {len(lines) - limit:,} more"] if len(lines) > limit else []
    return separator.join([*lines[:limit], *more])
