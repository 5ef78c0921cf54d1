"""The options of `train.py`."""

from pathlib import Path

import pytest

from cifar_exp.cli.command_line import adapted_hydra, translate
from cifar_exp.errors import UserError


def test_values_of_options_are_unchanged() -> None:
    assert translate(["--config-name", "lr=0.1"]) == ["--config-name", "lr=0.1"]


def test_options_between_overrides_are_moved_to_the_front() -> None:
    typed = ["experiment=demo", "-m", "lr=0.1,0.2"]
    assert translate(typed) == ["-m", "experiment=demo", "optimizer.lr=0.1,0.2"]


def test_a_deleted_current_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="The current folder was deleted"), adapted_hydra([]):
        pass


def test_the_settings_are_shown_without_importing_pytorch(train) -> None:
    # python -X importtime names every module that is imported
    train.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    shown = train("--cfg", "job")
    assert "lr: 0.001" in shown
    assert "| hydra" in shown
    assert "| torch" not in shown


@pytest.mark.parametrize(
    ("typed", "translated"),
    [
        ("study=lr", ["study=lr", "--multirun"]),
        ("study=lr -m", ["-m", "study=lr"]),
        ("-m seed=0,1 --cfg job", ["--cfg", "job", "seed=0,1", "hydra.mode=MULTIRUN"]),
        ("study=lr -c job", ["-c", "job", "study=lr", "hydra.mode=MULTIRUN"]),
        ("seed=1 --cfg job", ["--cfg", "job", "seed=1"]),
        ("seed=1 --info", ["--info", "all", "seed=1"]),
        ("seed=1 --plan", ["seed=1", "++plan=true"]),
        ("--plan study=lr plan=false", ["study=lr", "++plan=true", "--multirun"]),
    ],
)
def test_a_study_is_a_sweep_and_cfg_job_shows_one(typed: str, translated: list[str]) -> None:
    assert sorted(translate(typed.split())) == sorted(translated)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--lr 0.1", "--lr: expected a setting without dashes; write lr=0.1"),
        ("--lr=0.1", "write lr=0.1"),
        ("-mlr=0.1,0.01", "lr=0.1,0.01"),
        ("--batch-size 8", "write batch_size=8"),
        ("--learning-rate 0.1", "write lr=0.1"),
        ("--epochs seed=1", "write epochs=VALUE"),
        ("--package model", "--package model: expected --cfg as well"),
        ("study=lr --run", "study: expected no --run, since a study is a sweep"),
    ],
)
def test_a_wrong_option_is_refused(typed: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        translate(typed.split())
