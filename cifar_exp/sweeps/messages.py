"""Messages between a sweep and its worker processes (no PyTorch import)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.needs import Needs
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.training.progress import Event


@dataclass(frozen=True)
class Checked:
    """From the process that checks runs: the result of the check.

    Attributes:
        problem: why the runs cannot be trained; None if they can.
        allocations: allocation of each worker.
        needs: what the runs need.
        threads: CPU threads of each run, 0 on a GPU.
        hardware: the hardware of this machine, as run.json has it.
    """

    problem: str | None
    allocations: tuple[Allocation, ...] = ()
    needs: Needs = field(default_factory=Needs)
    threads: tuple[int, ...] = ()
    hardware: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """From a process that measures a run: the speed of its steps.

    Attributes:
        train_seconds: seconds per training image.
        test_seconds: seconds per evaluated image.
        memory: peak memory in bytes.
    """

    train_seconds: float
    test_seconds: float
    memory: int


@dataclass(frozen=True)
class Train:
    """To a worker: train a run, and hand over checkpoints to its `prefix_runs`."""

    run: int
    config: RunConfig
    prefix_runs: tuple[RunConfig, ...]


@dataclass(frozen=True)
class StopAll:
    """To a worker: stop all runs at their next step because of a signal, and end."""

    signal_number: int


@dataclass(frozen=True)
class StopRun:
    """To a worker: stop a run at its next step because it was pruned."""

    run: int


@dataclass(frozen=True)
class Ready:
    """From a worker: it can take one more run."""


@dataclass(frozen=True)
class ProgressReport:
    """From a worker: progress or epoch metrics of a run."""

    run: int
    event: Event


@dataclass(frozen=True)
class Ended:
    """From a worker: a run has ended.

    Attributes:
        run: index of the run.
        problem: why it failed; None if it did not.
        busy: whether another process is training it.
        disk_full: whether it failed because the disk is full.
        out_of_memory: whether it failed because memory ran out.
    """

    run: int
    problem: str | None = None
    busy: bool = False
    disk_full: bool = False
    out_of_memory: bool = False


@dataclass(frozen=True)
class Warned:
    """From a worker: a warning for the user."""

    text: str


@dataclass(frozen=True)
class Died:
    """About a worker: its process has ended while it trained `runs`."""

    reason: str
    runs: tuple[int, ...]


FromWorker = Checked | Measured | Ready | ProgressReport | Ended | Warned | Died
