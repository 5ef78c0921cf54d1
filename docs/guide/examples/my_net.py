"""A small custom network: `python train.py model._target_=my_net.MyNet`."""

from torch import Tensor, nn


class MyNet(nn.Module):
    """Convolutions with BatchNorm and max pooling, then dropout and a linear layer.

    Args:
        num_classes: number of classes of the data; always passed.
        depth: number of convolutions: `model.depth=3`.
        width: factor on the channels: `model.width=0.5`.
        dropout: probability before the linear layer: `model.dropout=0.2`.
    """

    def __init__(
        self, num_classes: int, depth: int = 3, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number in range(depth):
            wider = max(1, round(64 * 2**number * width))
            layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = wider
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits. Shape: `(N, 3, H, W)` to `(N, num_classes)`."""
        features = self.features(images)
        return self.classifier(self.dropout(features.flatten(1)))
