"""Runs and sweeps are found by folder, name or id; errors name similar ones."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import Paths, RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.find import find_run, find_sweep, run_folders
from cifar_exp.runs.folder import RunFolder

NAMES = ("lr=0.1-59868be4de", "lr=0.1,seed=1-0b54f00eab", "lr=0.01-77deadbeef")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("{}\n")
    (tmp_path / "runs" / "lr=0.01-empty").mkdir()  # not a run
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("59868be4de", 0),  # the id
        ("0b54", 1),  # the start of the id
        ("lr=0.1,seed=1-0b54f00eab", 1),  # the whole name
        ("lr=0.1,s", 1),  # the start of the name
        ("lr=0.1", 0),  # a name, and the start of another
        ("lr=0.01-77", 2),
    ],
)
def test_a_run_is_found(results: Path, given: str, found: int) -> None:
    assert find_run(given, results).path == results / "runs" / NAMES[found]


@pytest.mark.parametrize("inside", ["runs", f"runs/{NAMES[0]}"])
def test_a_folder_within_the_results_is_refused_with_theirs(results: Path, inside: str) -> None:
    for find in (run_folders, partial(find_run, "x"), partial(find_sweep, "x")):
        with pytest.raises(UserError) as error:
            find(results / inside)
        assert str(error.value).startswith(f"{results / inside}: expected the folder of all resul")
        assert str(error.value).endswith(f"Use {results}.")


def test_a_folder_outside_the_results_is_found_by_its_path(results: Path) -> None:
    elsewhere = results / "elsewhere"
    (results / "runs" / NAMES[0]).rename(elsewhere)
    assert find_run(str(elsewhere), results).path == elsewhere


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lr=0.", "lr=0.: expected one run, found 3: lr=0.01-77deadbeef, lr=0.1,seed=1-"),
        ("lr=0.02", "lr=0.02: run not found in .*Did you mean lr=0.01-77deadbeef"),
        ("", "expected the name, id or folder of a run, got an empty text"),
        (".", "expected the folder of a run"),
        ("a\0b", "run not found"),
        ("x" * 200, "run not found"),
    ],
)
def test_an_unknown_run_is_reported(results: Path, given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_run(given, results)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: folder not found"):
        find_run("lr=0.1", tmp_path / "nowhere")


def copy_of(results: Path, name: str, new_name: str) -> Path:
    run = results / "runs" / name
    state = {"status": "running", "name": name[:-11], "run_id": name[-10:]}
    (run / "run.json").write_text(json.dumps(state))
    return shutil.copytree(run, results / "runs" / new_name)


@pytest.mark.parametrize("new_name", ["backup-59868be4de", "lr=0.1-59868be4de.bak", "a copy"])
def test_the_original_is_found_among_copies_of_a_run(results: Path, new_name: str) -> None:
    copy = copy_of(results, NAMES[0], new_name)
    found = RunFolder.by_id(results / "runs")[NAMES[0][-10:]]
    assert found == find_run("59868", results) == RunFolder(results / "runs" / NAMES[0])
    assert sorted(NAMES) == [run.path.name for run in run_folders(results)]
    assert find_run(str(copy), results).path == copy  # a copy is found by its path
    assert find_run(new_name, results).path == copy  # or by its whole name


@pytest.mark.parametrize("new_name", ["backup-59868be4de", "my best run"])
def test_a_renamed_run_is_found_by_its_id(results: Path, new_name: str) -> None:
    renamed = copy_of(results, NAMES[0], new_name)
    shutil.rmtree(results / "runs" / NAMES[0])
    assert RunFolder.by_id(results / "runs")[NAMES[0][-10:]] == RunFolder(renamed)
    assert find_run("59868be4de", results).path == renamed
    assert find_run(new_name, results).path == renamed


SWEEPS = {
    "lr-38afae4dc0": "sweep.json",
    "lr,seed-a65bba6c96": "sweep.json",
    "search-x-11": "search.json",
}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("38afae4dc0", "lr-38afae4dc0"),  # the id
        ("a65", "lr,seed-a65bba6c96"),  # the start of the id
        ("lr", "lr-38afae4dc0"),  # a name, and the start of another
        ("lr,", "lr,seed-a65bba6c96"),
        ("search", "search-x-11"),
    ],
)
def test_sweeps_and_searches_are_found_like_runs(results: Path, given: str, found: str) -> None:
    for name, file in SWEEPS.items():
        (results / name).mkdir()
        (results / name / file).write_text("{}")
    assert find_sweep(given, results) == results / found
    assert find_sweep(str(results / found), Path("nowhere")) == results / found


def test_a_folder_has_its_own_name_also_as_a_dot_and_through_a_link(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "lr-38afae4dc0").mkdir()
    (results / "lr-38afae4dc0" / "sweep.json").write_text("{}")
    (results / "paper").symlink_to("lr-38afae4dc0")
    assert find_sweep(str(results / "paper")) == results / "lr-38afae4dc0"
    monkeypatch.chdir(results / "lr-38afae4dc0")
    assert find_sweep(".") == results / "lr-38afae4dc0"
    monkeypatch.chdir(results / "runs" / NAMES[0])
    assert find_run(".") == RunFolder(results / "runs" / NAMES[0])


def test_long_names_and_other_folders_are_not_found(results: Path) -> None:
    for find in (find_run, find_sweep):
        with pytest.raises(UserError, match="not found"):
            find("x" * 300, results)
    with pytest.raises(UserError, match=r"runs: expected the folder of a sweep"):
        find_sweep(str(results / "runs"), Path("nowhere"))


def test_a_run_is_not_found_as_a_sweep(results: Path) -> None:
    with pytest.raises(UserError, match=r"59868be4de: folder not found, and .* no sweeps"):
        find_sweep("59868be4de", results)
    with pytest.raises(UserError, match="expected the folder of a sweep"):
        find_sweep(str(results / "runs" / NAMES[0]), results)


def test_the_folder_of_runs_is_listed_once_for_many_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [RunConfig(seed=seed, paths=Paths(results=str(tmp_path))) for seed in range(5)]
    runs = tmp_path / "runs"
    existing, renamed = RunFolder.of_all(configs[:2])
    existing.claim(configs[0])
    renamed.claim(configs[1])
    renamed.path.rename(runs / "mine")
    RunFolder(runs / "mine").write_state({"status": "pending", "run_id": run_id(configs[1])})
    listed: list[object] = []
    monkeypatch.setattr(
        os, "listdir", lambda path, list_=os.listdir: listed.append(0) or list_(path)
    )
    found = RunFolder.of_all(configs)
    assert found[:2] == [existing, RunFolder(runs / "mine")]
    assert len({folder.path for folder in found}) == 5
    assert len(listed) == 1
    assert RunFolder.of(configs[0]) == existing
    assert len(listed) == 1  # not listed for a folder that was not renamed
