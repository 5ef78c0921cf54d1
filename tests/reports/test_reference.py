"""Comparison of runs with published values.

Three accuracies 0.5 - d, 0.5, 0.5 + d have the standard deviation d. The half-width of their
prediction interval is 4.303 * d * sqrt(4 / 3) = 4.968 * d.
"""

from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.optimizers import Adam
from cifar_exp.reports.reference import Published, verdict_of
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record

THREE = (0.49, 0.5, 0.51)  # half-width 0.0497


def run(seed: int, *accuracies: float | None, status: str = "complete") -> Record:
    rows = [{"epoch": e, "test_accuracy": value} for e, value in enumerate(accuracies, 1)]
    config = RunConfig(seed=seed, optimizer=Adam(lr=0.1))
    return Record(config, RunFolder(Path("runs") / "x"), status, {"status": status}, rows)


def seeds(*values: float) -> list[Record]:
    return [run(seed, value) for seed, value in enumerate(values)]


def published(csv: str, levels: dict[Any, list[Record]], **settings: Any) -> Published:
    found = compared(csv, levels, **settings)
    assert found is not None
    return found


def compared(csv: str, levels: dict[Any, list[Record]], **settings: Any) -> Published | None:
    reference = {"label": "article", "source": "a paper", "file": "a.csv", "text": csv}
    content = {"name": "mine", "title": "T", "question": "Q?", "vary": {"optimizer.lr": (0.1, 1.0)}}
    study = Study.model_validate(content | {"reference": reference | {"settings": settings}})
    return Published.of(study, levels)


@pytest.mark.parametrize(
    ("value", "ours", "verdict"),
    [
        (0.549, THREE, "reproduced within the spread of seeds"),
        (0.551, THREE, "not reproduced"),
        (0.449, THREE, "not reproduced"),
        (0.5, (0.5, 0.5), "reproduced within the spread of seeds"),
        (0.501, (0.5, 0.5), "not reproduced"),
        (0.5, (0.5,), "not enough seeds"),
    ],
)
def test_a_value_within_the_prediction_interval_is_reproduced(
    value: float, ours: tuple[float, ...], verdict: str
) -> None:
    assert verdict_of(value, ours) == verdict


def test_the_table_has_both_values_at_the_last_common_epoch_and_counts_the_epochs_within() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,3,0.4\n0.1,2,0.6\n0.1,1,0.5\n"
    (row,) = published(csv, {0.1: [run(0, 0.49, 0.5), run(1, 0.5, 0.5), run(2, 0.51, 0.5)]}).table
    assert row == {
        "lr": "0.1",
        "metric": "test accuracy",
        "epoch": "2",
        "article": "60.0 %",
        "ours": "50.0 % ± 0.0 % (n = 3)",
        "difference": "-10.0 points",
        "verdict": "not reproduced",
        "epochs within": "1 of 2",
    }


def test_the_best_value_so_far_is_a_running_maximum() -> None:
    csv = "lr,epoch,best_test_accuracy_so_far\n0.1,2,0.6\n"
    (row,) = published(csv, {0.1: [run(0, 0.6, 0.3), run(1, 0.4, 0.6)]}).table
    assert (row["metric"], row["ours"]) == (
        "best test accuracy so far",
        "60.0 % ± 0.0 % (n = 2)",
    )


def test_levels_and_epochs_without_runs_have_no_values() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,5,0.5\n1.0,1,0.5\n"
    later, missing = published(csv, {0.1: seeds(*THREE), 0.2: seeds(*THREE)}).table
    assert (later["lr"], later["epoch"], later["article"]) == ("0.1", "5", "50.0 %")
    assert (later["ours"], later["verdict"]) == ("", "no common epoch")
    assert (missing["lr"], missing["ours"], missing["verdict"]) == ("1.0", "", "not trained")
    # with data.val_fraction, runs have no test accuracy
    unmeasured, _ = published(csv, {0.1: [run(0, None)]}).table
    assert unmeasured["verdict"] == "not measured"


def test_without_a_published_epoch_a_sentence_replaces_the_table() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,50,0.5\n0.2,50,0.5\n"
    compared = published(csv, {0.1: seeds(*THREE), 0.2: seeds(*THREE)})
    assert compared.table == []
    assert compared.note.startswith("No run has the published epochs (50). Source of the values")


def test_runs_that_are_not_complete_are_compared_up_to_their_last_epoch() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,1,0.5\n0.1,2,0.7\n0.1,3,0.8\n"
    interrupted = [run(seed, 0.5, 0.6, status="interrupted") for seed in range(2)]
    (row,) = published(csv, {0.1: interrupted}).table
    assert (row["epoch"], row["ours"], row["epochs within"]) == (
        "2",
        "60.0 % ± 0.0 % (n = 2)",
        "1 of 2",
    )


def test_diverged_runs_are_counted_and_their_missing_values_are_not() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,1,0.5\n"
    (row,) = published(csv, {0.1: [*seeds(*THREE), run(3, None, status="diverged")]}).table
    assert row["ours"] == "50.0 % ± 5.0 % (n = 3, 1 diverged)"


def test_the_note_has_the_source_and_the_settings_that_differ() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,1,0.5\n"
    found = published(csv, {0.1: seeds(*THREE)}, batch_size=256, epochs=100)
    assert found.note == (
        "Source of the values of article: a paper. Settings that differ: batch_size is 64, "
        "published 256."
    )


def test_runs_on_other_data_are_not_compared_and_the_report_says_so() -> None:
    csv = "lr,epoch,test_accuracy\n0.1,1,0.5\n"
    same, other = (
        compared(csv, {0.1: seeds(*THREE)}, data=name) for name in ("cifar10", "cifar100")
    )
    assert same is not None
    assert same.table
    assert other is not None
    assert (other.rows, other.table) == ({}, [])
    note = "Not compared with the values of article: data is cifar10, published cifar100."
    assert other.note == note


@pytest.mark.parametrize(("cell", "level"), [(".001", 0.001), ("1e-3", 0.001), ("+1", 1.0)])
def test_a_level_may_be_any_spelling_of_a_number(cell: str, level: float) -> None:
    compared = published(f"lr,epoch,test_accuracy\n{cell},1,0.5\n", {level: seeds(*THREE)})
    assert list(compared.rows) == [level]
