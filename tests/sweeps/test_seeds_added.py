"""Studies that add seeds until their claims are settled."""

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.optimizers import Adam
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record
from cifar_exp.sweeps.until_settled import next_runs
from tests.conftest import TINY, CommandLine, read_state

NOISE = (0.3, -0.2, 0.1, -0.3, 0.2, -0.1)
LR = (0.001, 0.01, 0.1)


def study(*claims: dict[str, Any], **settings: Any) -> Study:
    content = {"name": "s", "title": "S", "question": "?", "vary": {"optimizer.lr": LR}}
    usual = {"says": "It is lower.", "metric": "final_train_loss", "expects": "lower"}
    content |= {"claims": [usual | claim for claim in claims], "add_seeds": True, "max_seeds": 5}
    return Study.model_validate_json(json.dumps(content | settings))


def record(lr: float, seed: int, loss: float) -> Record:
    status, rows = ("complete", [{"epoch": 1, "train_loss": loss}])
    if math.isinf(loss):
        status, rows = "diverged", [{"epoch": 1, "train_loss": None}]
    config = RunConfig(optimizer=Adam(lr=lr), seed=seed)
    return Record(config, RunFolder(Path("runs/x")), status, {"status": status}, rows)


def seeds(n: int, *levels: float) -> list[Record]:
    """Runs of n seeds: 0.001 and 0.01 differ by noise alone, and 0.1 is clearly worse."""
    losses = {0.001: lambda _: 1.0, 0.01: lambda noise: 1.1 + noise, 0.1: lambda noise: 9 + noise}
    return [record(lr, seed, losses[lr](NOISE[seed])) for lr in levels for seed in range(n)]


def chosen(study: Study, records: list[Record]) -> set[tuple[float, int]]:
    return {(config.optimizer.lr, config.seed) for config in next_runs(study, records)}


CLEAR = {"at": 0.001, "than": 0.1}
OPEN = {"at": 0.001, "than": 0.01}


def test_only_the_levels_of_open_claims_get_one_seed_more() -> None:
    assert chosen(study(CLEAR, OPEN), seeds(3, *LR)) == {(0.001, 3), (0.01, 3)}
    assert chosen(study(CLEAR), seeds(3, *LR)) == set()
    assert chosen(study(OPEN, add_seeds=False), seeds(3, *LR)) == set()


def test_the_level_with_fewer_seeds_comes_first() -> None:
    uneven = [*seeds(4, 0.001), *seeds(3, 0.01, 0.1)]
    assert chosen(study(OPEN), uneven) == {(0.01, 3)}


def test_it_ends_at_the_most_seeds() -> None:
    assert chosen(study(OPEN), seeds(4, *LR)) == {(0.001, 4), (0.01, 4)}
    assert chosen(study(OPEN), seeds(5, *LR)) == set()


def test_what_is_significant_once_is_not_settled_when_looked_at_often() -> None:
    # p is 0.005 and 0.024; looks after 3, 4 and 5 seeds correct it to 0.012 and 0.053
    for last, settled in ((2.5, True), (3.2, False)):
        losses = {0.01: (2.0, 2.1, last), 0.001: (0.0, 0.0, 0.0), 0.1: (9.0, 9.0, 9.0)}
        runs = [
            record(lr, n, loss)
            for lr, of_level in losses.items()
            for n, loss in enumerate(of_level)
        ]
        assert (chosen(study(OPEN), runs) == set()) is settled


def test_a_level_that_diverged_with_all_seeds_is_settled() -> None:
    runs = seeds(3, 0.001, 0.01) + [record(0.1, n, math.inf) for n in range(3)]
    assert chosen(study(CLEAR), runs) == set()


def test_two_runs_of_a_level_and_seed_are_not_compared() -> None:
    assert chosen(study(OPEN), [*seeds(3, *LR), *seeds(3, *LR)]) == set()


SMALLEST = ("epochs=1", "data.train_size=20", "data.test_size=10", "batch_size=10")
PLANTED = """
name: planted
title: Planted
question: Does it settle?
vary:
  {key}: {levels}
claims:
  - says: The first level ends with a lower loss.
    metric: final_train_loss
    expects: lower
    at: {first}
    than: {second}
max_seeds: 4
"""


def write_study(folder: Path, key: str, first: float, second: float) -> tuple[str, ...]:
    (folder / "study").mkdir(exist_ok=True)
    text = PLANTED.format(key=key, levels=[first, second], first=first, second=second)
    (folder / "study" / "planted.yaml").write_text(text)
    short = ("logger=none", "hydra.launcher.runs_per_device=2")
    return ("--config-dir", str(folder), "study=planted", "seed=auto", *TINY, *short)


def trained_seeds(train: CommandLine) -> list[int]:
    (file,) = train.runs.parent.glob("planted-*/sweep.json")
    folders = [train.runs / run["folder"] for run in json.loads(file.read_text())["runs"]]
    states = [read_state(folder) for folder in folders]
    assert {state["status"] for state in states} == {"complete"}
    return sorted(int("seed=" in f.name and f.name.split("seed=")[1][0]) for f in folders)


@pytest.mark.integration
def test_a_planted_effect_ends_early(train: CommandLine) -> None:
    # the tiny rate does not learn at all
    train(*write_study(train.folder, "lr", 0.001, 0.0000001), "epochs=2")
    assert trained_seeds(train) == [0, 0, 1, 1, 2, 2]
    assert "supported" in next(train.runs.parent.glob("planted-*/report.md")).read_text()


@pytest.mark.integration
def test_a_planted_null_ends_at_the_most_seeds_and_an_interrupted_one_decides_alike(
    train: CommandLine,
) -> None:
    command = (*write_study(train.folder, "optimizer.eps", 1e-8, 2e-8), *SMALLEST)
    printed = train(*command)
    assert printed.count("inconclusive claims") == 1  # after 3 seeds
    assert trained_seeds(train) == sorted([*range(4), *range(4)])
    (report,) = train.runs.parent.glob("planted-*/report.md")
    text = report.read_text()
    assert "Not settled with the limit of 4 seeds." in text
    # as if it had been killed after the third seed
    for run in itertools.islice(train.runs.glob("*seed=3*"), 2):
        shutil.rmtree(run)
    report.unlink()
    assert "sweep of 8 runs (6 finished before)" in train(*command)
    assert trained_seeds(train) == sorted([*range(4), *range(4)])
    assert "Not settled with the limit of 4 seeds." in report.read_text()


@pytest.mark.parametrize("study", [(), ("-m",), ("study=lr",)])
def test_auto_and_numbers_of_seeds_are_not_mixed(train: CommandLine, study: tuple[str]) -> None:
    printed = train(*study, *TINY, "seed=auto,0", status=1)
    assert printed == "seed=auto,0: expected either auto or numbers, not both\n"


@pytest.mark.parametrize("command", ["seed=auto", "-m seed=auto lr=0.1,0.01"])
def test_without_a_study_there_is_nothing_to_settle(train: CommandLine, command: str) -> None:
    printed = train(*command.split(), *TINY, status=1)
    assert "seed=auto: expected a study with claims" in printed
    assert len(printed.strip().splitlines()) <= 2
    assert not train.runs.exists()
