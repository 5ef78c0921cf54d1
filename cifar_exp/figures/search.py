"""How a search went: what each trial came to, and which were given up when."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifar_exp.figures.drawing import COLOURS, metric_label, new_figure, tidy

_FAINT = "#8a8f98"


@dataclass(frozen=True)
class Tried:
    """A trial.

    Attributes:
        number: from 0.
        values: of its metric after each epoch; those that are not finite left out at the end.
        ended: whether it came to its end; else it was pruned, or diverged.
    """

    number: int
    values: Sequence[float]
    ended: bool


def draw_history(trials: Sequence[Tried], higher: bool, metric: str, percent: bool) -> Figure:
    """Draw what each trial came to, and the best so far.

    Args:
        trials: by number.
        higher: whether higher is better.
        metric: its name.
        percent: whether it is a fraction, to be shown in percent.

    Returns:
        The figure, to be saved.
    """
    figure = new_figure(3.4)
    axes = _axes(figure, "trial", metric, percent)
    factor = 100 if percent else 1
    shown = [trial for trial in trials if trial.values]
    for ended, marker, colour, label in (
        (True, "o", COLOURS[0], "to its end"),
        (False, "x", _FAINT, "pruned or diverged, last epoch"),
    ):
        points = [(t.number, factor * t.values[-1]) for t in shown if t.ended == ended]
        if points:
            numbers, values = zip(*points, strict=True)
            axes.scatter(numbers, values, s=28, marker=marker, color=colour, label=label)
    best: list[float] = []
    complete = [trial for trial in shown if trial.ended]
    for trial in complete:
        better = max if higher else min
        best.append(better([*best[-1:], factor * trial.values[-1]]))
    if best:
        places = [*(trial.number for trial in complete), shown[-1].number]
        best.append(best[-1])
        axes.step(places, best, where="post", color=COLOURS[1], label="best so far")
    axes.legend(frameon=False)
    return figure


def draw_trials(trials: Sequence[Tried], best: int | None, metric: str, percent: bool) -> Figure:
    """Draw the curve of each trial to where it ended or was given up.

    Args:
        trials: by number.
        best: number of the winner.
        metric: its name.
        percent: whether it is a fraction, to be shown in percent.

    Returns:
        The figure, to be saved.
    """
    figure = new_figure(3.8)
    axes = _axes(figure, "epoch", metric, percent)
    for trial in sorted(trials, key=lambda trial: (trial.number == best, trial.ended)):
        if not trial.values:
            continue
        values = [100 * value if percent else value for value in trial.values]
        wins = trial.number == best
        colour = COLOURS[1] if wins else COLOURS[0] if trial.ended else _FAINT
        epochs = range(1, len(values) + 1)
        axes.plot(
            epochs, values, color=colour, linewidth=2.2 if wins else 1, zorder=3 if wins else 2
        )
        marker = "o" if trial.ended else "x"
        axes.plot(epochs[-1], values[-1], marker, color=colour, markersize=5)
    for colour, marker, label in (
        (COLOURS[1], "o", "the winner"),
        (COLOURS[0], "o", "to its end"),
        (_FAINT, "x", "pruned or diverged"),
    ):
        axes.plot([], [], marker=marker, color=colour, label=label)
    axes.legend(frameon=False)
    return figure


def _axes(figure: Figure, across: str, metric: str, percent: bool) -> Axes:
    axes = figure.subplots()
    tidy(axes)
    axes.set_xlabel(across)
    axes.set_ylabel(metric_label(metric, percent))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return axes
