"""`torchrun --nproc-per-node=N train.py`: one run on several processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from cifar_exp.training.progress import best_epoch
from tests.conftest import ROOT, TINY, CommandLine, computed, read_rows, read_state
from tests.reliability.faults import SHORT, times_started
from tests.reliability.hold import LONGEST_WAIT_SECONDS, Hold

pytestmark = pytest.mark.integration
# Odd sizes, so that processes have parts of different size, and the last batch is smaller.
# A low learning rate keeps rounding errors small.
COMPARED = (
    *TINY,
    "data.train_size=161",
    "data.test_size=83",
    "data.augment=crop_flip",
    "batch_size=43",
    "dropout=0.5",
    "training.label_smoothing=0.1",
    "optimizer=sgd",
    "lr=0.0001",
    "precision=fp32",
    "logger=none",
)
# The first epoch has more steps than the processes train between two checks for signals.
LONG = (*SHORT, "epochs=2", "logger=none")


@contextmanager
def together(train: CommandLine, size: int, *overrides: str) -> Iterator[list[Any]]:
    """Start the processes of torchrun as forks, which is faster, and kill them at the end."""
    store = TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )  # torchrun starts one as well
    environment = dict(train.environment)
    processes = []
    for rank in range(size):
        train.environment |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
        processes.append(train.start(*overrides))
    train.environment.clear()
    train.environment |= environment
    try:
        yield processes
    finally:
        for process in processes:
            process.kill_session()


def in_forks(train: CommandLine, *overrides: str) -> str:
    """Run two processes to their end, and return the output of rank 0."""
    with together(train, 2, *overrides) as processes:
        outputs = [process.communicate(timeout=LONGEST_WAIT_SECONDS) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        assert outputs[1] == ("", "")
    return str(outputs[0][0])


def torchrun(train: CommandLine, *overrides: str) -> str:
    """Do the same with torchrun, which is slower: it imports PyTorch three times."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(ROOT / "train.py"), *overrides],
        cwd=train.folder,
        env=train.environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("run", [in_forks, pytest.param(torchrun, marks=pytest.mark.slow)])
def test_two_processes_train_the_same_run_as_one(
    new_folder: Callable[[str], CommandLine], run: Callable[..., str]
) -> None:
    two, one = new_folder("two"), new_folder("one")
    output = run(two, *COMPARED)
    assert output.count("complete: ") == 1
    assert "cpu, fp32, 1 thread, 2 processes" in output
    one(*COMPARED)
    assert two.only_run.name == one.only_run.name  # the same run
    assert read_state(two.only_run)["compute"]["processes"] == 2
    rows, expected = read_rows(two.only_run), read_rows(one.only_run)
    assert len(rows) == len(expected) == 3
    for row, other in zip(rows, expected, strict=True):
        # rounding causes up to 1e-4; batch statistics of a single process would cause 0.1
        assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-3)
        assert row["test_loss"] == pytest.approx(other["test_loss"], abs=1e-3)
        assert row["train_accuracy"] == pytest.approx(other["train_accuracy"], abs=1.5 / 161)
        assert row["test_accuracy"] == pytest.approx(other["test_accuracy"], abs=1.5 / 83)
    weights, others = (load_file(run / "model.safetensors") for run in (two.only_run, one.only_run))
    assert weights.keys() == others.keys()
    for name, values in weights.items():
        torch.testing.assert_close(values, others[name], rtol=5e-3, atol=5e-3)
    assert "finished before, not repeated" in in_forks(two, *COMPARED)


def test_two_processes_keep_the_best_epoch_and_stop_early_together(train: CommandLine) -> None:
    settings = ("epochs=8", "training.keep=best", "training.patience=2", "data.val_fraction=0.5")
    output = in_forks(
        train, *TINY[:5], *settings, "device=cpu", "optimizer=sgd", "lr=0.3", "logger=none"
    )
    rows, state = read_rows(train.only_run), read_state(train.only_run)
    best = best_epoch([row["val_accuracy"] for row in rows])
    assert (state["epoch_kept"], state["epoch_stopped"]) == (best, best + 2)
    assert len(rows) == best + 2 < 8
    assert f"; stopped after epoch {best + 2}; weights of epoch {best}" in output
    # the weights of the best epoch give its validation accuracy in one process
    evaluated = train.cifar_exp("evaluate", train.only_run.name)
    assert f"equal those of the run after epoch {best}" in evaluated


def test_a_signal_to_one_process_stops_all_and_one_process_can_resume(
    train: CommandLine,
) -> None:
    with Hold(train.folder, 3) as hold, together(train, 2, *LONG) as processes:
        hold.wait(processes[0], processes=2)
        processes[1].send_signal(signal.SIGTERM)
        hold.release()
        outputs = [process.communicate(timeout=LONGEST_WAIT_SECONDS) for process in processes]
        assert [process.returncode for process in processes] == [143, 143]
    assert "Interrupted. Run the same command again" in outputs[0][1]
    assert outputs[1] == ("", "")
    assert "started with 2 processes, resuming with 1" in train(*LONG)
    log = (train.only_run / "train.log").read_text()
    assert "resumed after epoch 0, step " in log
    assert times_started(train.only_run) == 1
    assert [row["epoch"] for row in computed(train.only_run)] == [1, 2]


def test_a_run_fails_with_the_reason_when_a_process_dies(train: CommandLine) -> None:
    with Hold(train.folder, 3) as hold, together(train, 2, *LONG) as processes:
        hold.wait(processes[0], processes=2)
        processes[1].kill()
        hold.release()
        _, err = processes[0].communicate(timeout=LONGEST_WAIT_SECONDS)
        assert processes[0].returncode == 1
    assert "another process of this run has ended" in err
    state = read_state(train.only_run)
    assert state["status"] == "failed"
    assert "another process of this run has ended" in state["reason"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("optimizer.lr=-1",), "optimizer.lr: expected a number greater than 0, got -1"),
        (("batch_size=999",), "data.batch_size: expected at most the 160 training images, got 999"),
        (("-m", "seed=0,1"), "torchrun: expected one run and no -m"),
        (("experiment=search_demo",), "torchrun: expected one run and no -m"),
    ],
)
def test_a_mistake_is_reported_once(
    train: CommandLine, overrides: tuple[str, ...], message: str
) -> None:
    with together(train, 2, *TINY, *overrides) as processes:
        _, err = processes[0].communicate(timeout=LONGEST_WAIT_SECONDS)
        assert processes[0].returncode == 1
        assert message in err
        assert len(err.splitlines()) == 1
        processes[1].send_signal(signal.SIGTERM)  # as torchrun does
        assert processes[1].communicate(timeout=LONGEST_WAIT_SECONDS) == ("", "")
    assert not train.runs.exists()
