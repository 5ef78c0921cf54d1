"""Settings of the data sets, each with the code that loads its images.

PyTorch is imported only where images are read, since many commands need just the settings.
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
    int | None, Field(ge=1, description="maximum number of images, balanced over the classes")
]


class Contents(NamedTuple):
    """Properties of a data set that are known before its images are read.

    Attributes:
        counts: number of training images by class name; None if all classes have the same size.
        classes: number of classes.
        train_size: number of training images before limits.
        image_size: side of the images in pixels.
    """

    counts: dict[str, int] | None
    classes: int
    train_size: int
    image_size: int


class DataSection(Section):
    """Base class of the data sets.

    Attributes:
        published_sizes: numbers of training and test images; None if not known from settings.
        paths: names of the settings that are paths.
    """

    published_sizes: ClassVar[tuple[int, int] | None] = None
    paths: ClassVar[tuple[str, ...]] = ()

    batch_size: int = Field(64, ge=1, description="number of images in a training step")
    augment: Literal["none", "flip", "crop", "crop_flip"] = Field(
        "flip",
        description="random horizontal flip, random crop after padding by 4 pixels, both or none",
    )
    cutout: int = Field(0, ge=0, le=512, description="side of the Cutout mask in pixels; 0: none")
    test_flip: bool = Field(
        False, description="average the logits of each test image and its horizontal flip"
    )
    normalize: Literal["none", "channels"] = Field(
        "none",
        description="none: values in [0, 1]; channels: mean 0 and standard deviation 1 per channel",
    )
    limit_train: Limit = None
    limit_test: Limit = None
    val_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="fraction of the training images to hold out and evaluate instead of the test "
        "images, the same images for all seeds; 0: none",
    )

    @property
    def evaluated_on(self) -> Literal["test", "validation"]:
        """The split that a run is evaluated on after each epoch."""
        return "validation" if self.val_fraction else "test"

    @property
    def sizes(self) -> tuple[int, int] | None:
        """Numbers of training and test images before limits; None if not known from settings."""
        return self.published_sizes

    @property
    def place(self) -> str:
        """The folder of the images if a run's id depends on it; "" otherwise."""
        return ""

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the images of a run, as JSON values."""
        return self.model_dump(mode="json")

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """Read, download or generate the images, before limits.

        Args:
            cache: folder for decoded images.
            trusted: names of custom code that may be called.

        Raises:
            UserError: images are missing or damaged, or custom code is not trusted or fails.
        """
        raise NotImplementedError

    def contents(self, trusted: Collection[str] = ()) -> Contents:
        """Return the properties that are known before the images are read.

        Args:
            trusted: names of custom code that may be called.

        Raises:
            UserError: see `read`.
        """
        raise NotImplementedError

    def provide(self) -> None:
        """Download the images if they are missing.

        Raises:
            UserError: the download fails.
        """


class Archive(DataSection):
    """A data set that torchvision downloads.

    Attributes:
        torchvision: name of the class in `torchvision.datasets`, which has CIFAR-10's layout.
        title: name in messages.
        classes: number of classes.
        folder: name of the folder of extracted files in `root`.
        file: name of the archive in `root`.
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
        """See the base class. The location of the archive is not part of it."""
        return self.model_dump(mode="json", exclude={"root"})

    def read(self, cache: Path, trusted: Collection[str] = ()) -> "Dataset":
        """See the base class."""
        from cifar_exp.data import cifar10

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
    """Images in root/train/<class>/ and root/test/<class>/, or in root/<class>/."""

    paths = ("root",)
    name: Literal["image_folder"] = "image_folder"
    root: PathText = Field(
        description="folder that contains train/ and test/, or the class folders"
    )
    same_as: PathText | None = Field(
        None,
        description="former folder of the same images, from before they were moved; "
        "set automatically",
    )
    image_size: int = Field(32, ge=32, le=512, description="side of the resized images in pixels")
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="fraction of each class to use as test images if root contains the class "
        "folders; the same images for all seeds",
    )

    @property
    def place(self) -> str:
        """See the base class."""
        return self.root

    def identity(self) -> dict[str, Any]:
        """See the base class. Images that were moved keep their first path."""
        content = self.model_dump(mode="json", exclude={"same_as"})
        if self.same_as:  # resolved when it was stored; it may be a link by now
            content["root"] = self.same_as
        elif "${" not in self.root:  # a variable is not resolved: its value does not change the id
            # these functions never fail, also for settings of another machine
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
    """Ten classes of shapes drawn by a seeded generator; needs no download."""

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
        """See the base class. The custom function is called."""
        from cifar_exp.data import custom

        dataset = custom.load(self, trusted)
        side = dataset.train.images.shape[1]
        return Contents(None, len(dataset.classes), len(dataset.train), side)


Data = Cifar10 | Cifar100 | ImageFolder | Synthetic | CustomData
# Data sets that can share a folder with others.
ARCHIVES: tuple[type[Archive], ...] = (Cifar10, Cifar100)
