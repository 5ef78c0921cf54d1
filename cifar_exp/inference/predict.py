"""Predict the classes of image files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cifar_exp.data.batches import evaluation_batch_size
from cifar_exp.data.decoding import UnreadableImage, read_image
from cifar_exp.inference.load import TrainedRun

DRAWN = 40  # images in predictions.png


@dataclass(frozen=True)
class Prediction:
    """The prediction for an image file.

    Attributes:
        file: path as given.
        pixels: RGB pixels at the size of the network's input; None after the first 40 predictions,
            since only these are drawn. Shape: `(H, W, 3)`.
        probabilities: probabilities of the run's classes. Shape: `(classes,)`.
    """

    file: str
    pixels: NDArray[np.uint8] | None
    probabilities: NDArray[np.float64]

    def best(self, count: int) -> list[int]:
        """Return the indices of the most probable classes in descending order."""
        return [int(index) for index in np.argsort(-self.probabilities, kind="stable")[:count]]


def predict(run: TrainedRun, files: Sequence[str]) -> tuple[list[Prediction], dict[str, str]]:
    """Predict the classes of image files, decoded as for training, with a progress bar.

    Args:
        run: trained run.
        files: paths of images in any format and size that Pillow reads.

    Returns:
        The predictions in the order of the files, and the reasons why other files cannot be read.
    """
    files = list(dict.fromkeys(files))
    predictions: list[Prediction] = []
    unreadable: dict[str, str] = {}
    at_once = evaluation_batch_size(run.image_size)
    with tqdm(total=len(files), unit="image", leave=False, disable=None) as bar:
        for start in range(0, len(files), at_once):
            pixels: dict[str, NDArray[np.uint8]] = {}
            for file in files[start : start + at_once]:
                try:
                    pixels[file] = read_image(file, run.image_size)
                except UnreadableImage as error:
                    unreadable[file] = str(error)
                bar.update()
            if pixels:
                predictions += _predict_batch(run, pixels, drawn=DRAWN - len(predictions))
    return predictions, unreadable


def _predict_batch(
    run: TrainedRun, pixels: Mapping[str, NDArray[np.uint8]], drawn: int
) -> list[Prediction]:
    logits = run.logits(torch.from_numpy(np.stack(list(pixels.values()))))
    probabilities = logits.double().softmax(1).numpy()
    rows = zip(pixels.items(), probabilities, strict=True)
    return [
        Prediction(file, image if number < drawn else None, row)
        for number, ((file, image), row) in enumerate(rows)
    ]
