"""VGG with BatchNorm for small images. Source: Simonyan and Zisserman, 2015; the article."""

from torch import Tensor, nn

from cifar_exp.models.dropout import Dropout
from cifar_exp.models.layers import BatchNorm, Convolution

# Channels of the 3x3 convolutions in each of the five blocks; each block ends with max pooling.
PLANS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


class Vgg(nn.Module):
    """Convolutions with BatchNorm and ReLU, five max poolings, dropout and a linear layer.

    Args:
        plan: channels of the convolutions of each block.
        classes: number of classes, at least 2.
        width: factor on all channels, in (0, 8].
        dropout: probability of dropout before the linear layer, in [0, 1).
    """

    def __init__(
        self,
        plan: tuple[tuple[int, ...], ...],
        classes: int,
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for block in plan:
            for base in block:
                scaled = max(1, round(base * width))
                blocks += [
                    # the bias has no effect before BatchNorm; kept as in the article
                    Convolution(channels, scaled),
                    BatchNorm(scaled),
                    nn.ReLU(inplace=True),
                ]
                channels = scaled
            # before the last ReLU, which is faster and gives the same values
            blocks.insert(-1, nn.MaxPool2d(2))
        self.features = nn.Sequential(*blocks)
        self.dropout = Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits.

        Shape:
            images `(N, 3, H, W)` with H and W at least 32; logits `(N, classes)`.
        """
        features = self.features(images)
        if features.shape[2:] != (1, 1):  # images larger than 32x32
            features = features.mean(dim=(2, 3), keepdim=True)
        logits: Tensor = self.classifier(self.dropout(features.flatten(1)))
        return logits
