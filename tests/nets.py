"""Custom networks for tests."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Random(nn.Module):
    """Uses random numbers in all common ways; one dropout is used twice, another recomputed."""

    def __init__(self, num_classes: int, probability: float = 0.5) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)  # has the buffer num_batches_tracked
        self.channels = nn.Dropout2d(probability)
        self.dropout = nn.Dropout(probability)
        self.hidden = nn.Linear(8 * 15 * 15, 16)
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.channels(functional.relu(self.norm(self.convolution(images))))
        features = self.dropout(features.view(len(images), -1))  # fails for channels_last
        if self.training:
            features = features + 0.1 * torch.randn_like(features)
        hidden = checkpoint(lambda x: self.dropout(self.hidden(x)), features, use_reentrant=False)
        return self.head(functional.dropout(hidden, 0.1, self.training))


class NormedVector(nn.Module):
    """Normalises vectors, which fails for a batch of one image."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Tied(nn.Module):
    """Has a weight shared by two layers, a buffer, a frozen weight and an unused one."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(48, 48, bias=False)
        self.second = nn.Linear(48, 48, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(48, num_classes)
        self.frozen = nn.Parameter(torch.ones(5, 4, 3, 2, 1), requires_grad=False)
        self.idle = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen += len(images)
        return self.head(
            self.second(self.first(functional.avg_pool2d(images, 8).flatten(1)))
            * self.frozen.mean()
        )


class Odd(nn.Module):
    """Makes a mistake, selected by name."""

    def __init__(self, num_classes: int, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        self.head = nn.LazyLinear(num_classes) if mistake == "lazy" else nn.Linear(3, num_classes)
        if mistake == "unseeded":
            nn.init.constant_(self.head.bias, np.random.default_rng().random())
        if mistake == "frozen":
            self.requires_grad_(False)

    def get_extra_state(self) -> Any:
        return {"mistake": self.mistake}

    def forward(self, images: Tensor) -> Any:
        logits = self.head(images.mean(dim=(2, 3)))
        match self.mistake:
            case "tuple":
                return logits, logits
            case "shape":
                return logits[:, :2]
            case "dtype":
                return logits.argmax(1, keepdim=True).expand_as(logits)
            case "in place":
                return logits.exp().add_(1)
            case "testing" if not self.training:
                raise KeyError("testing")
        return logits


def broken(num_classes: int) -> nn.Module:
    raise RuntimeError(f"no network\nfor {num_classes} classes")


def no_network(num_classes: int) -> dict[str, int]:
    return {"classes": num_classes}
