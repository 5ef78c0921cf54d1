"""The article's training loop for VGG16 in plain PyTorch, for comparison.

PIL transforms images in memory one by one, a DataLoader without workers makes the batches, the
network computes in fp32 in the contiguous memory format, and every step waits for its loss and
its predictions. TF32, PyTorch's default for convolutions on GPUs, is off.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: pool


class Images(TorchDataset[tuple[Tensor, int]]):
    """Images in memory, in the format of torchvision's CIFAR10.

    Shape:
        images `(N, 32, 32, 3)` uint8, labels `(N,)`.
    """

    def __init__(self, images: NDArray[np.uint8], labels: list[int], train: bool) -> None:
        self.images, self.labels = images, labels
        flip = [transforms.RandomHorizontalFlip()] if train else []
        self.transform = transforms.Compose([*flip, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def vgg16(width: float = 1.0, classes: int = 10) -> nn.Sequential:
    """Return VGG16 with BatchNorm, one linear layer, and channels scaled by `width`."""
    layers: list[nn.Module] = []
    channels = 3
    for planned in _PLAN:
        if planned == 0:
            layers.append(nn.MaxPool2d(2))
            continue
        scaled = round(planned * width)
        layers += [nn.Conv2d(channels, scaled, 3, padding=1), nn.BatchNorm2d(scaled), nn.ReLU(True)]
        channels = scaled
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))


def _in_fp32() -> AbstractContextManager[None]:
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    )


class ArticleLoop:
    """Trains and tests VGG16 as the article does.

    Args:
        train: training images and labels.
        test: test images and labels.
        device: device of the network.
        batch_size: batch size of training and testing.
        width: factor on the number of channels.
    """

    def __init__(
        self,
        train: tuple[NDArray[np.uint8], list[int]],
        test: tuple[NDArray[np.uint8], list[int]],
        device: torch.device,
        batch_size: int = 64,
        width: float = 1.0,
    ) -> None:
        self.device = device
        self.train_loader = DataLoader(Images(*train, train=True), batch_size, shuffle=True)
        self.test_loader = DataLoader(Images(*test, train=False), batch_size)
        self.model = vgg16(width).to(device)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.001)

    def train_steps(self) -> Iterator[int]:
        """Train for an epoch, and yield the number of images after each step."""
        self.model.train()
        self.losses: list[float] = []
        correct = 0
        for images, labels in self.train_loader:
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            with _in_fp32():
                logits = self.model(images)
                loss = self.loss(logits, labels)
                loss.backward()
            self.optimizer.step()
            self.losses.append(loss.item())
            predicted = logits.argmax(1).cpu().numpy()
            correct += (predicted == labels.cpu().numpy()).sum()
            yield len(labels)

    def test(self) -> tuple[float, float]:
        """Return the loss and accuracy on the test images."""
        self.model.eval()
        losses, correct = [], 0
        with torch.no_grad(), _in_fp32():
            for images, labels in self.test_loader:
                images, labels = images.to(self.device), labels.to(self.device)
                logits = self.model(images)
                losses.append(self.loss(logits, labels).item())
                predicted = logits.argmax(1).cpu().numpy()
                correct += (predicted == labels.cpu().numpy()).sum()
        return sum(losses) / len(losses), correct / len(self.test_loader.dataset)  # type: ignore[arg-type]

    def epoch(self) -> tuple[float, float]:
        """Train for an epoch, then test."""
        for _ in self.train_steps():
            pass
        return self.test()
