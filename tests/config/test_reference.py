"""Files of published values, and the mistakes in them."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cifar_exp.config.study import Study, load_studies, read_study
from cifar_exp.errors import UserError

GOOD = "lr,epoch,test_accuracy,best_test_accuracy_so_far\n0.1,1,0.5,\n1e-2, 2, , 0.75\n"


def load(file: Path, text: str, **changes: Any) -> Study:
    file.write_text(text)
    reference = {"label": "article", "source": "a paper", "file": str(file)}
    content = {"name": "mine", "title": "T", "question": "Q?", "vary": {"lr": [0.1, 0.01]}}
    (study,) = load_studies(OmegaConf.create(content | {"reference": reference} | changes))
    return study


def test_values_are_read_by_level_and_epoch_and_empty_cells_are_not_published(
    tmp_path: Path,
) -> None:
    study = load(tmp_path / "a.csv", GOOD)
    assert study.reference is not None
    assert study.reference.rows("optimizer.lr") == [
        {"level": 0.1, "epoch": 1, "test_accuracy": 0.5},
        {"level": 0.01, "epoch": 2, "best_test_accuracy_so_far": 0.75},
    ]


def test_a_stored_study_contains_its_values(tmp_path: Path) -> None:
    study = load(tmp_path / "a.csv", GOOD)
    (tmp_path / "a.csv").unlink()
    assert read_study(study.model_dump(mode="json", exclude_unset=True)) == study


@pytest.mark.parametrize(
    ("level", "expected"),
    [("true", True), ("10", 10.0), ('"[1, 2]"', "[1, 2]"), ("cosine", "cosine"), ("null", None)],
)
def test_levels_have_the_type_of_the_setting(tmp_path: Path, level: str, expected: Any) -> None:
    study = load(tmp_path / "a.csv", f"lr,epoch,train_loss\n{level},1,0.5\n")
    assert study.reference is not None
    (row,) = study.reference.rows("optimizer.lr")
    assert row["level"] == expected


def test_named_levels_become_their_values(tmp_path: Path) -> None:
    study = load(tmp_path / "a.csv", "\ufefflr,epoch,train_loss\nhigh,1,0.5\n")
    assert study.reference is not None
    assert study.reference.rows("optimizer.lr")[0]["level"] == 0.01


def test_an_unknown_setting_of_the_published_runs_is_refused(tmp_path: Path) -> None:
    reference = {"source": "a paper", "file": str(tmp_path / "a.csv"), "settings": {"epoch": 1}}
    with pytest.raises(
        UserError, match=r"^study\.reference\.settings\.epoch: unknown setting; did"
    ):
        load(tmp_path / "a.csv", GOOD, reference=reference)


MISTAKES = {
    "": "line 1: expected the columns lr, epoch and metrics",
    "dropout,epoch,train_loss\n0,1,1\n": "line 1: expected the columns lr, epoch and metrics",
    "lr;epoch;test_accuracy\n": "epoch and metrics, got 'lr;epoch;test_accuracy'",
    "lr,epoch\n0.1,1\n": "expected a metric. Add a column such as test_accuracy.",
    "lr,epoch,test_accuracy\n0.1,1,50\n": "test_accuracy: expected fractions from 0 to 1, got 50",
    "lr,epoch,accuracy\n0.1,1,0.5\n": "line 1: unknown metric accuracy. Use names such as",
    "lr,epoch,train_loss,train_loss\n": "line 1: expected different columns",
    "lr,epoch,train_loss\n": "expected at least one line of values",
    "lr,epoch,train_loss\n0.1,1,1\n\n0.1,2,one\n": "line 4: train_loss: expected a finite number",
    'lr,epoch,train_loss\n0.1,1,0.5\n0.1,2,"0.5\n': "line 3: expected values in CSV format",
    "lr,epoch,train_loss\nNaN,1,0.5\n": "line 2: expected a level, got NaN",
    "lr,epoch,train_loss\n0.1,1,nan\n": "line 2: train_loss: expected a finite number",
    "lr,epoch,train_loss\n0.1,0,1\n": "line 2: epoch: expected a whole number from 1, got '0'",
    "lr,epoch,train_loss\n0.1,1\n": "line 2: expected 3 values, got 2",
    "lr,epoch,train_loss\n0.1,1,1\n0.10,1,2\n": "line 3: expected each level and epoch once",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_reported_in_one_line_with_its_file_and_line(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.csv", text)
    assert MISTAKES[text] in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a.csv"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    missing = {"source": "a paper", "file": "missing.csv"}
    with pytest.raises(UserError, match=r"study\.reference\.file: cannot read missing\.csv"):
        load(tmp_path / "a.csv", GOOD, reference=missing)


def test_a_reference_needs_one_varied_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected one key under `vary`"):
        load(tmp_path / "a.csv", GOOD, vary={"lr": [0.1], "dropout": [0.0, 0.5]})
