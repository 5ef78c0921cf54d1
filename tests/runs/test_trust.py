"""Changed, damaged and missing files of a run are detected."""

import json
import os
from pathlib import Path

import pytest

from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.runs.record import read_record
from tests.made import damage, make_run

WITHOUT_SUMS = (
    "settings edited",
    "settings cut off",
    "another run's settings",
    "another run's folder",
)
WITH_SUMS = (*WITHOUT_SUMS, "a number in metrics.jsonl")


def test_an_unchanged_run_is_complete(tmp_path: Path) -> None:
    for sums in (True, False):
        folder = make_run(tmp_path / str(sums), sums)
        assert folder.status == "complete"
        assert folder.problem == ""
        assert read_record(folder).problem == ""


@pytest.mark.parametrize("kind", WITH_SUMS)
def test_a_changed_run_is_damaged(tmp_path: Path, kind: str) -> None:
    folder = make_run(tmp_path)
    damage(folder, kind)
    assert folder.status == "damaged"
    assert "config.yaml" in folder.problem or "metrics.jsonl" in folder.problem


@pytest.mark.parametrize("kind", WITHOUT_SUMS)
def test_a_changed_run_without_sums_is_damaged(tmp_path: Path, kind: str) -> None:
    folder = make_run(tmp_path, sums=False)
    damage(folder, kind)
    assert folder.status == "damaged"


@pytest.mark.parametrize("kind", [kind for kind in WITH_SUMS if "setting" in kind])
@pytest.mark.parametrize("status", ["complete", "failed"])
def test_settings_of_another_run_are_refused(tmp_path: Path, kind: str, status: str) -> None:
    folder = make_run(tmp_path)
    folder.write_state(folder.read_state() | {"status": status})
    damage(folder, kind)
    with pytest.raises(UserError, match=r"config\.yaml .*so its settings are unknown"):
        read_record(folder)


@pytest.mark.parametrize("content", [None, "", "[1]", '{"status'])
def test_a_missing_or_damaged_run_json_is_reported(tmp_path: Path, content: str | None) -> None:
    folder = make_run(tmp_path)
    (folder.path / "run.json").unlink()
    if content is not None:
        (folder.path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: expected readable JSON"):
        read_record(folder)


def test_a_run_with_a_relative_image_path_can_be_read_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path, sums=False, data=ImageFolder(root="photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_record(folder).status == "complete"


@pytest.mark.parametrize("sums", [False, True])
def test_changed_settings_of_a_run_on_an_image_folder_are_detected(
    tmp_path: Path, sums: bool
) -> None:
    folder = make_run(tmp_path, sums=sums, data=ImageFolder(root=str(tmp_path / "photos")))
    assert folder.status == "complete"
    damage(folder, "settings edited")
    assert folder.status == "damaged"
    folder.write_state({"status": "failed"})
    with pytest.raises(UserError, match="holds the settings of another run"):
        read_record(folder)


def test_a_complete_run_with_invalid_values_in_run_json_is_damaged(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.write_state(folder.read_state() | {"compute": []})
    assert (folder.status, folder.problem) == ("damaged", "run.json has invalid values")


def test_run_json_has_the_sums_of_existing_files(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    names = {"config.yaml", "metrics.jsonl", "model.json", "model.safetensors"}
    assert set(json.loads((folder.path / "run.json").read_text())["sha256"]) == names


def test_a_text_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    os.truncate(folder.config_file, 2**30)  # sparse, uses no disk space
    assert folder.problem == "config.yaml cannot be read (expected at most 536,870,912 bytes)"
