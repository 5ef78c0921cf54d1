"""The data sets of the `data` group: each is its settings and knows where its images come from.

Settings are read by commands that train nothing, so PyTorch is imported where images are read.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from cifar_exp.expressions import as_path
from cifar_exp.sections import CustomCode, PathText, Section

if TYPE_CHECKING:
    from cifar_exp.data.dataset import Dataset

Limit = Annotated[
    int | None, Field(ge=1, description="use only this many images, balanced over the classes")
]


class Contents(NamedTuple):
    """What is known of a data set before its images are read.

    Attributes:
        counts: training images of each class, by its name; None where classes have equal sizes.
        classes: number of classes.
        train_size: training images, before a limit.
        image_size: pixels a side.
    """

    counts: dict[str, int] | None
    classes: int
    train_size: int
    image_size: int


class DataSection(Section):
    """Settings that all data sets have, and what the others of the project ask one.

    Attributes:
        published_sizes: numbers of training and test images, where the settings say them.
        paths: settings that are paths.
    """

    published_sizes: ClassVar[tuple[int, int] | None] = None
    paths: ClassVar[tuple[str, ...]] = ()

    batch_size: int = Field(64, ge=1, description="number of images per step")
    augment: Literal["none", "flip", "crop", "crop_flip"] = Field(
        "flip",
        description="random horizontal flip, random crop after padding by 4 pixels, both or none",
    )
    cutout: int = Field(
        0,
        ge=0,
        le=512,
        description="side length in pixels of the square that cutout blackens; 0: no cutout",
    )
    test_flip: bool = Field(
        False, description="average the logits of each image and its horizontal flip in evaluation"
    )
    normalize: Literal["none", "channels"] = Field(
        "none",
        description="none: values in [0, 1]; channels: mean 0, standard deviation 1 per channel",
    )
    limit_train: Limit = None
    limit_test: Limit = None
    val_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="fraction of the training images held out for validation, the same for all "
        "seeds; they are evaluated instead of the test images; 0: none",
    )

    @property
    def evaluated_on(self) -> Literal["test", "validation"]:
        """Which images a run is evaluated on after each epoch."""
        return "validation" if self.val_fraction else "test"

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of training and test images before limits; None where only the images say."""
        return self.published_sizes

    @property
    def place(self) -> str:
        """The folder of images that are known by their place; "" for others."""
        return ""

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide which images a run sees, as plain JSON values."""
        return self.model_dump(mode="json")

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """Read, download or make the images, before limits.

        Args:
            cache: folder for decoded images.
            trusted: names of custom code that may be called.

        Raises:
            UserError: images are missing or damaged, or custom code may not be called or fails.
        """
        raise NotImplementedError

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """Return what is known before images are read. See `read` for arguments and errors."""
        raise NotImplementedError

    def provide(self) -> None:
        """Download the images where they are missing. Raises: UserError: that fails."""


class Archive(DataSection):
    """A data set that torchvision downloads.

    Attributes:
        torchvision: the name of its class in `torchvision.datasets`, which has CIFAR-10's layout.
        title: its name in messages.
        classes: number of classes.
        folder: of the extracted files, in `root`.
        file: the archive, in `root`.
    """

    torchvision: ClassVar[str]
    title: ClassVar[str]
    classes: ClassVar[int]
    folder: ClassVar[str]
    file: ClassVar[str]
    paths = ("root",)

    name: str
    root: PathText = Field("data", description="folder of the downloaded archive")

    def identity(self) -> dict[str, Any]:
        """See the base class: the images are the same wherever they are."""
        return self.model_dump(mode="json", exclude={"root"})

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """See the base class."""
        from cifar_exp.data import cifar10  # torchvision takes 2 s

        return cifar10.load(as_path(self.root), self.torchvision)

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """See the base class."""
        assert self.published_sizes
        return Contents(None, self.classes, self.published_sizes[0], 32)

    def provide(self) -> None:
        """See the base class."""
        from cifar_exp.data import cifar10

        cifar10.provide(as_path(self.root), self.torchvision)


class Cifar10(Archive):
    """CIFAR-10, 50,000 training and 10,000 test images of ten classes."""

    torchvision, title, classes = "CIFAR10", "CIFAR-10", 10
    folder, file = "cifar-10-batches-py", "cifar-10-python.tar.gz"
    published_sizes = 50_000, 10_000
    name: Literal["cifar10"] = "cifar10"


class Cifar100(Archive):
    """CIFAR-100, 50,000 training and 10,000 test images of a hundred classes."""

    torchvision, title, classes = "CIFAR100", "CIFAR-100", 100
    folder, file = "cifar-100-python", "cifar-100-python.tar.gz"
    published_sizes = 50_000, 10_000
    name: Literal["cifar100"] = "cifar100"


class ImageFolder(DataSection):
    """The user's images in root/train/<class>/ and root/test/<class>/, or in root/<class>/."""

    paths = ("root",)
    name: Literal["image_folder"] = "image_folder"
    root: PathText = Field(description="folder that contains train/ and test/, or the classes")
    same_as: PathText | None = Field(
        None,
        description="earlier folder of the same images, which keeps the ids of runs; set "
        "automatically when images have been moved",
    )
    image_size: int = Field(
        32, ge=32, le=512, description="height and width in pixels after resizing"
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="fraction of each class used as test images, the same for all seeds, if root "
        "contains the classes",
    )

    @property
    def place(self) -> str:
        """See the base class."""
        return self.root

    def identity(self) -> dict[str, Any]:
        """See the base class: the images are known by their first place."""
        content = self.model_dump(mode="json", exclude={"same_as"})
        if self.same_as:  # a real path when it was stored; by now a link may lead from there
            content["root"] = self.same_as
        elif "${" not in self.root:  # else the same run wherever the variable leads
            # of functions that never fail, since the settings may come from another machine
            content["root"] = os.path.realpath(os.path.expanduser(self.root))
        return content

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """See the base class."""
        from cifar_exp.data import image_folder

        limits = self.limit_train, self.limit_test
        return image_folder.load(
            as_path(self.root), self.image_size, cache, self.test_fraction, limits
        )

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """See the base class."""
        from cifar_exp.data import image_folder

        counts = image_folder.count(as_path(self.root), self.test_fraction)
        return Contents(counts, len(counts), sum(counts.values()), self.image_size)


class Synthetic(DataSection):
    """Ten classes of shapes made by a seeded generator; needs no download."""

    name: Literal["synthetic"] = "synthetic"
    train_size: int = Field(5000, ge=10, le=1_000_000, description="number of training images")
    test_size: int = Field(1000, ge=10, le=1_000_000, description="number of test images")

    @property
    def sizes(self) -> tuple[int, int] | None:
        """See the base class."""
        return self.train_size, self.test_size

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """See the base class."""
        from cifar_exp.data import synthetic

        return synthetic.load(self.train_size, self.test_size)

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """See the base class."""
        return Contents(None, 10, self.train_size, 32)


class CustomData(DataSection, CustomCode):
    """Images that a custom function returns."""

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """See the base class."""
        from cifar_exp.data import custom

        return custom.load(self, trusted)

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """See the base class: the images are read, since only they say."""
        from cifar_exp.data import custom

        dataset = custom.load(self, trusted)
        side = dataset.train.images.shape[1]
        return Contents(None, len(dataset.classes), len(dataset.train), side)


Data = Cifar10 | Cifar100 | ImageFolder | Synthetic | CustomData
# Data sets that a folder may hold next to others.
ARCHIVES: tuple[type[Archive], ...] = (Cifar10, Cifar100)
