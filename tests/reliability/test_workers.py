"""A worker process dies: its run is retried alone, then fails, and the others continue."""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import CommandLine, read_state
from tests.reliability.faults import (
    KILLS_ITSELF,
    SHORT,
    STEPS_PER_EPOCH,
    SWEEP,
    Held,
    assert_same_run,
    end,
    held,
    killed_in,
    times_started,
    workers_of,
)
from tests.reliability.hold import LONGEST_WAIT_SECONDS, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]
# Each forked process exits once it has the log of seed 0 open and that run has an epoch.
ENDS_ITSELF = """
import os, threading, time

def watch():
    while True:
        time.sleep(0.01)
        for name in os.listdir("/proc/self/fd"):
            try:
                path = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            folder, file = os.path.split(path)
            metrics = os.path.join(folder, "metrics.jsonl")
            if file == "train.log" and "seed=" not in path and os.path.exists(metrics):
                if os.path.getsize(metrics):
                    os._exit(3)

def start():
    threading.Thread(target=watch, daemon=True).start()

os.register_at_fork(after_in_child=start)
"""


def run_of_seed_0(train: CommandLine) -> Path:
    (run,) = (run for run in train.runs.iterdir() if "seed=" not in run.name)
    return run


def has_log_open(worker: int, run: Path) -> bool:
    with suppress(OSError):
        links = Path(f"/proc/{worker}/fd").iterdir()
        return any(link.resolve() == (run / "train.log").resolve() for link in links)
    return False


def kill_worker_of_seed_0(train: CommandLine, it: Held) -> None:
    """Release the other runs, wait until the run of seed 0 waits, and kill its worker."""

    def waiting_worker() -> int | None:
        for worker in it.hold.held:
            if has_log_open(worker, run_of_seed_0(train)):
                return worker
            it.hold.release(worker)
        return None

    wait_for(waiting_worker, it.process)
    worker = waiting_worker()
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    it.hold.release(worker)
    wait_for(lambda: worker not in workers_of(it.process), it.process)


def test_a_run_whose_worker_is_killed_resumes_alone_and_ends_with_the_same_bits(
    train: CommandLine, whole_sweep: CommandLine
) -> None:
    with held(train, *SWEEP, step=2 * STEPS_PER_EPOCH + 3) as it:
        kill_worker_of_seed_0(train, it)
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 0, out + err
    assert "seed=0: its process was killed by SIGKILL" in out
    assert "It is retried alone after the other runs." in out
    assert times_started(run_of_seed_0(train)) == 1
    for run in whole_sweep.runs.iterdir():
        assert_same_run(train.runs / run.name, run)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_twice_fails_and_the_others_complete(
    train: CommandLine, whole_sweep: CommandLine
) -> None:
    with held(train, *SWEEP, step=STEPS_PER_EPOCH + 3) as it:
        kill_worker_of_seed_0(train, it)
        kill_worker_of_seed_0(train, it)  # repeated from the checkpoint before that step
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 1, out + err
    assert "[3/3] seed=0: failed: its process was killed by SIGKILL" in out
    assert "1 of 3 runs failed. Run the same command again to retry them." in err
    state = read_state(run_of_seed_0(train))
    assert state["status"] == "failed"
    assert "SIGKILL" in state["reason"]
    statuses = sorted(read_state(run)["status"] for run in train.runs.iterdir())
    assert statuses == ["complete", "complete", "failed"]
    assert "sweep of 3 runs (2 finished before)" in train(*SWEEP)
    assert_same_run(run_of_seed_0(train), run_of_seed_0(whole_sweep))


@pytest.mark.slow
def test_a_worker_that_ends_itself_is_reported_with_its_exit_status(train: CommandLine) -> None:
    # a thread in the worker calls os._exit
    (train.folder / "sitecustomize.py").write_text(ENDS_ITSELF)
    train.environment["PYTHONPATH"] = str(train.folder)
    assert "failed: its process ended with exit status 3 (twice)" in train(*SWEEP, status=1)
    assert read_state(run_of_seed_0(train))["reason"] == "its process ended with exit status 3"
    statuses = sorted(read_state(run)["status"] for run in train.runs.iterdir())
    assert statuses == ["complete", "complete", "failed"]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("_checked", "A worker process ended during startup"),
        pytest.param("_Worker._ask", "ended before they trained", marks=pytest.mark.slow),
    ],
)
def test_workers_that_end_before_they_train_end_the_sweep_with_one_line(
    train: CommandLine, function: str, message: str
) -> None:
    status, out, err = killed_in(
        train, "cifar_exp.sweeps.worker", function, *SWEEP, kills=KILLS_ITSELF
    )
    assert status == 1
    assert message in err
    assert "killed by SIGKILL" in err
    assert len(err.strip().splitlines()) == 1, err
    assert "Traceback" not in out


def test_workers_do_not_outlive_a_sweep_that_is_killed(train: CommandLine) -> None:
    with held(train, *SWEEP, step=STEPS_PER_EPOCH + 3, processes=2) as it:
        workers = it.hold.held
        end(it.process)
    # once released, they notice at their next check that the sweep has ended
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    states = [json.loads(path.read_text()) for path in train.runs.glob("*/run.json")]
    assert {state["status"] for state in states} == {"running"}


CONTROL_GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def memory_limit():
    """A control group with a memory limit, in which the kernel kills processes."""
    root, limit = CONTROL_GROUPS, "memory.max"
    if (root / "memory").exists():  # version 1
        root, limit = root / "memory", "memory.limit_in_bytes"
    group = root / f"cifar-exp-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(4 * 2**30))
    except OSError as error:
        pytest.skip(f"cannot limit memory here: {error}")

    def set_bytes(number: int) -> None:
        (group / limit).write_text(str(number))

    yield group, set_bytes
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_a_run_that_the_kernel_kills_for_memory_fails_and_the_others_complete(
    train: CommandLine, memory_limit
) -> None:
    group, set_bytes = memory_limit
    set_bytes(int(1.5 * 2**30))

    def join() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    # with a batch of 6000 images, the first layer alone returns 1.6 GB at full width
    big = ("data.train_size=6000", "epochs=1", "data.batch_size=64,6000", "model.width=0.25")
    process = train.start("-m", *SHORT, *big, "optimizer=sgd", preexec_fn=join)
    out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert process.returncode == 1, out + err
    assert "batch_size=6000: failed: its process was killed by SIGKILL" in out
    assert "probably out of memory" in out
    states = [json.loads(path.read_text()) for path in train.runs.glob("*/run.json")]
    assert sorted(state["status"] for state in states) == ["complete", "failed"]
