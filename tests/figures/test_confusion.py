"""The figure of the confusion matrix."""

import numpy as np
import pytest

from cifar_exp.figures.confusion import draw_confusion


def test_of_many_classes_the_most_confused_pairs_are_drawn() -> None:
    counts = np.diag(np.full(1000, 9))
    counts[7, 3], counts[2, 5] = 4, 6
    figure = draw_confusion(counts, [f"class {index}" for index in range(1000)], "test")
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["class 2, predicted class 5", "class 7, predicted class 3"]
    assert [bar.get_width() for bar in axes.patches] == [6, 4]
    assert axes.get_title() == "9000 of 9010 test images correct; the most confused pairs"


def test_few_classes_have_a_matrix_with_all_names() -> None:
    names = [f"c{n}" for n in range(60)]
    (axes,) = draw_confusion(np.eye(60, dtype=np.int64), names, "test").axes
    assert len(axes.get_yticklabels()) == 60


@pytest.mark.parametrize("classes", [2, 61])  # a matrix, and the pairs of more than 60 classes
def test_the_title_and_the_axis_name_the_split(classes: int) -> None:
    counts = np.eye(classes, dtype=np.int64)
    (axes,) = draw_confusion(counts, [f"c{n}" for n in range(classes)], "validation").axes
    assert axes.get_title().startswith(f"{classes} of {classes} validation images correct")
    assert axes.get_xlabel() == ("predicted" if classes == 2 else "validation images")
