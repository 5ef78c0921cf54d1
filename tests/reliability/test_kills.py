"""SIGKILL at any moment: the same command resumes, with the same results bit for bit."""

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import CommandLine, read_state
from tests.reliability.faults import (
    STEPS_PER_EPOCH,
    SWEEP,
    assert_same_runs,
    assert_tidy,
    checkpoints,
    end,
    held,
    killed_in,
    times_started,
)

pytestmark = pytest.mark.integration


def is_saving(folder: Path) -> bool:
    return any(folder.glob("multirun_results/runs/*/checkpoints/.*.tmp"))


def is_reporting(folder: Path) -> bool:
    return any(folder.glob("multirun_results/*/results.csv"))


def kill_at(process: subprocess.Popen, moment, seconds: float, rng: random.Random) -> bool:
    """Kill a sweep at a moment or after a random time. Returns False if it ended before."""
    until = time.monotonic() + rng.uniform(0, seconds)
    while time.monotonic() < until and process.poll() is None and not (moment and moment()):
        time.sleep(0.0005)
    if moment is not None:
        time.sleep(rng.uniform(0, 0.02))
    if process.poll() is not None:
        process.communicate()
        return False
    end(process, group=rng.random() < 0.5)
    return True


def survive(
    train: CommandLine, whole_sweep: CommandLine, max_kills: int, rng: random.Random
) -> int:
    """Repeat a sweep and kill it until it ends. Returns the number of kills."""
    kills = 0
    starts: dict[Path, int] = {}
    while kills < max_kills:
        process = train.start(*SWEEP)
        moments = [None, lambda: is_saving(train.folder), lambda: is_reporting(train.folder)]
        if not kill_at(process, rng.choice(moments), whole_sweep.seconds, rng):
            break
        kills += 1
        for run, times in starts.items():
            assert times_started(run) == times, f"{run} was started again"
        starts = {run: times_started(run) for run in train.runs.glob("*") if checkpoints(run)}
    train(*SWEEP)
    assert_same_runs(train, whole_sweep)
    assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}
    assert_tidy(train)
    return kills


def survive_many(new_folder, whole_sweep: CommandLine, kills: int) -> None:
    done = sweeps = 0
    while done < kills:
        train = new_folder(f"sweep {sweeps}")
        done += survive(train, whole_sweep, kills - done, random.Random(sweeps))
        sweeps += 1
    print(f"{done} kills survived in {sweeps} sweeps")


@pytest.mark.parametrize(
    "functions",
    [
        ["runs.checkpoint.write_json"],  # a checkpoint without a manifest
        pytest.param(
            ["sweeps.dispatcher.Dispatcher._end", "reports.render.write_report"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=", ".join,
)
def test_a_sweep_that_is_killed_while_it_trains_saves_or_reports_ends_with_the_same_bits(
    train: CommandLine, whole_sweep: CommandLine, functions: list[str]
) -> None:
    starts: dict[Path, int] = {}

    def check_starts() -> None:
        for run, times in starts.items():
            assert times_started(run) == times, f"{run} was started again"
        starts.update({run: times_started(run) for run in train.runs.glob("*") if checkpoints(run)})

    # two runs in their second epoch
    with held(train, *SWEEP, step=STEPS_PER_EPOCH + 3, processes=2) as it:
        end(it.process, group=True)
    check_starts()
    assert len(starts) == 2
    for name in functions:
        package, module, function = name.split(".", 2)
        status, out, err = killed_in(train, f"cifar_exp.{package}.{module}", function, *SWEEP)
        assert status == -signal.SIGKILL, out + err
        if function == "write_json":
            files = list(train.runs.glob("*/checkpoints/*.pt"))
            assert any(not file.with_suffix(".json").exists() for file in files)
        check_starts()
    assert "sweep of 3 runs" in train(*SWEEP)
    assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}
    assert_same_runs(train, whole_sweep)
    assert_tidy(train)


@pytest.mark.slow
def test_a_sweep_survives_fifty_random_kills(new_folder, whole_sweep: CommandLine) -> None:
    survive_many(new_folder, whole_sweep, kills=50)
