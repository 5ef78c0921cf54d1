"""The table of a sweep and results.csv."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_exp.config.identity import varied
from cifar_exp.config.schema import RunConfig
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.reports import table
from cifar_exp.reports.table import (
    TableColumn,
    as_text,
    ranked,
    report_rows,
    run_page,
    write_csv,
)
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record


def record(accuracy: float | None, status: str = "complete", **settings) -> Record:
    config = RunConfig(**settings)
    rows = [{"epoch": 1, "train_loss": 1.0, "test_accuracy": accuracy, "train_seconds": 10.0}]
    return Record(config, RunFolder(Path("runs") / "x"), status, {}, rows)


def rates(groups) -> list[float]:
    return [group.records[0].config.optimizer.lr for group in groups]


def test_configurations_are_ranked_by_their_mean_over_seeds() -> None:
    records = [
        record(accuracy, seed=seed, optimizer=Adam(lr=lr))
        # 0.1 has the best seed but the lower mean
        for lr, accuracies in {0.1: (0.9, 0.3), 0.01: (0.7, 0.8)}.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    groups = ranked(records)
    assert rates(groups) == [0.01, 0.1]
    assert groups[0].accuracy.mean == pytest.approx(0.75)
    assert groups[0].accuracy.n == 2


def test_diverged_and_failed_configurations_are_never_ranked_best() -> None:
    records = [
        record(None, "diverged", optimizer=Adam(lr=1.0)),
        record(0.99, seed=0, optimizer=Adam(lr=0.1)),
        record(None, "diverged", seed=1, optimizer=Adam(lr=0.1)),
        record(None, "failed", optimizer=Adam(lr=0.5)),
        record(0.10, optimizer=Adam(lr=0.01)),
    ]
    groups = ranked(records)
    assert rates(groups)[:2] == [0.01, 0.1]
    assert groups[1].statuses == "1 complete, 1 diverged"
    assert groups[2].accuracy is None


def test_seeds_trained_on_different_data_are_reported() -> None:
    records = [record(0.5, seed=seed) for seed in (0, 1)]
    for one in records:
        one.state["data_sha256"] = "same"
    assert ranked(records)[0].statuses == "complete"
    records[1].state["data_sha256"] = "other"
    assert ranked(records)[0].statuses == "complete, on different data"


def test_the_table_shows_the_varied_settings_and_the_interval() -> None:
    records = [
        record(accuracy, seed=seed, optimizer=Adam(lr=lr))
        for lr, accuracies in {0.1: (0.5,), 0.01: (0.7, 0.8, 0.9)}.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    lines = as_text(ranked(records)).splitlines()
    assert lines[0].split() == [
        "lr",
        "test",
        "accuracy",
        "95",
        "%",
        "interval",
        "n",
        "status",
        "seconds",
    ]
    # 4.303 * 0.1 / sqrt(3) = 0.2484
    assert lines[2].split() == [
        "1",
        "0.01",
        "0.8000",
        "0.5515",
        "to",
        "1.0000",
        "3",
        "complete",
        "10",
    ]
    assert lines[3].split() == ["2", "0.1", "0.5000", "1", "complete", "10"]


def test_settings_that_only_one_of_two_optimizers_has_do_not_vary() -> None:
    kinds = [RunConfig(), RunConfig(optimizer=Sgd(lr=0.001))]
    assert varied(kinds) == ["optimizer"]
    momenta = [*kinds, RunConfig(optimizer=Sgd(lr=0.001, momentum=0.5))]
    assert varied(momenta) == ["optimizer", "optimizer.momentum"]
    assert varied([RunConfig(seed=0), RunConfig(seed=1)]) == []


def test_the_balanced_accuracy_is_shown_for_unequal_classes() -> None:
    records = [record(0.54, seed=seed) for seed in (0, 1)]
    assert "balanced" not in as_text(ranked(records))
    for one, balanced in zip(records, (0.5, 0.6), strict=True):
        one.state.update(balanced_accuracy=balanced, largest_class_share=0.55)
    header, _, line = as_text(ranked(records)).splitlines()
    assert "n    balanced accuracy    largest class    status" in header
    assert "2    0.5500               0.5500" in line
    other = record(0.5, optimizer=Adam(lr=0.5))  # of a version that did not store it
    assert "0.5500               0.5500" in as_text(ranked([*records, other]))


def test_results_csv_has_one_row_per_run(tmp_path: Path) -> None:
    records = [record(0.7, seed=seed, model=Model(dropout=0.5)) for seed in (0, 1)]
    records.append(record(None, "diverged", model=Model(dropout=0.2)))
    write_csv(tmp_path / "results.csv", ranked(records))
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model.dropout"] for row in rows] == ["0.5", "0.5", "0.2"]
    assert [row["seed"] for row in rows] == ["0", "1", "0"]
    assert [row["mean_test_accuracy"] for row in rows] == ["0.7", "0.7", ""]
    assert [row["n"] for row in rows] == ["2", "2", "0"]
    assert rows[2]["status"] == "diverged"


def test_the_table_does_not_import_pytorch() -> None:
    code = "import sys, cifar_exp.reports.table; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) is False


def test_an_entry_of_table_columns_is_a_column_of_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = TableColumn(
        "batch", "batch", lambda _, r: r.config.data.batch_size, lambda g: "b64", lambda r: "B64"
    )
    monkeypatch.setattr(table, "TABLE_COLUMNS", (*table.TABLE_COLUMNS, column))
    records = [record(0.5, optimizer=Adam(lr=lr)) for lr in (0.1, 0.2)]
    groups = ranked(records)
    for kind in ("text", "markdown", "latex"):
        assert "batch" in as_text(groups, kind)
        assert as_text(groups, kind).count("b64") == 2
    assert [row["batch"] for row in report_rows(records, ["optimizer.lr"])] == ["B64", "B64"]
    write_csv(tmp_path / "results.csv", groups)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["batch"] for row in csv.DictReader(file)] == ["64", "64"]


def test_the_columns_of_results_csv_do_not_change(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", ranked([record(0.5, seed=seed) for seed in (0, 1)]))
    assert set((tmp_path / "results.csv").read_text().splitlines()[0].split(",")) == {
        *("rank", "seed", "status", "epoch", "train_loss", "train_accuracy", "test_loss"),
        *("test_accuracy", "best_test_accuracy", "seconds", "peak_memory_bytes", "reason"),
        *("balanced_accuracy", "largest_class_share", "mean_test_accuracy"),
        *("epoch_kept", "epoch_stopped"),
        *("interval_half_width", "n", "folder"),
    }


def test_a_run_links_to_its_curves_or_without_them_to_its_folder(tmp_path: Path) -> None:
    assert run_page(tmp_path) == f"../runs/{tmp_path.name}/"
    (tmp_path / "curves.png").touch()
    assert run_page(tmp_path) == f"../runs/{tmp_path.name}/curves.png"
