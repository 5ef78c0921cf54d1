"""What a network sees in pictures of the user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp.data.decoding import UnreadableImage, read_image
from cifar_exp.inference.load import TrainedRun


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one picture.

    Attributes:
        file: its path as it was given.
        pixels: as the network gets them, RGB. Shape: `(H, W, 3)`.
        probabilities: of the run's classes. Shape: `(classes,)`.
    """

    file: str
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]

    def best(self, count: int) -> list[int]:
        """Return the positions of the most probable classes, the most probable first."""
        return [int(place) for place in np.argsort(-self.probabilities, kind="stable")[:count]]


def predict(run: TrainedRun, files: Sequence[str]) -> tuple[list[Prediction], dict[str, str]]:
    """Predict the classes of image files, decoded as those that a run is trained on.

    Args:
        run: that was trained.
        files: of any format, size and depth that Pillow reads.

    Returns:
        The predictions, in the order given; and why the other files cannot be read.
    """
    pixels: dict[str, NDArray[np.uint8]] = {}
    unreadable: dict[str, str] = {}
    for file in files:
        try:
            pixels[file] = read_image(file, run.image_size)
        except UnreadableImage as error:
            unreadable[file] = str(error)
    if not pixels:
        return [], unreadable
    logits = run.logits(torch.from_numpy(np.stack(list(pixels.values()))))
    probabilities = logits.double().softmax(1).numpy()
    named = zip(pixels.items(), probabilities, strict=True)
    return [Prediction(file, image, row) for (file, image), row in named], unreadable
