"""Trials whose runs already exist."""

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("optuna")

from optuna.trial import TrialState

from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.search.search import Search
from cifar_exp.search.space import Choice
from cifar_exp.search.trials import Trials, open_storage
from tests.made import make_run

WRONG_LINES = ["[1, 2]", '"text"', '{"epoch": "one"}', '{"epoch": 1, "test_accuracy": "high"}']


@pytest.mark.parametrize("line", WRONG_LINES)
@pytest.mark.parametrize("status", ["running", "complete"])
def test_values_of_a_wrong_type_in_metrics_jsonl_do_not_stop_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, line: str
) -> None:
    monkeypatch.setattr("cifar_exp.search.search.declare", lambda configs: None)
    folder = make_run(tmp_path, sums=False)
    folder.write_state(folder.read_state() | {"status": status})
    folder.metrics_file.write_text(2 * f"{line}\n")
    config = folder.read_config()
    settings = SearchSettings.model_validate({"n_trials": 1})
    plan = SimpleNamespace(settings=settings, config=lambda params: config)
    with open_storage(None, tmp_path / "trials.db") as storage:
        trials = Trials(storage, "mine", {"seed": Choice((0,))}, settings, epochs=2)
        run = Search(plan, trials, tmp_path).next_run()  # type: ignore[arg-type]
        (trial,) = trials.all
    if status == "complete":
        assert (run, trial.state) == (None, TrialState.FAIL)
        assert str(folder.metrics_file) in trial.user_attrs["reason"]
    else:  # training restores the file
        assert (run, trial.state) == (config, TrialState.RUNNING)
