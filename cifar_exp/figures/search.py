"""History and curves of the trials of a search."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_exp.figures.drawing import (
    COLOURS,
    SMALL,
    hover,
    metric_label,
    new_figure,
    percent_axis,
    smallest_range,
    tidy,
    value_text,
)

_FAINT = "#8a8f98"


@dataclass(frozen=True)
class TrialCurve:
    """The metric of a trial.

    Attributes:
        number: of the trial, from 0.
        values: after each epoch, up to the last finite value.
        complete: whether the trial was neither pruned nor diverged.
    """

    number: int
    values: Sequence[float]
    complete: bool


def draw_history(trials: Sequence[TrialCurve], higher: bool, metric: str, unit: str) -> Figure:
    """Draw the last value of each trial and the best complete trial so far.

    Args:
        trials: ordered by number.
        higher: whether higher values are better.
        metric: label of the metric.
        unit: of the metric, which is a fraction if it is "%".
    """
    figure = new_figure(3.2, f"{metric} by trial")
    axes = _axes(figure, "trial", metric, unit)
    shown = [trial for trial in trials if trial.values]
    for trial in shown:
        marker, colour = ("o", COLOURS[0]) if trial.complete else ("x", _FAINT)
        (dot,) = axes.plot(trial.number, trial.values[-1], marker, markersize=5, color=colour)
        hover(dot, f"trial {trial.number}: {value_text(trial.values[-1], unit)}")
    complete = [trial for trial in shown if trial.complete]
    best = list(accumulate((trial.values[-1] for trial in complete), max if higher else min))
    if best:
        steps = [*(trial.number for trial in complete), shown[-1].number]
        (line,) = axes.step(steps, [*best, best[-1]], where="post", color=COLOURS[1])
        hover(line, f"best: {value_text(best[-1], unit)}")
    axes.set_ylim(smallest_range(*axes.get_ylim(), unit))
    _legend(figure, "-", "best so far")
    return figure


def draw_trials(trials: Sequence[TrialCurve], best: int | None, metric: str, unit: str) -> Figure:
    """Draw the metric of each trial per epoch.

    Args:
        trials: the trials.
        best: number of the best trial; None if none is complete.
        metric: label of the metric.
        unit: of the metric, which is a fraction if it is "%".
    """
    figure = new_figure(3.2, f"{metric} by epoch")
    axes = _axes(figure, "epoch", metric, unit)
    shown = [trial for trial in trials if trial.values]
    for trial in sorted(shown, key=lambda trial: (trial.number == best, trial.complete)):
        is_best = trial.number == best
        colour = COLOURS[1] if is_best else COLOURS[0] if trial.complete else _FAINT
        epochs = range(1, len(trial.values) + 1)
        width = 2.2 if is_best else 1
        (line,) = axes.plot(epochs, trial.values, color=colour, lw=width, zorder=2 + is_best)
        marker = "o" if trial.complete else "x"
        (end,) = axes.plot(epochs[-1], trial.values[-1], marker, color=colour, markersize=5)
        text = f"trial {trial.number}: {value_text(trial.values[-1], unit)} at epoch {epochs[-1]}"
        hover(line, text)
        hover(end, text)
    axes.set_ylim(smallest_range(*axes.get_ylim(), unit))
    _legend(figure, "o-", "best")
    return figure


def _legend(figure: Figure, style: str, best: str) -> None:
    for colour, marker, label in (
        (COLOURS[1], style, best),
        (COLOURS[0], "o", "complete"),
        (_FAINT, "x", "pruned or diverged"),
    ):
        figure.axes[0].plot([], [], marker, color=colour, markersize=5, label=label)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)


def _axes(figure: Figure, x_label: str, metric: str, unit: str) -> Axes:
    axes = figure.subplots()
    tidy(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(metric_label(metric, unit))
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if unit == "%":
        percent_axis(axes)
    return axes
