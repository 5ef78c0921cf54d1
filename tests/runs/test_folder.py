"""The folder of a run: its files and its lock."""

import os
from pathlib import Path

import pytest

from cifar_exp.optimizers import Adam
from cifar_exp.runs.folder import GoneError
from tests.made import make_run


def test_user_files_are_kept_when_a_run_is_trained_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "notes.txt").write_text("mine")
    for _ in range(2):
        folder.set_aside()
        make_run(tmp_path)
    assert (folder.path / "notes.txt").read_text() == "mine"
    assert (folder.path / ".replaced" / "metrics.jsonl").exists()


def test_reading_the_status_writes_no_file(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.write_state(folder.read_state() | {"status": "running"})
    before = sorted(path.name for path in folder.path.iterdir())
    assert folder.status == "interrupted"
    assert sorted(path.name for path in folder.path.iterdir()) == before


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_detects_that_its_folder_was_moved_or_replaced(
    tmp_path: Path, replaced: bool
) -> None:
    folder = make_run(tmp_path)
    with folder.lock() as check:
        check()
        folder.path.rename(tmp_path / "moved")
        if replaced:
            make_run(tmp_path)
            with folder.lock() as other:  # another process
                other()
        with pytest.raises(GoneError, match="was deleted or replaced during training"):
            check()


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.jsonl"])
def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path, optimizer=Adam(lr=0.1))
    (folder.path / name).unlink()
    os.mkfifo(folder.path / name)
    assert folder.status != "complete"
