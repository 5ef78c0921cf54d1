"""ResNet for small images. Source: He et al., 2016, in the form that is usual for CIFAR-10."""

from typing import cast

from torch import Tensor, nn

from cifar_exp.models.dropout import Dropout
from cifar_exp.models.layers import BatchNorm, Convolution

# Channels of the four stages; each but the first halves the image.
_STAGES = (64, 128, 256, 512)
_BLOCKS_IN_A_STAGE = 2


class ResNet18(nn.Module):
    """A convolution, eight blocks with a shortcut each, a mean over the pixels, a linear layer.

    For small images the first convolution has a kernel of 3x3 pixels, and no pooling comes after
    it.

    Args:
        classes: how many classes there are, at least 2.
        width: factor on all channels, in (0, 8].
        dropout: probability before the linear layer, in [0, 1).
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
        for stage, wider in enumerate(stages):
            for block in range(_BLOCKS_IN_A_STAGE):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(channels, wider, stride))
                channels = wider
        self.features = nn.Sequential(*layers)
        self.dropout = Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shape: images `(N, 3, H, W)`, logits `(N, classes)`."""
        features = self.features(images).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(self.dropout(features)))


class _Block(nn.Module):
    """Two convolutions, and the input added to what they give.

    Where the shape changes, a convolution of 1x1 pixels fits the input to it.
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
        # Pixels are left out before the convolution and not by its stride: there oneDNN writes
        # beyond its memory with fewer than 16 channels. Source: its issue 6035.
        kept = images[:, :, :: self._stride, :: self._stride]
        return nn.functional.relu(self.residual(images) + self.shortcut(kept))
