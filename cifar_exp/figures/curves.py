"""Loss and accuracy per epoch."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# Colour-blind safe. Source: Okabe and Ito, 2008.
TRAIN_COLOUR = "#0072B2"
TEST_COLOUR = "#D55E00"


def draw_curves(rows: Sequence[dict[str, Any]], title: str = "", evaluated: str = "test") -> Figure:
    """Draw loss and accuracy of a run on the training and the evaluated split.

    Args:
        rows: lines of metrics.jsonl; None for non-finite values.
        title: of the figure.
        evaluated: prefix of the columns of the evaluated split, "test" or "val".
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title, fontsize=10)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        for split, colour, marker in (("train", TRAIN_COLOUR, "o"), (evaluated, TEST_COLOUR, "s")):
            values = [row[f"{split}_{metric}"] for row in rows]
            axes.plot(
                epochs,
                [math.nan if value is None else value for value in values],
                color=colour,
                marker=marker if len(rows) <= 30 else None,
                markersize=4,
                label="validation" if split == "val" else split,
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss.set_ylabel("cross-entropy (nats)")
    loss.set_ylim(bottom=0, top=loss.get_ylim()[1] * 1.1)
    loss.legend(frameon=False)
    accuracy.set_ylabel("accuracy")
    accuracy.set_ylim(0, 1)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    return figure
