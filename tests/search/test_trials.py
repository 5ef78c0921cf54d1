"""Trials in Optuna's storage, without training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from optuna.trial import Trial

from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.errors import UserError
from cifar_exp.search.search import _storage_errors
from cifar_exp.search.search_file import _row
from cifar_exp.search.space import Choice, Domain, Interval
from cifar_exp.search.trials import DIVERGED, Trials, _choose, open_storage

SPACE: dict[str, Domain] = {
    "lr": Interval(1e-5, 0.1, log=True),
    "size": Interval(16, 256, log=True),
    "depth": Interval(1, 9, step=2),
    "share": Interval(0.0, 0.75, step=0.25),
    "kind": Choice(("adam", "sgd")),
}


@contextmanager
def new_trials(folder: Path, **settings: Any) -> Iterator[Trials]:
    checked = SearchSettings.model_validate(settings)
    with open_storage(None, folder / "trials.db") as storage:
        yield Trials(storage, "mine", SPACE, checked, epochs=9)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp"])
def test_every_sampler_chooses_within_the_space(tmp_path: Path, sampler: str) -> None:
    with new_trials(tmp_path, sampler=sampler) as trials:
        for _ in range(3):
            trial = trials.ask()
            chosen = trial.params
            assert 1e-5 <= chosen["lr"] <= 0.1
            assert 16 <= chosen["size"] <= 256
            assert chosen["depth"] in (1, 3, 5, 7, 9)
            assert chosen["share"] in (0, 0.25, 0.5, 0.75)
            assert chosen["kind"] in ("adam", "sgd")
            trials.complete(trial, chosen["lr"])
        values = [trial.params["lr"] for trial in trials.all]
        assert len(set(values)) == 3


@pytest.mark.parametrize(
    "sampler", ["tpe", "random", "qmc", pytest.param("gp", marks=pytest.mark.slow)]
)
def test_a_resumed_search_chooses_the_same_values(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 12 if sampler == "tpe" else 5  # TPE chooses at random before the tenth trial
    choose = _choose

    def choose_one_value_and_die(trial: Trial, key: str, domain: Domain) -> None:
        if key != "lr":
            raise KeyboardInterrupt
        choose(trial, key, domain)

    killed = tmp_path / "killed"
    killed.mkdir()
    with new_trials(tmp_path, sampler=sampler) as uninterrupted:
        for _ in range(count):
            trial = uninterrupted.ask()
            uninterrupted.complete(trial, trial.params["lr"])
        expected = [trial.params for trial in uninterrupted.all]
    for number in range(count):
        with new_trials(killed, sampler=sampler) as resumed:
            trial = resumed.unfinished[0] if number % 3 == 1 else resumed.ask()
            resumed.complete(trial, trial.params["lr"])
            if number % 3 == 0:
                with monkeypatch.context() as patch:
                    patch.setattr("cifar_exp.search.trials._choose", choose_one_value_and_die)
                    with pytest.raises(KeyboardInterrupt):
                        resumed.ask()
            chosen = [trial.params for trial in resumed.all][:count]
    assert chosen == expected


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband"])
def test_every_pruner_prunes_bad_trials(tmp_path: Path, pruner: str) -> None:
    with new_trials(tmp_path, pruner=pruner) as trials:
        pruned = []
        for number in range(12):
            trial = trials.ask()
            for epoch in range(1, 10):
                trials.report(trial, {"epoch": epoch, "test_accuracy": 0.9 - 0.05 * number})
                if trial.should_prune():
                    pruned.append(number)
                    trials.prune(trial, "pruned", 1)
                    break
            else:
                trials.complete(trial, 0.9 - 0.05 * number)
        assert pruned
        assert 0 not in pruned
        assert trials.best is not None
        assert trials.best.number == 0


def test_options_are_passed_to_optuna_which_rejects_invalid_ones(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"hydra\.sweeper\.sampler_options: .*'n_startups'"),
        new_trials(tmp_path, sampler_options={"n_startups": 3}),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"hydra\.sweeper\.pruner_options: .*reduction_factor"),
        new_trials(tmp_path, pruner="asha", pruner_options={"reduction_factor": 0}),
    ):
        pass


def test_the_setting_that_matters_has_the_highest_importance(tmp_path: Path) -> None:
    with new_trials(tmp_path, sampler="random") as trials:
        assert trials.importance == {}
        for _ in range(24):
            trial = trials.ask()
            trials.complete(trial, -abs(trial.params["size"] - 100))
        assert next(iter(trials.importance)) == "size"
        assert sum(trials.importance.values()) == pytest.approx(1)


def test_a_sampler_without_its_package_is_reported_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_exp.search.trials.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install cmaes"), new_trials(tmp_path, sampler="cmaes"):
        pass


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    url = "mysql+nodriver://me:secret@host/db"
    with (
        pytest.raises(UserError, match=r"hydra\.sweeper\.storage: mysql.* needs the Python module"),
        open_storage("mysql://me:secret@host/db", tmp_path / "trials.db"),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"^mysql\+nodriver://me:\*\*\*@host/db: Can't load plugin"),
        _storage_errors(url),
        open_storage(url, tmp_path / "trials.db"),
    ):
        pass


@pytest.mark.parametrize("reason", ["pruned after 3 epochs", DIVERGED])
def test_a_pruned_trial_has_the_epochs_of_its_run(tmp_path: Path, reason: str) -> None:
    with new_trials(tmp_path) as trials:
        trial = trials.ask()
        for epoch in (1, 2):  # the third epoch has no value, or was trained after pruning
            trials.report(trial, {"epoch": epoch, "test_accuracy": 0.5})
        trials.prune(trial, reason, 3)
        assert _row(trials.all[0])["epochs"] == 3


def test_the_description_of_a_trial_can_be_typed_again() -> None:
    from cifar_exp.search.plan import describe, rounded

    params = {"optimizer.lr": 0.0017823456, "optimizer.momentum": 0.9, "optimizer": "sgd"}
    assert describe(params) == "lr=0.00178235 optimizer.momentum=0.9 optimizer=sgd"
    assert rounded(params)["optimizer.lr"] == 0.00178235
