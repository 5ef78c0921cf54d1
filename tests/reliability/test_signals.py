"""Signals stop a run at the next step with a checkpoint; the same command resumes it."""

import os
import signal
import subprocess

import pytest

from tests.conftest import CommandLine, read_state
from tests.reliability.faults import (
    SHORT,
    STEPS_BETWEEN_PAUSES,
    STEPS_PER_EPOCH,
    SWEEP,
    TWO_AT_ONCE,
    assert_same_run,
    assert_same_runs,
    checkpoints,
    epochs_done,
    held,
    times_started,
)
from tests.reliability.hold import LONGEST_WAIT_SECONDS, wait_for

pytestmark = pytest.mark.integration
INTERRUPTED = "Interrupted. Run the same command again to resume."


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("uninterrupted"))
    train(*SHORT)
    return train


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_run_stops_within_an_epoch_and_resumes_at_that_step(
    train: CommandLine, uninterrupted: CommandLine, number: int, status: int
) -> None:
    with held(train, *SHORT, step=3) as it:
        it.process.send_signal(number)
    _, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == status
    assert INTERRUPTED in err
    assert "Traceback" not in err
    assert epochs_done(train.only_run) == 0
    (checkpoint,) = checkpoints(train.only_run)
    steps = int(checkpoint.stem.removeprefix("step-"))
    assert 3 <= steps <= 3 + STEPS_BETWEEN_PAUSES
    assert read_state(train.only_run)["status"] == "running"  # shown as interrupted

    train(*SHORT)
    assert f"resumed after epoch 0, step {steps}" in (train.only_run / "train.log").read_text()
    assert_same_run(train.only_run, uninterrupted.only_run)


def test_all_runs_of_a_sweep_are_saved_on_ctrl_c(
    train: CommandLine, whole_sweep: CommandLine
) -> None:
    with held(train, *SWEEP, step=STEPS_PER_EPOCH + 3, processes=2) as it:
        os.killpg(it.process.pid, signal.SIGINT)  # to all processes, as a terminal does
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 130, out + err
    assert INTERRUPTED in err
    assert "Traceback" not in out + err
    assert "pending" in out  # the table lists the remaining run
    starts = {run: times_started(run) for run in train.runs.iterdir() if checkpoints(run)}
    assert len(starts) == 2
    train(*SWEEP)
    assert_same_runs(train, whole_sweep)
    assert all(times_started(run) == times for run, times in starts.items())


@pytest.mark.parametrize(
    ("sweep", "processes"),
    [
        ((), 1),
        pytest.param(("-m", "seed=0,1", TWO_AT_ONCE), 2, marks=pytest.mark.slow),
    ],
    ids=["run", "sweep"],
)
def test_a_second_signal_stops_it_immediately(
    train: CommandLine, sweep: tuple[str, ...], processes: int
) -> None:
    with held(train, *SHORT, *sweep, step=3, processes=processes) as it:
        it.process.send_signal(signal.SIGINT)
        # of signals that come together Python handles either first
        wait_for(lambda: "Interrupt again to stop now." in it.process.printed()[1], it.process)
        it.process.send_signal(signal.SIGTERM)
        # it ends before any run reaches its next step
        out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 143, out + err
    assert "Stopping immediately." in err
    assert INTERRUPTED in err
    assert "Traceback" not in out + err


# A sitecustomize.py, which Python imports first: sends a signal while PyTorch is imported.
SIGNAL_IN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_during_the_imports_ends_the_command_with_one_line(train: CommandLine) -> None:
    (train.folder / "sitecustomize.py").write_text(SIGNAL_IN_IMPORT)
    train.environment["PYTHONPATH"] = str(train.folder)
    process = train.start(*SHORT, stdin=subprocess.DEVNULL)  # a new process, not a fork
    out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert process.returncode == 143
    assert err.strip() == INTERRUPTED
    assert out == ""
    assert not train.runs.exists()


@pytest.mark.slow
def test_a_signal_that_nohup_ignores_is_ignored(train: CommandLine) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with held(train, *SHORT, step=3, preexec_fn=ignore) as it:
        it.process.send_signal(signal.SIGHUP)
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 0, out + err
