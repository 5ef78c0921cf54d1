"""Small image folders for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_exp.data import image_folder
from cifar_exp.data.dataset import Dataset

RED, GREEN = (255, 0, 0), (0, 255, 0)


def save(path: Path, image: Image.Image | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (32, 32), RED)).save(path, **options)


def noise(seed: int, size: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def load(root: Path, image_size: int = 32) -> Dataset:
    return image_folder.load(root, image_size, root.parent / "cache")


def first_image(root: Path) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = load(root).train.images[0].numpy()
    return image
