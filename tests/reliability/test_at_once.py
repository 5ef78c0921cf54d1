"""Several processes at once, settings that are edited during a sweep, and exploding runs."""

import csv
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine, computed, read_state
from tests.reliability.faults import (
    SHORT,
    STEPS_PER_EPOCH,
    assert_same_run,
    assert_tidy,
    checkpoints,
    held,
    kill_at,
    times_started,
)
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytestmark = pytest.mark.integration


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    outputs = [process.communicate(timeout=LONGEST_WAIT_SECONDS) for process in processes]
    return [(p.returncode, out + err) for p, (out, err) in zip(processes, outputs, strict=True)]


@pytest.mark.slow
def test_one_of_two_processes_trains_a_run_and_the_other_is_refused(
    new_folder,
) -> None:
    train, alone = new_folder("train"), new_folder("alone")
    alone(*SHORT)
    results = finish([train.start(*SHORT) for _ in range(2)])
    trained = [text for status, text in results if status == 0 and "not repeated" not in text]
    assert len(trained) == 1
    for status, output in results:
        if output not in trained:  # refused, or started after the other had finished
            assert "another process is training this run" in output or status == 0
            assert "Traceback" not in output
    assert times_started(train.only_run) == 1
    assert_same_run(train.only_run, alone.only_run)


def test_a_second_process_is_refused_while_a_run_trains(train: CommandLine) -> None:
    with held(train, *SHORT, step=3) as it:
        output = train(*SHORT, status=1)
        assert "another process is training this run. Wait for it, or stop it." in output
    it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 0


def test_the_lock_of_a_dead_process_does_not_block(train: CommandLine) -> None:
    kill_at(train, *SHORT, step=STEPS_PER_EPOCH + 1)
    assert (train.only_run / ".lock").exists()
    train(*SHORT)
    assert read_state(train.only_run)["status"] == "complete"
    assert times_started(train.only_run) == 1


@pytest.mark.slow
def test_two_equal_sweeps_at_once_train_each_run_once(train: CommandLine) -> None:
    sweep = ("-m", *SHORT, "seed=0,1,2", "logger=none")
    for status, output in finish([train.start(*sweep) for _ in range(2)]):
        assert status == 0, output
        assert "report.html" in output
    assert len(list(train.runs.iterdir())) == 3
    for run in train.runs.iterdir():
        assert times_started(run) == 1
        assert [row["epoch"] for row in computed(run)] == [1, 2, 3, 4]
    assert_tidy(train)


def test_two_sweeps_that_share_runs_train_each_once(train: CommandLine) -> None:
    sweeps = [("-m", *SHORT, lrs) for lrs in ("lr=0.1,0.01", "lr=0.01,0.001")]
    for status, output in finish([train.start(*sweep) for sweep in sweeps]):
        assert status == 0, output
    assert len(list(train.runs.iterdir())) == 3
    assert all(times_started(run) == 1 for run in train.runs.iterdir())


@pytest.mark.slow
def test_a_sweep_keeps_the_settings_with_which_it_started(train: CommandLine) -> None:
    experiment = train.folder / "experiment" / "mine.yaml"
    experiment.parent.mkdir()
    text = "# @package _global_\noptimizer:\n  lr: {}\n"
    experiment.write_text(text.format(0.01))
    sweep = ("-m", "--config-dir", str(train.folder), "experiment=mine", *SHORT, "seed=0,1")
    with held(train, *sweep, step=3) as it:  # the first run; the second has not started
        experiment.write_text(text.format(0.5))
        (train.folder / "experiment" / "mine.yaml.swp").write_text("an editor's")
    ((status, output),) = finish([it.process])
    assert status == 0, output
    assert len(list(train.runs.iterdir())) == 2
    for run in train.runs.iterdir():
        assert {row["lr"] for row in computed(run)} == {0.01}
        assert "lr: 0.01\n" in (run / "config.yaml").read_text()


@pytest.mark.slow
def test_exploding_runs_are_diverged_and_ranked_last_and_the_sweep_continues(
    train: CommandLine,
) -> None:
    # lr=1e3 gives infinite or huge losses, SGD with lr=10 a loss that grows but stays finite
    output = train("-m", *SHORT, "epochs=2", "optimizer=adam,sgd", "optimizer.lr=0.001,10,1e3")
    (table,) = train.folder.glob("multirun_results/*/results.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    statuses = {(row["optimizer"], float(row["optimizer.lr"])): row["status"] for row in rows}
    assert {statuses["adam", 1e3], statuses["sgd", 1e3], statuses["sgd", 10]} == {"diverged"}
    assert {statuses["adam", 0.001], statuses["sgd", 0.001]} == {"complete"}
    ranked = [row["status"] for row in sorted(rows, key=lambda row: int(row["rank"]))]
    assert ranked == sorted(ranked)  # "complete" before "diverged"
    grown = [run for run in train.runs.iterdir() if "optimizer=sgd,lr=10.0" in run.name]
    assert computed(Path(grown[0]))[-1]["train_loss"] > 1e4  # finite
    assert computed(Path(grown[0]))[-1]["test_accuracy"] is None
    assert "[6/6]" in output
    assert not checkpoints(grown[0])
