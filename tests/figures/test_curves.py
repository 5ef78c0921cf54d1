"""The curves of a run."""

import math
from typing import Any

import pytest

from cifar_exp.figures.curves import draw_curves

# The values of a row differ, so that exchanged columns are detected.
ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "train_loss": 2.0, "val_loss": 2.5, "train_accuracy": 0.2, "val_accuracy": 0.1},
    {"epoch": 2, "train_loss": 1.0, "val_loss": None, "train_accuracy": 0.6, "val_accuracy": 0.4},
]


def test_each_curve_shows_its_metric_and_has_a_gap_at_non_finite_values() -> None:
    loss, accuracy = draw_curves(ROWS, "a run", "val").axes
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        lines = {str(line.get_label()).partition(":")[0]: line for line in axes.get_lines()}
        assert sorted(lines) == ["train", "validation"]
        for label, split in (("train", "train"), ("validation", "val")):
            assert list(lines[label].get_xdata()) == [1, 2]
            shown = [None if math.isnan(y) else y for y in lines[label].get_ydata()]
            assert shown == [row[f"{split}_{metric}"] for row in ROWS]


def test_the_legends_have_the_final_and_the_best_value() -> None:
    rows = [*ROWS, ROWS[0] | {"epoch": 3}]
    loss, accuracy = (
        [text.get_text() for text in axes.get_legend().get_texts()]
        for axes in draw_curves(rows, "a run", "val").axes
    )
    assert loss == ["train: 2 nats", "validation: 2.5 nats, best 2.5 nats at epoch 1"]
    assert accuracy == ["train: 20.0 %", "validation: 10.0 %, best 40.0 % at epoch 2"]


def test_the_best_epoch_is_the_first_of_equal_ones_and_may_have_a_loss_of_0() -> None:
    accuracies = {"val_accuracy": 0.9, "train_accuracy": 0.9, "train_loss": 1.0}
    rows = [
        accuracies | {"epoch": epoch, "val_loss": loss} for epoch, loss in enumerate((1, 0, 2), 1)
    ]
    texts = [
        axes.get_legend().get_texts()[1].get_text() for axes in draw_curves(rows, "run", "val").axes
    ]
    assert texts == [
        "validation: 2 nats, best 0 nats at epoch 2",
        "validation: 90.0 %, best 90.0 % at epoch 1",
    ]


@pytest.mark.parametrize("last", [0.0, 0.1, 1.0])  # anywhere on the axes
def test_no_legend_covers_a_curve(last: float) -> None:
    end = {"train_loss": 3 * last, "val_loss": 3 * last}
    end |= {"train_accuracy": last, "val_accuracy": last, "epoch": 3}
    figure = draw_curves([*ROWS, end], "a run", "val")
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())
