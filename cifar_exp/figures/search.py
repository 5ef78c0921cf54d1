"""History and curves of the trials of a search."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_exp.figures.drawing import COLOURS, metric_label, new_figure, tidy

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


def draw_history(trials: Sequence[TrialCurve], higher: bool, metric: str, percent: bool) -> Figure:
    """Draw the last value of each trial and the best complete trial so far.

    Args:
        trials: ordered by number.
        higher: whether higher values are better.
        metric: label of the metric.
        percent: whether it is a fraction shown in percent.
    """
    figure = new_figure(3.4)
    axes = _axes(figure, "trial", metric, percent)
    factor = 100 if percent else 1
    shown = [trial for trial in trials if trial.values]
    for is_complete, marker, colour, label in (
        (True, "o", COLOURS[0], "complete"),
        (False, "x", _FAINT, "pruned or diverged (last epoch)"),
    ):
        points = [(t.number, factor * t.values[-1]) for t in shown if t.complete == is_complete]
        if points:
            numbers, values = zip(*points, strict=True)
            axes.scatter(numbers, values, s=28, marker=marker, color=colour, label=label)
    best: list[float] = []
    complete = [trial for trial in shown if trial.complete]
    for trial in complete:
        better = max if higher else min
        best.append(better([*best[-1:], factor * trial.values[-1]]))
    if best:
        steps = [*(trial.number for trial in complete), shown[-1].number]
        best.append(best[-1])
        axes.step(steps, best, where="post", color=COLOURS[1], label="best so far")
    axes.legend(frameon=False)
    return figure


def draw_trials(
    trials: Sequence[TrialCurve], best: int | None, metric: str, percent: bool
) -> Figure:
    """Draw the metric of each trial per epoch.

    Args:
        trials: the trials.
        best: number of the best trial; None if none is complete.
        metric: label of the metric.
        percent: whether it is a fraction shown in percent.
    """
    figure = new_figure(3.8)
    axes = _axes(figure, "epoch", metric, percent)
    for trial in sorted(trials, key=lambda trial: (trial.number == best, trial.complete)):
        if not trial.values:
            continue
        values = [100 * value if percent else value for value in trial.values]
        is_best = trial.number == best
        colour = COLOURS[1] if is_best else COLOURS[0] if trial.complete else _FAINT
        epochs = range(1, len(values) + 1)
        axes.plot(
            epochs,
            values,
            color=colour,
            linewidth=2.2 if is_best else 1,
            zorder=3 if is_best else 2,
        )
        marker = "o" if trial.complete else "x"
        axes.plot(epochs[-1], values[-1], marker, color=colour, markersize=5)
    for colour, marker, label in (
        (COLOURS[1], "o", "best"),
        (COLOURS[0], "o", "complete"),
        (_FAINT, "x", "pruned or diverged"),
    ):
        axes.plot([], [], marker=marker, color=colour, label=label)
    axes.legend(frameon=False)
    return figure


def _axes(figure: Figure, x_label: str, metric: str, percent: bool) -> Axes:
    axes = figure.subplots()
    tidy(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(metric_label(metric, percent))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return axes
