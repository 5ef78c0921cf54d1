"""Results in Python: runs and their data frames."""

import shutil
from pathlib import Path

import pytest

import cifar_exp
from cifar_exp.errors import UserError
from tests.conftest import ROOT
from tests.made import damage, make_run

PUBLISHED = ROOT / "multirun_results" / "published"


@pytest.fixture(scope="module")
def runs() -> "cifar_exp.Runs":
    return cifar_exp.load_runs("article", results=PUBLISHED)


def test_a_study_is_a_row_per_run_with_dotted_settings(runs: "cifar_exp.Runs") -> None:
    frame = runs.to_frame()
    assert len(frame) == len(runs) == 116  # the article's six studies, shared runs once
    assert set(frame["status"]) == {"complete"}
    assert set(frame["seed"]) == {*range(10)}
    assert frame["optimizer.lr"].dtype == "float64"
    assert frame["training.epochs"].dtype == "int64"
    best = frame.loc[frame["final_test_accuracy"].idxmax()]
    assert 0.5 < best["final_test_accuracy"] <= best["best_test_accuracy"] < 0.7
    assert set(frame["training.keep"]) == {"last"}  # not part of the id
    assert "data.limit_train" in frame  # a setting that the baseline leaves unset


def test_the_numbers_are_those_of_the_files(runs: "cifar_exp.Runs") -> None:
    run = runs[0]
    history = run.history()
    assert list(history["epoch"]) == list(range(1, len(run.metrics) + 1))
    assert history["test_accuracy"].iloc[-1] == run.summary["final_test_accuracy"]
    together = runs.history()
    assert len(together) == sum(len(run.metrics) for run in runs)
    assert set(together["run_id"]) == {run.id for run in runs}


def test_a_folder_of_results_contains_the_runs_of_all_studies(runs: "cifar_exp.Runs") -> None:
    every = cifar_exp.load_runs(PUBLISHED)
    ids = {run.id for run in every}
    assert {run.id for run in runs} < ids
    assert len(ids) == len(every) == len(list((PUBLISHED / "runs").iterdir()))


def test_runs_of_the_first_version_are_read(tmp_path: Path) -> None:
    # without the settings that were added later, and with values in run.json that repeat others
    shutil.copytree(Path(__file__).parent / "first_version", tmp_path / "runs")
    runs = cifar_exp.load_runs(tmp_path)
    assert [(run.status, run.summary["final_test_accuracy"]) for run in runs] == [
        ("complete", 0.4895),
        ("complete", 0.191),
    ]
    assert all(run.settings["training.keep"] == "last" for run in runs)


def test_a_slice_of_runs_is_runs(runs: "cifar_exp.Runs") -> None:
    assert len(runs[:3].to_frame()) == 3


def test_a_damaged_run_has_its_status_and_an_unreadable_one_a_line(tmp_path: Path) -> None:
    whole, damaged, unreadable = (make_run(tmp_path, seed=seed) for seed in range(3))
    damage(damaged, "a number in metrics.jsonl")
    unreadable.config_file.write_text("data: [")
    loaded = cifar_exp.load_runs(tmp_path)
    assert {run.path: run.status for run in loaded} == {
        whole.path: "complete",
        damaged.path: "damaged",
    }
    assert not next(run for run in loaded if run.path == damaged.path).metrics
    (line,) = loaded.left_out
    assert unreadable.path.name in line
    with damaged.metrics_file.open("a") as file:
        file.write("{}\n")
    assert len(cifar_exp.load_runs(tmp_path)) == 2


def test_all_runs_of_other_results_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "mine")
    make_run(tmp_path / "multirun_results", seed=1)
    monkeypatch.chdir(tmp_path)
    assert [run.settings["seed"] for run in cifar_exp.load_runs(results="mine")] == [0]
    assert [run.settings["seed"] for run in cifar_exp.load_runs()] == [1]
    empty = cifar_exp.load_runs()[:0]
    assert {"run_id", "epoch", "test_accuracy"} <= set(empty.history().columns)


def test_what_is_not_found_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing-here"):
        cifar_exp.load_runs("nothing-here", results=PUBLISHED)
