"""Searches through the command line: trials, pruning, resuming and confirmation."""

import csv
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
import yaml

from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder
from cifar_exp.search.plan import describe
from tests.conftest import CommandLine, computed, read_rows, read_state
from tests.reliability.faults import SHORT, TWO_AT_ONCE, end, held, killed_in, replaced_in
from tests.reliability.hold import Hold

pytest.importorskip("optuna")
pytestmark = pytest.mark.integration
# A run of a tenth of a second: 20 images, half of them for validation.
TINIEST = (
    "data=synthetic",
    "data.train_size=20",
    "data.test_size=10",
    "data.val_fraction=0.5",
    "batch_size=10",
    "model=vgg11",
    "model.width=0.0625",
    "epochs=2",
    "device=cpu",
    "logger=none",
)
HOLDING = "model._target_=tests.reliability.holding.Holding"
LOG_LR = "lr=tag(log,interval(1e-5,1e-1))"
# Losses have no ties, unlike the accuracies of ten images.
BY_LOSS = "hydra.sweeper.metric=loss"
# Prunes each trial that is not the best of those with as many epochs.
HARSH = (BY_LOSS, "hydra.sweeper.pruner=asha", "+hydra.sweeper.pruner_options.reduction_factor=2")


class Search:
    """`python train.py -m hydra/sweeper=optuna`, and the files of the search."""

    def __init__(self, train: CommandLine) -> None:
        self.train = train

    def arguments(
        self, *overrides: str, trials: int, confirm: int = 0, run: tuple[str, ...] = TINIEST
    ) -> list[str]:
        return [
            "-m",
            "hydra/sweeper=optuna",
            *run,
            f"hydra.sweeper.n_trials={trials}",
            f"hydra.sweeper.confirm={confirm}",
            *overrides,
        ]

    def __call__(self, *overrides: str, trials: int = 3, confirm: int = 0, status: int = 0) -> str:
        arguments = self.arguments(*overrides, trials=trials, confirm=confirm)
        return self.train(*arguments, status=status)

    @property
    def folder(self) -> Path:
        (found,) = self.train.runs.parent.glob("search-*")
        return found

    @property
    def listed(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "search.json").read_text())
        return content

    @property
    def trials(self) -> list[dict[str, Any]]:
        trials: list[dict[str, Any]] = self.listed["trials"]
        return trials

    def run(self, trial: dict[str, Any]) -> Path:
        return self.train.runs / str(trial["run"])

    def configs(self, names: list[str]) -> list[RunConfig]:
        return [RunFolder(self.train.runs / name).read_config() for name in names]


@pytest.fixture
def search(train: CommandLine) -> Search:
    return Search(train)


def statuses(search: Search) -> list[str]:
    return [trial["status"] for trial in search.trials]


def test_only_the_winner_is_tested_with_new_seeds(search: Search) -> None:
    words = (LOG_LR, "dropout=interval(0,0.5)", "seed=1")
    command = search.arguments(*words, trials=3, confirm=2)
    _, output, _ = killed_in(search.train, "cifar_exp.sweeps.sweep", "Sweep.run", *command)
    assert "search of 3 trials (0 finished before)" in output
    assert len(search.listed["confirmations"]) == 1  # recorded before test images are used
    assert "search of 3 trials (3 finished before)" in search(*words, trials=3, confirm=2)
    assert statuses(search) == ["complete"] * 3
    searched = search.configs([trial["run"] for trial in search.trials])
    assert {(c.seed, c.data.evaluated_on) for c in searched} == {(1, "validation")}
    assert {read_state(search.run(t))["evaluated_on"] for t in search.trials} == {"validation"}

    (confirmation,) = search.listed["confirmations"]
    winner = search.trials[confirmation["winner"]]
    assert winner["value"] == max(trial["value"] for trial in search.trials)
    found, start = (search.configs(confirmation[name]) for name in ("found", "start"))
    # on all training images, with other seeds than the search
    assert {(c.seed, c.data.evaluated_on) for c in found} == {(0, "test"), (2, "test")}
    assert {c.optimizer.lr for c in found} == {winner["params"]["optimizer.lr"]}
    assert {c.model.dropout for c in found} == {winner["params"]["model.dropout"]}
    assert {(c.seed, c.optimizer.lr, c.model.dropout) for c in start} == {
        (0, 0.001, 0.0), (2, 0.001, 0.0),
    }  # fmt: skip
    tested = {c.name for c in search.train.runs.iterdir() if is_tested(c)}
    assert tested == {*confirmation["found"], *confirmation["start"]}

    report = (search.folder / "report.md").read_text()
    best = f"**Best trial: {describe(winner['params'])} (trial {winner['number']}), test accuracy "
    assert best in report
    assert re.search(r"\(trial \d+\).*: (best trial|baseline) (beats|has) .*; 2 seeds; p ", report)
    assert report.index(best) < report.index("The best trial is better than the baseline")
    assert (search.folder / "report.html").exists()
    assert {path.stem for path in (search.folder / "figures").glob("*.svg")} >= {
        "history", "trials", "parallel",
    }  # fmt: skip
    again = search.train.cifar_exp("report", str(search.folder), "--check")
    assert again.endswith("the report agrees with its runs\n")

    plan = search(*words, "--plan", trials=3, confirm=2)
    assert "3 trials, 0 to train, and 0 runs that test the best" in " ".join(plan.split())

    listed = search.folder / "search.json"
    content = json.loads(listed.read_text())
    content["confirmations"].insert(0, confirmation | {"trials": 2})
    listed.write_text(json.dumps(content))
    search.train.cifar_exp("report", str(search.folder))
    report = (search.folder / "report.md").read_text()
    assert "This search used the test set more than once" in report


@pytest.mark.slow
def test_the_number_of_trials_is_the_total(search: Search) -> None:
    search(LOG_LR, trials=1)
    assert "search of 2 trials (1 finished before)" in search(LOG_LR, trials=2)
    assert len(search.trials) == 2
    with (search.folder / "results.csv").open(newline="") as file:
        assert [row["number"] for row in csv.DictReader(file)] == ["0", "1"]


def is_tested(run: Path) -> bool:
    return bool(read_state(run)["evaluated_on"] == "test")


# Runs in the search's process, after it has asked pruned trials to stop.
RELEASE = """
import os, time

def release():
    while not os.listdir("held"):
        time.sleep(0.01)
    for name in os.listdir("held"):
        os.unlink(f"held/{name}")
"""


@pytest.mark.slow
def test_a_pruned_trial_stops_early_and_its_run_can_be_resumed(search: Search) -> None:
    # an epoch is one step; each trial waits in its sixth for the decision about earlier ones
    waiting = (*(word for word in TINIEST if word != "model=vgg11"), HOLDING, "epochs=8")
    with (
        Hold(search.train.folder, step=6),
        replaced_in(
            search.train,
            *("cifar_exp.search.search", "Search.continues"),
            "(given[2].epoch == 5 and release(), replaced(*given))[1]",
            code=RELEASE,
        ),
    ):
        output = search.train(*search.arguments(LOG_LR, *HARSH, trials=3, run=waiting))
    pruned = [trial for trial in search.trials if trial["status"] == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial["epochs"] < 8
        assert trial["reason"] == f"pruned after {trial['epochs']} epoch" + "s" * (
            trial["epochs"] > 1
        )
        assert f"trial {trial['number']} " in output
        run = search.run(trial)
        assert len(read_rows(run)) < 8
        assert RunFolder(run).status == "interrupted"
        assert list((run / "checkpoints").glob("*.pt"))
        assert "interrupted by the search" in (run / "train.log").read_text()
    assert "pruned after" in output
    trial = pruned[0]
    before = computed(search.run(trial))
    lr = trial["params"]["optimizer.lr"]
    search.train(*waiting, f"optimizer.lr={lr}")
    assert computed(search.run(trial))[: len(before)] == before
    assert len(read_rows(search.run(trial))) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "functions",
    [
        ["Search._ended"],  # before the end of a trial is recorded
        pytest.param(["Search._ended", "Search._ended", "Search.confirm"], marks=pytest.mark.slow),
    ],
    ids=", ".join,
)
def test_a_search_resumes_after_a_kill_with_the_same_trials(
    new_folder: Callable[[str], CommandLine], functions: list[str]
) -> None:
    killed, alone = Search(new_folder("killed")), Search(new_folder("alone"))
    overrides = (LOG_LR, "dropout=interval(0,0.5)", *HARSH, "epochs=6")
    alone(*overrides, trials=5)
    for function in functions:
        arguments = killed.arguments(*overrides, trials=5)
        status, out, err = killed_in(killed.train, "cifar_exp.search.search", function, *arguments)
        assert status == -signal.SIGKILL, out + err
    started = [trial["params"] for trial in killed.trials]
    output = killed(*overrides, trials=5)
    assert "search of 5 trials (" in output
    results = [
        [(t["number"], t["params"], t["status"], t["value"], t["run"]) for t in search.trials]
        for search in (killed, alone)
    ]
    assert results[0] == results[1]
    assert [trial["params"] for trial in killed.trials][: len(started)] == started
    assert len(list(killed.train.runs.iterdir())) == 5


@pytest.mark.slow
def test_two_trials_train_at_the_same_time(train: CommandLine) -> None:
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", LOG_LR)
    with held(train, *search, *SHORT, TWO_AT_ONCE, step=3, processes=2) as it:
        states = [read_state(run) for run in train.runs.iterdir()]
        end(it.process, group=True)
    assert len(states) == 2
    assert {state["evaluated_on"] for state in states} == {"validation"}  # by default


@pytest.mark.slow
def test_equal_trials_share_a_run_and_a_diverged_trial_never_wins(
    search: Search,
) -> None:
    search("lr=choice(0.001,1e30)", BY_LOSS, "hydra.sweeper.sampler=random", trials=6)
    by_lr: dict[float, set[tuple[str, str]]] = {}
    for trial in search.trials:
        lr = trial["params"]["optimizer.lr"]
        by_lr.setdefault(lr, set()).add((trial["status"], trial["run"]))
    assert {lr: {status for status, _ in found} for lr, found in by_lr.items()} == {
        0.001: {"complete"},
        1e30: {"diverged"},
    }
    assert len(list(search.train.runs.iterdir())) == 2
    best = search.trials[search.listed["best"]]
    assert best["params"]["optimizer.lr"] == 0.001


@pytest.mark.slow
def test_an_experiment_file_may_define_the_space(search: Search) -> None:
    folder = search.train.folder
    (folder / "experiment").mkdir()
    content = {
        "defaults": [{"override /hydra/sweeper": "optuna"}],
        "hydra": {
            "mode": "MULTIRUN",
            "sweeper": {
                "n_trials": 2,
                "confirm": 0,
                "params": {"lr": "tag(log, interval(1e-4, 1e-2))", "model.dropout": "choice(0.25)"},
            },
        },
    }
    text = "# @package _global_\n" + yaml.safe_dump(content)
    (folder / "experiment" / "mine.yaml").write_text(text)
    search.train("--config-dir", str(folder), "experiment=mine", *TINIEST)
    params = [trial["params"] for trial in search.trials]
    assert [p["model.dropout"] for p in params] == [0.25, 0.25]
    assert all(1e-4 <= p["optimizer.lr"] <= 1e-2 for p in params)
    assert search.listed["space"] == {
        "optimizer.lr": "0.0001 to 0.01, log scale",
        "model.dropout": "one of 0.25",
    }


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "no space": (("lr=0.1",), "hydra.sweeper.params: the search space is empty"),
    "an unknown key": (("lrr=interval(0,1)",), "lrr: unknown setting; did you mean lr?"),
    "a bound out of range": (
        (LOG_LR, "dropout=interval(0,2)"),
        "model.dropout: expected a number less than 1, got 2.0",
    ),
    "an unknown option": (("optimizer=choice(adam,sdg)",), "sdg: expected one of adam,"),
    "too large batches": (
        ("batch_size=choice(5,16)",),
        "data.batch_size: expected at most the 10 training images, got 16",
    ),
    "several seeds": ((LOG_LR, "seed=0,1"), "seed: expected one value in a search"),
    "several data sets": (
        (LOG_LR, "data.limit_train=null,15"),
        "data.limit_train: expected one value in a search",
    ),
    "no validation": (
        (LOG_LR, "data.val_fraction=0"),
        "data.val_fraction: expected more than 0 in a search",
    ),
    "a study": ((LOG_LR, "study=lr"), "study: expected none in a search"),
    "another launcher": ((LOG_LR, "hydra/launcher=basic"), "expected hydra/launcher=packed"),
    "rerun": ((LOG_LR, "rerun=true"), "rerun: expected false"),
    "no trials": ((LOG_LR, "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials: expected"),
    "an unknown sampler": (
        (LOG_LR, "hydra.sweeper.sampler=tpee"),
        "hydra.sweeper.sampler: expected 'tpe', 'random',",
    ),
    "an unknown option of the pruner": (
        (LOG_LR, "+hydra.sweeper.pruner_options.eta=3"),
        "hydra.sweeper.pruner_options: ",
    ),
    "a missing storage": (
        (LOG_LR, 'hydra.sweeper.storage="sqlite:////nowhere/trials.db"'),
        "unable to open database file",
    ),
}


IN_CI = ("no space", "a bound out of range", "no validation", "a missing storage")


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in IN_CI)) for name in MISTAKES],
)
def test_a_mistake_is_reported_in_two_lines_before_training(search: Search, mistake: str) -> None:
    overrides, message = MISTAKES[mistake]
    output = search(*overrides, status=1)
    assert message in output
    lines = [line for line in output.strip().splitlines() if not line.startswith("search of")]
    assert len(lines) <= 2
    assert not search.train.runs.exists()


@pytest.mark.slow
def test_optuna_and_its_dashboard_open_the_storage(search: Search) -> None:
    import optuna

    search(LOG_LR, trials=2)
    url = f"sqlite:///{search.folder / 'trials.db'}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name=search.folder.name, storage=storage)
    assert [trial.user_attrs["run"] for trial in study.trials] == [t["run"] for t in search.trials]
    assert sorted(study.trials[0].intermediate_values) == [1, 2]

    dashboard = pytest.importorskip("optuna_dashboard")
    environment: dict[str, Any] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(environment)
    answers: list[str] = []
    application = dashboard.wsgi(storage)
    body = b"".join(application(environment, lambda status, *_: answers.append(status)))
    assert answers == ["200 OK"]
    assert search.folder.name in body.decode()
    storage.remove_session()
    storage.engine.dispose()


def test_without_optuna_the_message_says_what_to_install(search: Search) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'optuna'\", name='optuna')"
    (search.train.folder / "optuna.py").write_text(missing)
    search.train.environment["PYTHONPATH"] = str(search.train.folder)
    assert "pip install -e '.[optuna]'" in search(LOG_LR, status=1)
