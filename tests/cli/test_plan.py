"""`--plan` prints what a command will train and what that costs, and writes nothing."""

from pathlib import Path

import pytest

from tests.conftest import TINY, CommandLine
from tests.sweeps.test_seeds_added import write_study

pytestmark = pytest.mark.integration
SETTINGS = (*TINY, "logger=none")


def tree(folder: Path) -> dict[str, float]:
    """Return the time of the last change of each file and folder."""
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}


def planned(train: CommandLine, *overrides: str) -> list[str]:
    """Return the lines of a plan, and check that nothing is written."""
    before = tree(train.folder)
    lines = train(*overrides, "--plan").splitlines()
    assert tree(train.folder) == before
    assert lines[-1] == "Nothing was trained or written."
    return lines


def test_a_plan_says_which_runs_remain_and_how_long_they_take(train: CommandLine) -> None:
    assert planned(train, *SETTINGS)[0].startswith("1 run, 1 to train; about ")
    train(*SETTINGS, "lr=0.1")
    lines = planned(train, "-m", *SETTINGS, "lr=0.1,0.01", "hydra.launcher.runs_per_device=2")
    assert lines[0].startswith("2 runs, 1 to train; about ")
    assert " s (" in lines[0]
    assert lines[0].endswith("at once")
    (finished,) = (line for line in lines if line.startswith("0.1 "))
    (new,) = (line for line in lines if line.startswith("0.01 "))
    assert "finished before" in finished
    assert new.split()[1:5] == ["new", "0", "3", "9"]  # seed, epochs, steps
    assert "time:   from 1 finished run of the same shape" in lines


def test_the_errors_are_those_of_the_sweep(train: CommandLine) -> None:
    for command in (
        ("-m", *SETTINGS, "lr=0.1,-1"),
        ("-m", *SETTINGS, "batch_size=64,1000"),
        (*SETTINGS, "paths.results=/dev/null/results"),
    ):
        plan = train(*command, "--plan", status=1)
        assert not train.runs.exists()
        assert plan == train(*command, status=1)


def test_a_study_that_adds_seeds_has_a_range(train: CommandLine) -> None:
    command = write_study(train.folder, "lr", 0.001, 0.01)
    lines = planned(train, *command)
    assert lines[0].startswith("6 runs, 6 to train; about ")
    assert " with 2 more runs, " in lines[0]  # 4 seeds at two levels


def test_a_search_has_the_cost_of_its_largest_and_smallest_trials(train: CommandLine) -> None:
    pytest.importorskip("optuna")
    search = ("-m", *SETTINGS, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4")
    search += ("hydra.sweeper.confirm=1", "epochs=choice(1,2)")
    lines = planned(train, *search)
    assert lines[0].startswith("4 trials, 4 to train, and 2 runs that test the best settings; ")
    assert [line.split()[0] for line in lines if line.startswith(("small", "larg"))] == [
        "smallest",
        "largest",
    ]


def test_runs_of_jobs_have_no_time(train: CommandLine) -> None:
    lines = planned(train, "-m", *SETTINGS, "seed=0,1", "hydra/launcher=basic")
    assert lines[0].startswith("2 runs, 2 to train, ")
    assert lines[0].endswith(", each as a job")
    refused = train("-m", *SETTINGS, "seed=0,1", "hydra/launcher=basic", "budget=1h", status=1)
    assert "budget: expected hydra/launcher=packed" in refused
