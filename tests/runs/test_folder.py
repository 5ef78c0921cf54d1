"""Whether what is in the folder of a run can be trusted."""

import json
import os
from pathlib import Path

import pytest

from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.optimizers import Adam
from cifar_exp.runs.folder import GoneError
from cifar_exp.runs.record import read_record
from tests.made import damage, make_run

WITHOUT_SUMS = (
    "settings edited",
    "settings cut off",
    "another run's settings",
    "another run's folder",
)
WITH_SUMS = (*WITHOUT_SUMS, "a number in metrics.jsonl")


def test_a_run_that_is_as_it_was_left_is_complete(tmp_path: Path) -> None:
    for sums in (True, False):
        folder = make_run(tmp_path / str(sums), sums)
        assert folder.status == "complete"
        assert folder.problem == ""
        assert read_record(folder).problem == ""


@pytest.mark.parametrize("kind", WITH_SUMS)
def test_a_run_that_was_changed_is_damaged_and_not_finished(tmp_path: Path, kind: str) -> None:
    folder = make_run(tmp_path)
    damage(folder, kind)
    assert folder.status == "damaged"
    assert "config.yaml" in folder.problem or "metrics.jsonl" in folder.problem


@pytest.mark.parametrize("kind", WITHOUT_SUMS)
def test_a_run_without_sums_is_held_against_its_id_and_its_metrics(
    tmp_path: Path, kind: str
) -> None:
    folder = make_run(tmp_path, sums=False)
    damage(folder, kind)
    assert folder.status == "damaged"


@pytest.mark.parametrize("kind", [kind for kind in WITH_SUMS if "setting" in kind])
@pytest.mark.parametrize("status", ["complete", "failed"])
def test_settings_that_are_not_the_runs_are_not_shown(
    tmp_path: Path, kind: str, status: str
) -> None:
    folder = make_run(tmp_path)
    folder.write_state(folder.read_state() | {"status": status})
    damage(folder, kind)
    with pytest.raises(UserError, match=r"config\.yaml .*so its settings are unknown"):
        read_record(folder)


@pytest.mark.parametrize("content", [None, "", "[1]", '{"status'])
def test_a_run_json_that_is_gone_or_damaged_is_named(tmp_path: Path, content: str | None) -> None:
    folder = make_run(tmp_path)
    (folder.path / "run.json").unlink()
    if content is not None:
        (folder.path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: expected readable JSON"):
        read_record(folder)


def test_images_may_be_elsewhere_when_a_run_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path, sums=False, data=ImageFolder(root="photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_record(folder).status == "complete"


@pytest.mark.parametrize("sums", [False, True])
def test_settings_of_a_run_on_an_image_folder_are_held_against_its_id(
    tmp_path: Path, sums: bool
) -> None:
    folder = make_run(tmp_path, sums=sums, data=ImageFolder(root=str(tmp_path / "photos")))
    assert folder.status == "complete"
    damage(folder, "settings edited")
    assert folder.status == "damaged"
    folder.write_state({"status": "failed"})
    with pytest.raises(UserError, match="holds the settings of another run"):
        read_record(folder)


def test_files_of_the_user_stay_when_a_run_is_trained_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "notes.txt").write_text("mine")
    for _ in range(2):
        folder.set_aside()
        make_run(tmp_path)
    assert (folder.path / "notes.txt").read_text() == "mine"
    assert (folder.path / ".replaced" / "metrics.jsonl").exists()


def test_to_look_at_a_run_leaves_nothing_in_its_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.write_state(folder.read_state() | {"status": "running"})
    before = sorted(path.name for path in folder.path.iterdir())
    assert folder.status == "interrupted"
    assert sorted(path.name for path in folder.path.iterdir()) == before


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_is_of_the_folder_that_is_there(tmp_path: Path, replaced: bool) -> None:
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


def test_sums_are_of_the_files_that_are_there(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    names = {"config.yaml", "metrics.jsonl", "model.json", "model.safetensors"}
    assert set(json.loads((folder.path / "run.json").read_text())["sha256"]) == names


def test_gigabytes_in_place_of_a_text_are_not_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    os.truncate(folder.config_file, 2**30)  # a sparse file, which takes no room
    assert folder.problem == "config.yaml cannot be read (expected at most 536,870,912 bytes)"
