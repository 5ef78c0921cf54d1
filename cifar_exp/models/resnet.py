"""ResNet for small images. Source: He et al., 2016, with the common changes for CIFAR-10."""

from typing import cast

from torch import Tensor, nn

from cifar_exp.models.dropout import Dropout
from cifar_exp.models.layers import BatchNorm, Convolution

# Channels of the four stages; all but the first halve the image size.
_STAGES = (64, 128, 256, 512)
_BLOCKS_PER_STAGE = 2


class ResNet18(nn.Module):
    """A convolution, eight residual blocks, global average pooling and a linear layer.

    For small images, the first convolution is 3x3 and no pooling follows it.

    Args:
        classes: number of classes, at least 2.
        width: factor on all channels, in (0, 8].
        dropout: probability of dropout before the linear layer, in [0, 1).
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        stages = [max(1, round(channels * width)) for channels in _STAGES]
        channels = stages[0]
        layers: list[nn.Module] = [
            Convolution(3, channels, bias=False),
            BatchNorm(channels),
            nn.ReLU(inplace=True),
        ]
        for stage, out_channels in enumerate(stages):
            for block in range(_BLOCKS_PER_STAGE):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(channels, out_channels, stride))
                channels = out_channels
        self.features = nn.Sequential(*layers)
        self.dropout = Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits. Shape: images `(N, 3, H, W)`, logits `(N, classes)`."""
        features = self.features(images).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(self.dropout(features)))


class _Block(nn.Module):
    """Residual block: two convolutions, to which a shortcut adds the input.

    If the shape changes, the shortcut is a 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            Convolution(in_channels, out_channels, stride, bias=False),
            BatchNorm(out_channels),
            nn.ReLU(inplace=True),
            Convolution(out_channels, out_channels, bias=False),
            BatchNorm(out_channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, bias=False))
            self.shortcut.append(BatchNorm(out_channels))
        self._stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Shape: `(N, C, H, W)` to `(N, D, H / stride, W / stride)`, rounded up."""
        # Strided by slicing: with a stride and fewer than 16 channels, oneDNN's 1x1 convolution
        # writes out of bounds. Source: its issue 6035.
        strided = images[:, :, :: self._stride, :: self._stride]
        return nn.functional.relu(self.residual(images) + self.shortcut(strided))
