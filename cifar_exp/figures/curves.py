"""Loss and accuracy per epoch."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_exp.figures.drawing import COLOURS, plain_text, tidy, value_text

_UNITS = {"loss": "nats", "accuracy": "%"}


def draw_curves(rows: Sequence[dict[str, Any]], title: str = "", evaluated: str = "test") -> Figure:
    """Draw loss and accuracy of a run on the training and the evaluated split.

    The legends have the final value and, for the evaluated split, the best one and its epoch. They
    are above the axes, since curves may be anywhere within.

    Args:
        rows: lines of metrics.jsonl; None for non-finite values.
        title: of the figure.
        evaluated: prefix of the columns of the evaluated split, "test" or "val".
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    figure.suptitle(plain_text(title, 90), fontsize=10)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for axes, metric in ((loss, "loss"), (accuracy, "accuracy")):
        for split, colour, marker in (("train", COLOURS[0], "o"), (evaluated, COLOURS[1], "s")):
            values = [row[f"{split}_{metric}"] for row in rows]
            name = "validation" if split == "val" else split
            axes.plot(
                epochs,
                [math.nan if value is None else value for value in values],
                color=colour,
                marker=marker if len(rows) <= 30 else None,
                markersize=4,
                clip_on=False,  # whole markers at 0 and 100 %
                label=name + _summary(epochs, values, metric, with_best=split == evaluated),
            )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        tidy(axes)
        axes.legend(
            title="loss (nats)" if metric == "loss" else metric,
            title_fontsize="large",
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
        )
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(0, 1)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    return figure


def _summary(
    epochs: Sequence[int], values: Sequence[float | None], metric: str, with_best: bool
) -> str:
    """Return the final value and the best one with its epoch."""
    if not values or values[-1] is None:
        return ""
    text = f": {value_text(values[-1], _UNITS[metric])}"
    finite = [(v, epoch) for v, epoch in zip(values, epochs, strict=True) if v is not None]
    if not with_best or not finite:
        return text
    # the first of equal values, as `keep=best` selects it
    best, epoch = (max if metric == "accuracy" else min)(finite, key=lambda pair: pair[0])
    if epoch == epochs[-1]:
        return f"{text}, the best"
    return f"{text}, best {value_text(best, _UNITS[metric])} at epoch {epoch}"
