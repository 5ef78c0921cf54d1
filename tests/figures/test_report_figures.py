"""The figures of reports."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from cifar_exp.figures.drawing import MOST_COLOURS, as_files, inline_svg, smallest_range
from cifar_exp.figures.levels import Level, Point, draw_effect, draw_level_curves
from cifar_exp.figures.settings import draw_heat_map, draw_importance, draw_parallel_coordinates
from cifar_exp.reports.plots import report_figures
from tests.claims import DIVERGED, FAILED, run

Rows = list[dict[str, Any]]


def rows(*losses: float | None) -> Rows:
    """Return the rows of a run with these losses, which diverged if the last is None."""
    return [
        {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": 0.5,
            "test_loss": loss,
            "test_accuracy": None if loss is None else 0.4,
        }
        for epoch, loss in enumerate(losses, 1)
    ]


def point(label: str, position: float | None, *values: float, diverged: int = 0) -> Point:
    mean = sum(values) / len(values) if values else math.nan
    half_width = 0.02 if len(values) > 1 else math.nan
    return Point(
        label, position, [*values], mean, half_width, diverged, ended=len(values) + diverged
    )


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def tick_coordinates(points: list[Point]) -> dict[str, float]:
    axes = draw_effect(points, "lr", "accuracy", "%").axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    return dict(zip(labels, map(float, axes.get_xticks()), strict=True))


def legend_title(figure: Figure) -> str:
    return str(figure.legends[0].get_title().get_text())


def test_equal_figures_give_equal_bytes() -> None:
    levels = [Level("0.1", 0.1, [rows(2, 1), rows(2, None)]), Level("0.2", 0.2, [rows(2, 1)])]
    figure = draw_level_curves(levels, "lr", "test")
    first = as_files(figure)
    assert first == as_files(figure)
    assert first == as_files(draw_level_curves(levels, "lr", "test"))
    assert first[".svg"].startswith(b"<svg ")
    assert first[".png"].startswith(b"\x89PNG")


def test_an_exploded_run_does_not_flatten_the_others() -> None:
    runs = [rows(2.3, 1.0), rows(2.2, 0.9), rows(2.3, 8e30, None)]
    figure = draw_level_curves(
        [Level(str(i), i, [run]) for i, run in enumerate(runs)], "lr", "train"
    )
    assert 2.3 < figure.axes[0].get_ylim()[1] < 3
    assert "cut at" in figure.axes[0].get_ylabel()


def test_runs_without_a_finite_loss_do_not_cut_off_the_others() -> None:
    levels = [Level("1", 1, [rows(None), rows(None)]), Level("2", 2, [rows(2.3, 1.0)])]
    assert draw_level_curves(levels, "lr", "test").axes[0].get_ylim()[1] > 2.3


def test_the_mean_ends_with_the_shortest_seed() -> None:
    figure = draw_level_curves(
        [Level("1", 1, [rows(2.0, 1.0, 0.5), rows(1.0, 0.5)])], "lr", "train"
    )
    long, short, mean = ([*map(float, line.get_ydata())] for line in figure.axes[0].lines)
    assert long == [2.0, 1.0, 0.5]
    assert short[:2] == [1.0, 0.5]
    assert mean[:2] == [1.5, 0.75]
    assert math.isnan(short[2])
    assert math.isnan(mean[2])


def test_the_legend_explains_divergence_only_if_a_run_diverged() -> None:
    complete, diverged = Level("1", 1, [rows(2.0, 1.0)]), Level("2", 2, [rows(2.0, None)])
    assert "diverged" not in legend_title(draw_level_curves([complete], "lr", "test"))
    assert "diverged" in legend_title(draw_level_curves([complete, diverged], "lr", "test"))


def test_published_values_are_dashed_in_the_panel_of_their_metric() -> None:
    published = [
        {"epoch": epoch, "train_loss": 2.0, "best_test_accuracy_so_far": 0.1 * epoch}
        for epoch in (1, 2, 3)
    ]
    levels = [Level("0.1", 0.1, [rows(2, 1)], published), Level("0.2", 0.2, [rows(2, 1)])]
    training, test = (
        draw_level_curves(levels, "lr", split, published="article") for split in ("train", "test")
    )
    dashed = [
        [line for line in axes.lines if line.get_marker() == "D"]
        for figure in (training, test)
        for axes in figure.axes
    ]
    train_loss, train_accuracy, test_loss, test_accuracy = dashed
    assert (test_loss, train_accuracy) == ([], [])
    assert list(train_loss[0].get_ydata()) == [2.0, 2.0, 2.0]
    assert list(test_accuracy[0].get_ydata()) == pytest.approx([0.1, 0.2, 0.3])
    assert [text.get_text() for text in test.legends[0].texts] == ["0.1", "0.2", "article"]
    without = draw_level_curves([Level("0.1", 0.1, [rows(2, 1)])], "lr", "test")
    assert [text.get_text() for text in without.legends[0].texts] == ["0.1"]


def test_levels_over_several_decades_have_a_log_axis() -> None:
    coordinates = tick_coordinates([point(str(lr), lr, 0.5, 0.6) for lr in (0.001, 0.01, 0.1)])
    assert [*coordinates] == ["0.001", "0.01", "0.1"]
    assert [*coordinates.values()] == pytest.approx([-3, -2, -1])


def test_other_levels_have_a_linear_axis() -> None:
    coordinates = tick_coordinates([point(str(rate), rate, 0.5) for rate in (0.0, 0.2, 0.5)])
    assert coordinates == {"0.0": 0.0, "0.2": 0.2, "0.5": 0.5}


def test_zero_is_shown_on_a_log_axis() -> None:
    coordinates = tick_coordinates([point(str(decay), decay, 0.5) for decay in (0, 0.001, 0.1)])
    assert [*coordinates.values()] == pytest.approx([-4, -3, -1])


def test_levels_that_are_not_numbers_keep_their_order() -> None:
    words = ["onecycle", "constant", "multistep"]
    assert [*tick_coordinates([point(word, None, 0.5, 0.6) for word in words])] == words


def test_a_diverged_level_is_marked() -> None:
    points = [point("0.1", 0.1, 0.5, 0.6, 0.7), point("0.2", 0.2, 0.5, diverged=2)]
    assert texts(draw_effect(points, "lr", "accuracy", "%")) == ["2 of 3\ndiverged"]


def test_a_heat_map_shows_intervals_and_marks_missing_values() -> None:
    cells = [[(0.5, 0.1), None], [(0.123, math.nan), (0.95, 0.1)]]
    figure = draw_heat_map(["1", "2"], ["a", "b"], cells, "lr", "schedule", "accuracy", "%")
    assert texts(figure) == ["50.0", "40.0 to 60.0", "no value", "12.3", "95.0", "85.0 to 100.0"]


def test_parallel_coordinates_draw_a_line_for_each_run_with_a_finite_metric() -> None:
    runs = [((0.1, "cosine"), 0.5), ((0.01, "constant"), 0.7), ((0.1, "cosine"), math.nan)]
    figure = draw_parallel_coordinates(["lr", "schedule"], runs, "accuracy", "%")
    lines = figure.axes[0].collections[-1].get_paths()
    assert [path.vertices[:2, 1].tolist() for path in lines] == [[1, 0], [0, 1]]
    assert {"0.1", "0.01", "cosine", "constant"} <= {*texts(figure)}


def test_parallel_coordinates_have_round_ticks_and_label_the_best() -> None:
    rates = [0.0013 * 1.7**i for i in range(10)]
    runs = [((rate,), 0.5 - i / 100) for i, rate in enumerate(rates)]
    highest = texts(draw_parallel_coordinates(["lr"], runs, "accuracy", "%"))
    assert {"0.002", "0.005", "0.01", "0.02", "0.05", "0.1"} <= {*highest}
    assert highest[-2:] == ["0.0013", "50.0 %"]
    lowest = texts(draw_parallel_coordinates(["lr"], runs, "loss", "nats", higher=False))
    assert lowest[-1] == "0.41 nats"


def test_runs_with_the_same_of_many_levels_meet_on_its_axis() -> None:
    rates = [float(rate) for rate in [*range(1, 10), 1]]
    figure = draw_parallel_coordinates(["lr"], [((r,), 0.5) for r in rates], "accuracy", "%")
    heights = [path.vertices[0, 1] for path in figure.axes[0].collections[-1].get_paths()]
    assert heights[0] == heights[-1] < min(heights[1:-1])


@pytest.mark.parametrize(
    ("low", "high", "unit", "shown"),
    [
        (0.501, 0.503, "%", (0.452, 0.552)),
        (0.99, 0.995, "%", (0.91, 1.01)),
        (0.2, 0.7, "%", (0.2, 0.7)),
        (0.01, 0.02, "nats", (0, 0.2)),
        (1000, 1010, "images/s", (878.75, 1131.25)),
    ],
)
def test_an_axis_does_not_magnify_noise(
    low: float, high: float, unit: str, shown: tuple[float, float]
) -> None:
    assert smallest_range(low, high, unit) == pytest.approx(shown)


def test_many_levels_have_a_colour_scale_and_labels_of_the_best_and_worst() -> None:
    runs = [rows(2.0, 1.0) for _ in range(MOST_COLOURS + 1)]
    for number, of_run in enumerate(runs):
        of_run[-1]["test_accuracy"] = number / 20
    levels = [Level(f"0.{i:02}", i / 100, [run]) for i, run in enumerate(runs)]
    figure = draw_level_curves(levels, "lr", "test")
    assert not figure.legends
    assert [text.get_text() for text in figure.axes[1].texts] == ["best: 0.12", "worst: 0.00"]
    few = draw_level_curves(levels[:MOST_COLOURS], "lr", "test")
    assert len(few.legends[0].get_texts()) == MOST_COLOURS


def test_inline_figures_have_selectable_text_titles_and_the_colours_of_the_page() -> None:
    hostile = point("<b>\x00$", 0.1, 0.5, 0.6)
    figure = draw_effect([hostile, point("0.2", 0.2, 0.7, 0.8)], "learning rate", "accuracy", "%")
    svg = inline_svg(as_files(figure, "a")[".svg"], "the caption")
    root = ElementTree.fromstring(svg)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not names & {"image", "style", "script", "metadata"}
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Accuracy by learning rate", "accuracy (%)", "<b>?$", "0.2"} <= words
    titles = {element.text for element in root.iter("{http://www.w3.org/2000/svg}title")}
    assert "learning rate 0.2: 75.0 % (73.0 % to 77.0 %; 2 seeds)" in titles
    assert "var(--blue)" in svg
    assert not re.findall(r"#0072b2|#000000|#ffffff|DejaVu", svg)
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib


def test_the_ids_of_two_figures_of_a_page_differ() -> None:
    figures = [
        as_files(draw_effect([point("1", 1, 0.5)], "lr", "accuracy", "%"), name)[".svg"].decode()
        for name in "ab"
    ]
    first, second = (set(re.findall(r' id="([^"]*)"', figure)) for figure in figures)
    assert first
    assert not first & second


def test_the_most_important_setting_is_on_top() -> None:
    axes = draw_importance({"dropout": 0.1, "lr": 0.6, "batch size": 0.2}, "accuracy").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "lr"


def test_names_are_not_parsed_as_math_text() -> None:
    figure = draw_effect([point("$a$", None, 0.5)], r"$\no$", "$x", "")
    as_files(figure)  # raises if math text is parsed


def test_a_diverged_run_that_has_a_speed_is_counted_once() -> None:
    speed = "images_per_second"
    runs = [
        run(0, speed, 9.0),
        run(1, speed, 8.0),
        run(2, "final_train_loss", DIVERGED, images_per_second=7.0),
        run(3, speed, FAILED),
    ]
    levels = {"optimizer.lr": {0.01: runs, 0.1: runs[:1]}}
    *_, effect = report_figures([*runs, runs[0]], levels, [speed])
    assert "1 of 3\ndiverged" in texts(effect.draw())


def test_figures_of_diverged_runs_only_can_be_drawn() -> None:
    as_files(draw_level_curves([Level("1", 1, [rows(None), []])], "lr", "test"))
    effect = draw_effect([point("1", 1, diverged=3)], "lr", "accuracy", "%")
    as_files(effect)
    heat = draw_heat_map(["1"], ["1"], [[None]], "lr", "width", "accuracy", "%")
    as_files(heat)
    runs = draw_parallel_coordinates(["lr"], [([1.0], math.nan)], "accuracy", "%")
    as_files(runs)


def test_a_figure_is_drawn_once_for_each_of_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, to: drawn.append(to) or draw(self, to))
    as_files(draw_level_curves([Level("1", 1, [rows(2.0, 1.0)])], "lr", "test"))
    assert len(drawn) == 2
