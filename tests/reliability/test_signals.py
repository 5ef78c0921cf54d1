"""Ctrl-C, SIGTERM, a closed terminal: stop at the next step, save, say how to go on."""

import os
import signal
import subprocess
import time

import pytest

from cifar_exp.selftest.workspace import begun_anew, checkpoints, wait_for
from tests.conftest import CommandLine, read_state
from tests.reliability.faults import (
    LONG_EPOCHS,
    SHORT,
    SWEEP,
    TWO_AT_ONCE,
    assert_same_run,
    assert_same_runs,
    epochs_done,
)

TOLD = "interrupted: the same command goes on where this one stopped"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("uninterrupted"))
    train(*LONG_EPOCHS)
    return train


def has_begun(train: CommandLine) -> bool:
    return any(" on synthetic: " in log.read_text() for log in train.runs.glob("*/train.log"))


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_run_stops_within_an_epoch_and_goes_on_at_that_step(
    train: CommandLine, uninterrupted: CommandLine, number: int, status: int
) -> None:
    process = train.start(*LONG_EPOCHS)
    wait_for(lambda: has_begun(train), process)
    time.sleep(0.3)  # some steps into the first epoch
    process.send_signal(number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == status
    assert TOLD in err
    assert "Traceback" not in err
    assert epochs_done(train.only_run) == 0
    (checkpoint,) = checkpoints(train.only_run)
    steps = int(checkpoint.stem.removeprefix("step-"))
    assert 0 < steps < 400
    assert read_state(train.only_run)["status"] == "running"  # until somebody looks: interrupted

    train(*LONG_EPOCHS)
    assert f"goes on after epoch 0, step {steps}" in (train.only_run / "train.log").read_text()
    assert_same_run(train.only_run, uninterrupted.only_run)


def test_ctrl_c_reaches_sweep_and_workers_and_all_runs_are_saved(
    train: CommandLine, whole_sweep: CommandLine
) -> None:
    process = train.start(*SWEEP)
    wait_for(lambda: len(list(train.runs.glob("*/checkpoints/*.json"))) >= 2, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert TOLD in err
    assert "Traceback" not in out + err
    begun = {run: begun_anew(run) for run in train.runs.iterdir() if checkpoints(run)}
    train(*SWEEP)
    assert_same_runs(train, whole_sweep)
    assert begun
    assert all(begun_anew(run) == times for run, times in begun.items())


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1", TWO_AT_ONCE)], ids=["run", "sweep"])
def test_asked_twice_it_stops_at_once(train: CommandLine, sweep: tuple[str, ...]) -> None:
    # a step takes seconds: 4000 images at once
    command = (*SHORT, "data.train_size=4000", "batch_size=4000", "model.width=0.5", *sweep)
    process = train.start(*command)
    wait_for(lambda: has_begun(train), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 5
    assert process.returncode == 130, out + err
    assert "once more stops at once" in err
    assert TOLD in err
    assert "Traceback" not in out + err


def test_before_anything_has_begun_a_signal_ends_it_in_a_line(train: CommandLine) -> None:
    process = train.start(*SHORT, stdin=subprocess.DEVNULL)  # no fork
    time.sleep(0.4)  # PyTorch is being imported
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode in (143, -signal.SIGTERM)  # the latter in its first milliseconds
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_what_nohup_ignores_stays_ignored(train: CommandLine) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = train.start(*SHORT, preexec_fn=ignore)
    wait_for(lambda: list(train.runs.glob("*/metrics.jsonl")), process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
