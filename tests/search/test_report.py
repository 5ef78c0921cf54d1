"""Reports of searches."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.optimizers import Adam
from cifar_exp.reports.content import Report
from cifar_exp.reports.loaded import load_runs
from cifar_exp.reports.records import read_search
from cifar_exp.runs.folder import RunFolder
from cifar_exp.search.report import read_search_report, search_text
from tests.made import make_run

CONTENT: dict[str, Any] = {
    "id": "0123456789",
    "command": "train.py -m",
    "settings": {"metric": "accuracy", "sampler": "tpe", "pruner": "median"},
    "space": {"optimizer.lr": "0.1 or 0.2"},
    "trials": [],
    "best": None,
    "importance": {},
    "confirmations": [],
}
RATES = (0.1, 0.2)  # of trials 0 and 1
TESTED = "best trial: lr=0.2 (trial 1)  2 complete  50.0 %"


class Searches:
    """Searches with two complete trials, the second of which is the best one."""

    def __init__(self, results: Path) -> None:
        self._results = results
        trials = [self._run(rate, val_fraction=0.1) for rate in RATES]
        self.tested = [[self._run(rate, seed=seed).path.name for seed in (1, 2)] for rate in RATES]
        self.baseline = [self._run(0.001, seed=seed).path.name for seed in (1, 2)]
        self.trials: list[dict[str, Any]] = [
            {
                "number": number,
                "status": "complete",
                "value": 0.5 + number / 10,
                "epochs": 2,
                "params": {"optimizer.lr": RATES[number]},
                "run": run.path.name,
                "reason": "",
            }
            for number, run in enumerate(trials)
        ]

    def _run(self, rate: float, seed: int = 0, val_fraction: float = 0.0) -> RunFolder:
        data = Synthetic(val_fraction=val_fraction)
        return make_run(self._results, optimizer=Adam(lr=rate), seed=seed, data=data)

    def text(self, *confirmations: dict[str, Any], **changes: Any) -> str:
        return search_text(self.report(*confirmations, **changes))

    def report(self, *confirmations: dict[str, Any], **changes: Any) -> Report:
        trials = {"trials": self.trials, "best": 1, "confirmations": list(confirmations)}
        folder = self._results / "search-lr-0123456789"
        folder.mkdir(exist_ok=True)
        (folder / "search.json").write_text(json.dumps(CONTENT | trials | changes))
        return read_search_report(folder)

    def confirmation(self, winner: int = 1, **changes: Any) -> dict[str, Any]:
        runs = {"found": self.tested[winner], "start": self.baseline}
        return {"winner": winner, "trials": 2} | runs | changes


@pytest.fixture
def searches(tmp_path: Path) -> Searches:
    return Searches(tmp_path)


def test_the_best_trial_is_compared_with_the_baseline(searches: Searches) -> None:
    text = searches.text(searches.confirmation())
    assert TESTED in text
    assert "baseline: lr=0.001            2 complete  50.0 %" in text
    assert "Best trial: lr=0.2 (trial 1), test accuracy 50.0 %" in text
    assert "Inconclusive against the baseline: best trial has 0.0 points more" in text


def test_the_runs_that_test_the_best_trial_are_listed_and_loaded(
    searches: Searches, tmp_path: Path
) -> None:
    report = searches.report(searches.confirmation())
    assert [(row["trial"], row["lr"]) for row in report.runs] == [
        ("0", "0.1"),
        ("1", "0.2"),
        *[("test of baseline", "0.001")] * 2,  # equally good, and trained first
        *[("test of best trial", "0.2")] * 2,
    ]
    assert len(load_runs("search-lr", tmp_path)) == 6


def test_a_test_of_an_earlier_best_trial_is_not_that_of_the_best(searches: Searches) -> None:
    text = searches.text(searches.confirmation(winner=0))
    assert "Best trial: lr=0.2 (trial 1), validation accuracy 60.0 % (1 seed, not tested)" in text
    assert "Trial 0 was tested. Trial 1 is better on validation images, and has not" in text
    assert "50.0 %" not in text


def test_while_trials_are_left_the_best_is_preliminary(searches: Searches) -> None:
    settings = CONTENT["settings"] | {"n_trials": 5}
    text = searches.text(searches.confirmation(), settings=settings)
    assert "Best trial so far: lr=0.2" in text
    assert "The search is not complete: 3 of 5 trials are left." in text


def test_before_a_test_run_has_ended_the_result_is_that_of_validation(searches: Searches) -> None:
    pending = ["seed=3-0123456789", "seed=4-0123456789"]
    text = searches.text(searches.confirmation(found=pending, start=[]))
    assert "Best trial: lr=0.2 (trial 1), validation accuracy 60.0 % (1 seed, not tested)" in text
    assert "No trial has been tested." in text


def test_an_earlier_test_is_not_denied_while_a_later_one_has_not_ended(searches: Searches) -> None:
    first = searches.confirmation(winner=0, trials=1)
    pending = searches.confirmation(found=["seed=3-0123456789"], start=[])
    text = searches.text(first, pending)
    assert "No trial has been tested" not in text
    assert "The last test has not ended." in text


def test_cautions_on_test_runs_remain_after_the_runs_of_trials_are_deleted(
    searches: Searches, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for trial in searches.trials:
        shutil.rmtree(runs / trial["run"])
    tested = RunFolder(runs / searches.tested[1][0])
    tested.write_state(tested.read_state() | {"largest_class_share": 0.9})
    text = searches.text(searches.confirmation())
    assert "The classes differ in size" in text


def test_trials_with_the_same_settings_are_one_run_and_a_searched_bool_is_read(
    searches: Searches,
) -> None:
    trials = [
        searches.trials[0]
        | {"number": number, "params": {"data.test_flip": True, "training.epochs": 2}}
        for number in range(3)
    ]
    space = {"data.test_flip": "True or False", "training.epochs": "1 or 2"}
    report = searches.report(trials=trials, best=0, space=space)
    assert "1 run ·" in report.facts
    (row, *_) = report.runs
    assert row["test_flip"] == "True"
    assert row["training.epochs"] == "2"  # "epochs" is the number of trained epochs


def test_the_best_trial_may_be_the_baseline(searches: Searches) -> None:
    alone = searches.confirmation(start=[])
    assert "The settings of the best trial are those of the baseline." in searches.text(alone)
    settings = CONTENT["settings"] | {"baseline": False}
    assert "baseline" not in searches.text(alone, settings=settings)


def test_only_tests_after_other_trials_are_repeated_uses_of_the_test_set(
    searches: Searches,
) -> None:
    again = searches.confirmation(found=searches.tested[1][:1])
    assert "more than once" not in searches.text(again, searches.confirmation())
    first = searches.confirmation(winner=0, trials=1)
    text = searches.text(first, searches.confirmation())
    assert "more than once: trial 0 after 1 trial, then trial 1 after 2 trials." in text


def test_a_search_json_of_another_search_is_refused(tmp_path: Path) -> None:
    content = dict(CONTENT)
    this, other = tmp_path / "search-lr-0123456789", tmp_path / "search-lr-abcdef0123"
    for folder in (this, other):
        folder.mkdir()
        (folder / "search.json").write_text(json.dumps(content))
    assert read_search(this).id == "0123456789"
    with pytest.raises(UserError, match="belongs to search 0123456789, expected search abcdef0123"):
        read_search(other)
    del content["id"]  # as earlier versions wrote it
    (other / "search.json").write_text(json.dumps(content))
    assert read_search(other).id == ""
