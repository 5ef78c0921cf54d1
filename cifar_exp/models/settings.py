"""Settings of the networks of the `model` group.

PyTorch is imported only to build a network, since most commands do not need it.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cifar_exp.sections import CustomCode, PathText, Section

if TYPE_CHECKING:
    from torch import nn


# Between the run and the SHA-256 of its weights in `init`.
PINNED = "@sha256:"


class NetworkSection(Section):
    """Settings of a built-in network."""

    name: str
    width: float = Field(
        1.0, ge=1 / 64, le=8, description="multiplies the number of channels of all layers"
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout probability before the linear layer"
    )
    dropout_in_testing: bool = Field(
        False,
        description="keep dropout on in the evaluation after each epoch, as in the article; the "
        "trained model predicts without dropout",
    )
    init: PathText | None = Field(
        None,
        description="id or folder of a run with the same network, to start from its weights",
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings that are part of a run's id: of `init`, only the SHA-256."""
        content = self.model_dump(mode="json", exclude={"init"})
        return content | ({"init": self.init.rpartition(PINNED)[2]} if self.init else {})

    @property
    def smallest_image(self) -> int:
        """Smallest height and width of the images, in pixels."""
        return 1

    @property
    def smallest_image_alone(self) -> int:
        """Smallest height and width of an image that can be a whole batch, in pixels.

        BatchNorm needs two values per channel.
        """
        return self.smallest_image

    def build(self, classes: int, trusted: Collection[str] = ()) -> "nn.Module":
        """Build the network with weights from PyTorch's global generator.

        Args:
            classes: number of classes, at least 2.
            trusted: names of custom code that may be called.
        """
        raise NotImplementedError


class Model(NetworkSection):
    """VGG or ResNet18, with BatchNorm and one linear layer."""

    name: Literal["resnet18", "vgg11", "vgg13", "vgg16", "vgg19"] = "vgg16"

    @property
    def smallest_image(self) -> int:
        """See the base class: VGG halves the image size five times."""
        return 32 if self.name.startswith("vgg") else 1

    @property
    def smallest_image_alone(self) -> int:
        """See the base class: ResNet halves the image size three times."""
        return max(9, self.smallest_image)

    def build(self, classes: int, trusted: Collection[str] = ()) -> "nn.Module":
        """See the base class."""
        import torch

        from cifar_exp.models.resnet import ResNet18
        from cifar_exp.models.vgg import PLANS, Vgg

        if self.name == "resnet18":
            network: nn.Module = ResNet18(classes, self.width, self.dropout)
        else:
            network = Vgg(PLANS[self.name], classes, self.width, self.dropout)
        return network.to(memory_format=torch.channels_last)


class CustomModel(CustomCode):
    """A custom network."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that are part of a run's id."""
        return self.model_dump(mode="json")

    def build(self, classes: int, trusted: Collection[str] = ()) -> "nn.Module":
        """Build the custom network.

        Args:
            classes: number of classes, at least 2.
            trusted: names of custom code that may be called.

        Raises:
            UserError: the code is not trusted, or does not build a network.
        """
        from cifar_exp.models.custom import build_custom

        return build_custom(self, classes, trusted)


Network = Model | CustomModel
