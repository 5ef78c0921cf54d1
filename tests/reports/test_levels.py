"""Levels of a setting."""

from typing import Any

from cifar_exp.config.schema import RunConfig
from cifar_exp.reports.levels import equal_levels
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record
from tests.conftest import ROOT


def runs(*rows: dict[str, Any]) -> list[Record]:
    """Return a run of one epoch for each row, with seeds from 0."""
    return [
        Record(RunConfig(seed=seed), RunFolder(ROOT), "complete", {}, [row | {"epoch": 1}])
        for seed, row in enumerate(rows)
    ]


def test_levels_are_equal_if_all_seeds_have_the_same_curves() -> None:
    low, high = {"train_loss": 0.1, "test_loss": 0.2}, {"train_loss": 0.3, "test_loss": 0.4}
    levels: dict[Any, list[Record]] = {
        "constant": runs(low, high),
        "multistep": list(reversed(runs(low | {"train_seconds": 9.0}, high))),
        "cosine": runs(high, low),
        "one seed": runs(low),
        "other test": runs(low, high | {"test_loss": 0.5}),  # dropout that is on in testing
    }
    assert equal_levels(levels) == [["constant", "multistep"]]


def test_runs_without_epochs_are_not_equal() -> None:
    new = Record(RunConfig(), RunFolder(ROOT), "pending", {}, [])
    assert equal_levels({1: [new], 2: [new]}) == []
