"""Metrics of runs."""

import math
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.metrics import RUN_METRICS, with_current_names, with_defaults
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Cifar10
from cifar_exp.reports.metrics import (
    MEASURES,
    main_metrics,
    measured,
    on_evaluated_split,
    optional_metrics,
)
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record

CURVE_METRICS = (
    "final_train_loss",
    "final_train_accuracy",
    "final_test_loss",
    "final_test_accuracy",
    "best_test_accuracy",
    "epochs_to_train_accuracy",
    "epochs_to_test_accuracy",
    "train_loss_oscillation",
    "test_accuracy_oscillation",
)


def row(epoch: int, **values: Any) -> dict[str, Any]:
    usual = {
        "epoch": epoch,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_loss": 1.25,
        "test_accuracy": 0.375,
        "train_seconds": 0.5,
        "test_seconds": 0.125,
        "images_per_second": 200.0,
        "peak_memory_bytes": 1_000_000,
    }
    return usual | values


def record(rows: list[dict[str, Any]], status: str = "complete", **settings: Any) -> Record:
    return Record(RunConfig(**settings), RunFolder(Path("runs") / "x"), status, {}, rows)


def curve(column: str, values: list[float | None]) -> Record:
    return record([row(epoch, **{column: value}) for epoch, value in enumerate(values, 1)])


def read(run: Record, metric: str) -> float | None:
    reached = 0.5 if metric.startswith("epochs_to") else None
    return measured(run, metric, reached)


def test_every_metric_has_a_measure() -> None:
    assert set(MEASURES) == set(RUN_METRICS)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("final_train_loss", 0.5),
        ("final_train_accuracy", 0.75),
        ("final_test_loss", 1.5),
        ("final_test_accuracy", 0.625),
        ("best_test_accuracy", 0.875),
        ("seconds", 3 * (0.5 + 0.125)),
        ("peak_memory_bytes", 3_000_000),
    ],
)
def test_metrics_are_of_the_last_epoch_the_best_epoch_or_the_whole_run(
    metric: str, value: float
) -> None:
    last = row(3, train_loss=0.5, train_accuracy=0.75, test_loss=1.5, test_accuracy=0.625)
    run = record([row(1), row(2, test_accuracy=0.875, peak_memory_bytes=3_000_000), last])
    assert measured(run, metric) == value


def test_epochs_to_an_accuracy_is_the_first_epoch_that_reaches_it() -> None:
    run = curve("train_accuracy", [0.3, 0.5, 0.4, 0.6])
    assert measured(run, "epochs_to_train_accuracy", 0.4) == 2
    assert measured(run, "epochs_to_train_accuracy", 0.5) == 2
    assert measured(run, "epochs_to_train_accuracy", 0.6) == 4
    tested = curve("test_accuracy", [0.1, 0.2, 0.3])
    assert measured(tested, "epochs_to_test_accuracy", 0.3) == 3


def test_an_accuracy_that_is_not_reached_takes_infinitely_many_epochs() -> None:
    run = curve("train_accuracy", [0.3, 0.5])
    assert measured(run, "epochs_to_train_accuracy", 0.51) == math.inf


def test_oscillation_is_the_standard_deviation_of_late_changes() -> None:
    # the second half is 1, 3, 2, 4 with the changes 2, -1, 2: mean 1, deviation sqrt(3)
    run = curve("train_loss", [90.0, 50.0, 20.0, 10.0, 1.0, 3.0, 2.0, 4.0])
    assert measured(run, "train_loss_oscillation") == pytest.approx(math.sqrt(3))


def test_a_linear_trend_has_no_oscillation() -> None:
    run = curve("test_accuracy", [0.125 * epoch for epoch in range(1, 9)])
    assert measured(run, "test_accuracy_oscillation") == 0.0


@pytest.mark.parametrize(("epochs", "has_one"), [(1, False), (6, False), (7, True), (8, True)])
def test_too_few_epochs_have_no_oscillation(epochs: int, has_one: bool) -> None:
    # three changes need four epochs in the second half
    run = curve("train_loss", [1.0] * epochs)
    assert (measured(run, "train_loss_oscillation") is not None) is has_one


@pytest.mark.parametrize(("batch_size", "steps"), [(160, 1), (64, 3), (40, 4), (1, 160)])
def test_an_incomplete_last_batch_is_a_step(batch_size: int, steps: int) -> None:
    rows = [row(1, images_per_second=1000.0, train_seconds=0.16)]  # 160 images
    run = record(rows, data=Cifar10(batch_size=batch_size))
    assert measured(run, "steps_per_epoch") == steps


def test_steps_are_counted_exactly_from_a_rounded_rate() -> None:
    seconds = 7.3
    rows = [row(1, images_per_second=50_000 / seconds, train_seconds=seconds)]
    assert measured(record(rows), "steps_per_epoch") == 782  # 50,000 / 64 = 781.25


def test_the_speed_is_the_median_over_epochs() -> None:
    run = curve("images_per_second", [10.0, 1000.0, 1002.0, 998.0, 1001.0])
    assert measured(run, "images_per_second") == 1000.0


@pytest.mark.parametrize("status", ["failed", "pending", "running", "interrupted"])
@pytest.mark.parametrize("metric", RUN_METRICS)
def test_a_run_that_has_not_ended_has_no_value(metric: str, status: str) -> None:
    assert read(record([row(epoch) for epoch in range(1, 9)], status), metric) is None


@pytest.mark.parametrize("metric", RUN_METRICS)
def test_a_run_without_rows_has_no_value(metric: str) -> None:
    assert read(record([]), metric) is None


@pytest.mark.parametrize("metric", CURVE_METRICS)
def test_a_diverged_run_is_infinitely_bad(metric: str) -> None:
    rows = [row(epoch, train_accuracy=0.9, test_accuracy=0.9) for epoch in range(1, 9)]
    rows.append(row(9, train_loss=None, train_accuracy=0.1, test_loss=None, test_accuracy=None))
    worst = -math.inf if MEASURES[metric].better == "higher" else math.inf
    assert read(record(rows, "diverged"), metric) == worst


@pytest.mark.parametrize(
    ("metric", "value"),
    [("steps_per_epoch", 2), ("images_per_second", 200.0), ("peak_memory_bytes", 1_000_000)],
)
def test_speed_and_memory_of_a_diverged_run_have_a_value(metric: str, value: float) -> None:
    rows = [row(1, train_loss=None, test_loss=None, test_accuracy=None)]
    assert measured(record(rows, "diverged"), metric) == value  # 100 images in batches of 64


def test_the_time_of_a_diverged_run_has_no_value() -> None:
    # it ended early
    assert measured(record([row(1, train_loss=None)], "diverged"), "seconds") is None


def test_a_missing_value_in_the_last_epoch_is_no_value() -> None:
    gap = row(2, test_loss=None, test_accuracy=None)
    run = record([row(1), gap])
    assert measured(run, "final_test_loss") is None
    assert measured(run, "final_test_accuracy") is None
    assert measured(run, "best_test_accuracy") == 0.375
    assert measured(run, "epochs_to_test_accuracy", 0.4) == math.inf
    assert measured(record([gap]), "best_test_accuracy") is None


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("final_train_loss", 0.01234, "0.0123 nats"),
        ("final_train_loss", -0.5, "-0.500 nats"),
        ("final_train_loss", 1234.5, "1,234 nats"),
        ("final_train_loss", math.inf, "diverged"),
        ("final_test_accuracy", 0.91234, "91.2 %"),
        ("final_test_accuracy", -0.005, "-0.5 %"),
        ("final_test_accuracy", -math.inf, "diverged"),
        ("epochs_to_test_accuracy", 12.0, "12 epochs"),
        ("epochs_to_test_accuracy", 12.5, "12.5 epochs"),
        ("epochs_to_test_accuracy", math.inf, "never"),
        ("steps_per_epoch", 782.0, "782 steps"),
        ("steps_per_epoch", 50_000.0, "50,000 steps"),  # batches of one image
        ("steps_per_epoch", 49_218.0, "49,218 steps"),
        ("final_train_loss", 1e300, "1e+300 nats"),
        ("images_per_second", 23_456.7, "23,457 images/s"),
        ("seconds", 7.25, "7.25 s"),
        ("seconds", 3600.0, "3,600 s"),
        ("peak_memory_bytes", 1_234_567_890.0, "1,235 MB"),
    ],
)
def test_a_value_is_shown_with_its_unit(metric: str, value: float, text: str) -> None:
    assert MEASURES[metric].text(value) == text


HELD_OUT = Cifar10(val_fraction=0.1)


def test_the_metric_of_a_claim_is_of_the_evaluated_split() -> None:
    held_out, tested = record([], data=HELD_OUT), record([])
    assert on_evaluated_split("best_test_accuracy", [held_out]) == "best_val_accuracy"
    assert on_evaluated_split("final_train_loss", [held_out]) == "final_train_loss"
    assert on_evaluated_split("best_test_accuracy", [held_out, tested]) == "best_test_accuracy"
    both = ["final_test_accuracy", "final_val_accuracy"]
    assert main_metrics([held_out, tested]) == both
    assert MEASURES[both[1]].label == "final validation accuracy"


def test_rows_of_older_versions_with_validation_named_test_are_read() -> None:
    old = with_defaults({"epoch": 1, "test_accuracy": 0.5}, "validation")
    assert old == {
        "epoch": 1,
        "train_loss": None,
        "train_accuracy": None,
        "val_loss": None,
        "val_accuracy": 0.5,
    }
    both = {"epoch": 1, "val_accuracy": 0.5, "test_accuracy": 0.4}
    assert with_current_names(both, "validation") == both


def test_a_metric_that_was_not_measured_has_no_value() -> None:
    run = record([row(1), row(2)])
    for metric in ("final_grad_norm", "best_test_top5_accuracy"):
        assert measured(run, metric) is None
    assert measured(run, "epochs_to_test_top5_accuracy", 0.5) is None
    assert optional_metrics([run]) == []
    assert optional_metrics([record([row(1, grad_norm=2.0)])]) == ["final_grad_norm"]
