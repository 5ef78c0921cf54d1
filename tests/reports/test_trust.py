"""Missing, unreadable and changed runs in tables and reports; links in the folder of a sweep."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.errors import UserError
from cifar_exp.optimizers import Adam
from cifar_exp.reports.compare import compare
from cifar_exp.reports.content import read_report
from cifar_exp.reports.list_runs import list_runs, list_sweeps
from cifar_exp.reports.records import read_list, read_sweep
from cifar_exp.reports.render import check_report, write_report
from cifar_exp.reports.table import as_text, ranked, write_csv
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import remarks
from tests.made import damage, make_run, make_sweep


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    return [make_run(tmp_path, optimizer=Adam(lr=lr)) for lr in (0.001, 0.01, 0.1)]


@pytest.fixture
def sweep(tmp_path: Path, runs: list[RunFolder]) -> Path:
    return make_sweep(tmp_path, runs)


def test_a_changed_run_is_shown_as_damaged_without_results(
    sweep: Path, runs: list[RunFolder]
) -> None:
    damage(runs[0], "a number in metrics.jsonl")
    by_id, left_out = read_sweep(sweep)
    records = list(by_id.values())
    assert left_out == []
    (remark,) = remarks(records)
    assert str(runs[0].path) in remark
    assert "metrics.jsonl does not match its sha256 in run.json" in remark
    groups = ranked(records)
    *_, last = as_text(groups).splitlines()
    assert last.split() == ["3", "0.001", "0", "damaged"]
    write_csv(sweep / "results.csv", groups)
    with (sweep / "results.csv").open(newline="") as file:
        (line,) = [row for row in csv.DictReader(file) if row["status"] == "damaged"]
    assert line["test_accuracy"] == line["best_test_accuracy"] == ""
    assert line["reason"].startswith("metrics.jsonl does not match")
    report = read_report(sweep)
    assert (
        f"Without results: {runs[0].path.name} (damaged: metrics.jsonl does" in report.cautions[-1]
    )
    assert [len(record.rows) for record in records] == [0, 2, 2]  # not drawn in curves
    (row,) = [row for row in report.runs if row["status"] == "damaged"]
    assert [text for name, text in row.items() if "accuracy" in name] == [""]


def test_an_unreadable_run_of_a_sweep_does_not_hide_the_others(
    sweep: Path, runs: list[RunFolder]
) -> None:
    damage(runs[0], "another run's settings")
    shutil.rmtree(runs[1].path)
    records, left_out = read_sweep(sweep)
    assert [record.config.optimizer.lr for record in records.values()] == [0.1]
    changed, missing = left_out
    assert f"{runs[0].path}: config.yaml does not match its sha256" in changed
    assert missing.endswith(f"1 run is missing: {runs[1].path.name}")
    report = read_report(sweep)
    assert report.problems == left_out
    assert len(report.cautions) >= 2
    for folder in (runs[0], runs[2]):
        shutil.rmtree(folder.path)
    with pytest.raises(UserError, match="3 runs are missing"):
        read_sweep(sweep)


def test_a_run_folder_that_may_not_be_searched_does_not_hide_the_others(
    sweep: Path, runs: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def denied(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{runs[0].path}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", denied)
    records, (problem,) = read_sweep(sweep)
    assert len(records) == 2
    assert str(runs[0].config_file) in problem


def test_ls_shows_no_accuracy_of_a_changed_run(
    tmp_path: Path, sweep: Path, runs: list[RunFolder]
) -> None:
    for folder in runs[:2]:
        damage(folder, "a number in metrics.jsonl")
    listed, problems = list_runs(tmp_path)
    assert sorted(str(run.accuracy) for run in listed) == ["0.5", "None", "None"]
    assert len(problems) == 2
    ((one,), _) = list_sweeps(tmp_path, listed)
    assert one.statuses == "1 complete, 2 damaged"


def test_compare_shows_the_runs_that_can_be_read(runs: list[RunFolder]) -> None:
    damage(runs[0], "settings cut off")
    damage(runs[1], "a number in metrics.jsonl")
    table, (unreadable, changed) = compare(runs)
    assert "damaged" in table
    assert "config.yaml" in unreadable
    assert "metrics.jsonl does not match its sha256" in changed
    with pytest.raises(UserError, match=r"config\.yaml"):
        compare(runs[:2])


def test_runs_without_sha256_sums_are_reported_in_one_line(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, sums=False, seed=seed) for seed in (0, 1)]
    records = list(read_sweep(make_sweep(tmp_path, runs))[0].values())
    assert remarks(records) == [
        "2 runs have no sha256 sums in run.json, so the files are not checked"
    ]
    assert [record.status for record in records] == ["complete", "complete"]


def test_the_sweep_json_of_another_sweep_is_refused(tmp_path: Path, sweep: Path) -> None:
    other = make_sweep(tmp_path, [make_run(tmp_path, seed=9)])
    shutil.copy(other / "sweep.json", sweep)
    with pytest.raises(UserError, match=r"sweep\.json: expected the runs of sweep \w+, got others"):
        read_list(sweep)
    assert read_list(other)["runs"]
    assert read_list(sweep.rename(tmp_path / "renamed"))["runs"]  # without an id in the name


@pytest.mark.parametrize("kind", ["pipe", "gigabytes"])
def test_a_sweep_json_that_may_never_end_is_refused(sweep: Path, kind: str) -> None:
    file = sweep / "sweep.json"
    if kind == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        os.truncate(file, 2**33)
    with pytest.raises(UserError, match=r"with a readable sweep\.json"):
        read_list(sweep)


def test_links_in_the_folder_of_a_sweep_are_not_followed(tmp_path: Path, sweep: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    names = [".report.md.1.tmp", "old.svg", "old.png", "notes.txt", "results.csv"]
    for name in names:
        (mine / name).write_text("mine")
    (sweep / "photos").symlink_to(mine)
    (sweep / "loop").symlink_to(sweep)
    (sweep / "results.csv").symlink_to(mine / "results.csv")
    records, _ = read_sweep(sweep)
    write_csv(sweep / "results.csv", ranked(list(records.values())))
    (sweep / "figures").symlink_to(mine)
    (sweep / "report.md").write_text("![old](figures/old.png)")
    with pytest.raises(UserError, match="figures: expected a folder, got a symbolic link"):
        write_report(sweep)
    assert check_report(sweep)
    assert sorted(path.name for path in mine.iterdir()) == sorted(names)
    assert {(mine / name).read_text() for name in names} == {"mine"}
    (sweep / "figures").unlink()
    page = write_report(sweep)
    assert sorted(path.name for path in mine.iterdir()) == sorted(names)
    before = page.stat().st_ino
    write_report(sweep)
    assert page.stat().st_ino == before  # unchanged files are not written again


@pytest.mark.parametrize("dangling", [False, True])
def test_ls_names_a_run_without_settings(
    tmp_path: Path, runs: list[RunFolder], dangling: bool
) -> None:
    runs[0].config_file.unlink()
    if dangling:
        runs[0].config_file.symlink_to(tmp_path / "nowhere")
    listed, (problem,) = list_runs(tmp_path)
    assert len(listed) == 2
    assert str(runs[0].config_file) in problem


def test_a_sweep_json_of_an_older_version_with_statuses_is_read(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [make_run(tmp_path)])
    content = json.loads((sweep / "sweep.json").read_text())
    content["runs"][0]["status"] = "running"
    (sweep / "sweep.json").write_text(json.dumps(content))
    assert len(read_sweep(sweep)[0]) == 1
