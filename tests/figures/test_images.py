"""Grids of images."""

import numpy as np
import pytest

from cifar_exp.figures.images import draw_predictions


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_headline_names_the_split(split: str) -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    figure = draw_predictions(images, [0, 1], [0, 0], ["cat", "dog"], split)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == f"1 of 2 {split} images correct; framed: predicted, not true class"
