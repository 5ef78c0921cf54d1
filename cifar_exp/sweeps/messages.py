"""What a sweep and its worker processes say to each other. Nothing here needs PyTorch."""

from dataclasses import dataclass

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps.allocation import Part
from cifar_exp.training.progress import EpochMetrics, Progress


@dataclass(frozen=True)
class Checked:
    """From a process that checks runs: what is wrong, if anything, and each worker's part.

    `kept_bytes` is what the last checkpoints of the runs will take on disk.
    """

    problem: str | None
    parts: tuple[Part, ...] = ()
    kept_bytes: int = 0


@dataclass(frozen=True)
class Train:
    """To a worker: bring a run to its end; `prefix_runs` are handed over on the way."""

    run: int
    config: RunConfig
    prefix_runs: tuple[RunConfig, ...]


@dataclass(frozen=True)
class Stop:
    """To a worker: stop all runs at the next step, for this signal."""

    signal_number: int


@dataclass(frozen=True)
class Leave:
    """To a worker: stop this run at its next step, since it is not worth going on."""

    run: int


@dataclass(frozen=True)
class Ready:
    """From a worker: it wants one more run."""


@dataclass(frozen=True)
class ProgressReport:
    """From a worker: how far a run is."""

    run: int
    event: Progress | EpochMetrics


@dataclass(frozen=True)
class Ended:
    """From a worker: a run is over.

    `problem` says what went wrong, if anything; `busy` that another process is training it.
    """

    run: int
    problem: str | None = None
    busy: bool = False
    interrupted: bool = False
    disk_full: bool = False
    out_of_memory: bool = False


@dataclass(frozen=True)
class Warned:
    """From a worker: something the user should see."""

    text: str


@dataclass(frozen=True)
class Died:
    """Of a worker: its process has ended, and with it these runs."""

    reason: str
    runs: tuple[int, ...]


FromWorker = Checked | Ready | ProgressReport | Ended | Warned | Died
