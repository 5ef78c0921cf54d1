"""Tables that compare runs."""

from pathlib import Path

from cifar_exp.optimizers import Adam
from cifar_exp.reports.compare import compare
from tests.made import make_run


def test_metrics_that_no_run_measures_are_left_out(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, optimizer=Adam(lr=lr)) for lr in (0.001, 0.01)]
    table, _ = compare(runs)
    assert "final test accuracy" in table
    assert "validation" not in table
    assert "top-5" not in table
