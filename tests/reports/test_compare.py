"""Tables that compare runs."""

import re
from pathlib import Path

import pytest

from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam
from cifar_exp.reports.compare import compare
from tests.made import make_run


def test_metrics_that_no_run_measures_are_left_out(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, optimizer=Adam(lr=lr)) for lr in (0.001, 0.01)]
    table, _ = compare(runs)
    assert "final test accuracy" in table
    assert "validation" not in table
    assert "top-5" not in table
    diverged = make_run(tmp_path, sums=False, optimizer=Adam(lr=9.0))
    diverged.write_state(diverged.read_state() | {"status": "diverged"})
    table, _ = compare([runs[0], diverged])
    assert "diverged" in table
    assert "validation" not in table
    assert "top-5" not in table


@pytest.mark.parametrize("width", [60, 80])
def test_many_runs_are_compared_in_several_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    runs = [make_run(tmp_path, optimizer=Adam(lr=0.001 * n)) for n in range(1, 10)]
    monkeypatch.setattr("cifar_exp.reports.compare.columns", lambda: width)
    table, _ = compare(runs)
    _, *tables = table.split("\n\n")
    assert max(len(line) for part in tables for line in part.splitlines()) <= width
    # each run once, in its own column
    titles = [name for part in tables for name in re.findall(r"run \d", part.splitlines()[0])]
    assert titles == [f"run {n}" for n in range(1, 10)]


def test_a_setting_has_its_value_also_where_it_is_not_part_of_the_id(tmp_path: Path) -> None:
    dropout = [Model(dropout_in_testing=on) for on in (False, True)]
    table, _ = compare([make_run(tmp_path, model=model) for model in dropout])
    assert re.search(r"model\.dropout_in_testing +False +True", table)
