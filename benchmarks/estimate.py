"""How well a sweep estimates its remaining time.

    python benchmarks/estimate.py

Trains small sweeps for less than three minutes on two CPU cores, and compares the time left that
the progress bar shows with the time that it took. Run it on a machine without other load.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import product

from tabulate import tabulate

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam
from cifar_exp.schedulers import Constant, Cosine
from cifar_exp.sweeps.run_times import RunTimes
from cifar_exp.sweeps.sweep import run_sweep

MARKS = (0.1, 0.25, 0.5, 0.75)  # fractions of the work
ALLOWED = 0.3  # relative error


@dataclass(frozen=True)
class Moment:
    """An estimate. Attributes: now, left: seconds; done: fraction of the work, in [0, 1]."""

    now: float
    done: float
    left: float


def a_run(epochs: int = 6, width: float = 0.0625, lr: float = 0.001, **data: int) -> RunConfig:
    """Return a run of a few seconds."""
    sizes = {"train_size": 4000, "test_size": 1000} | data
    return RunConfig(
        data=Synthetic(**sizes),
        model=Model(name="vgg11", width=width),
        optimizer=Adam(lr=lr),
        scheduler=Cosine(),
        training=Training(epochs=epochs),
        logger=Logger(tensorboard=False),
        device="cpu",
    )


def sweeps() -> dict[str, list[RunConfig]]:
    """Return the sweeps by name."""
    rates = (0.0001, 0.001, 0.01)
    constant = [a_run(epochs).model_copy(update={"scheduler": Constant()}) for epochs in (4, 8, 16)]
    return {
        "3 equal runs": [a_run(lr=lr) for lr in rates],
        "long and short runs": [a_run(epochs, lr=lr) for epochs, lr in product((2, 12), rates[:2])],
        "shorter runs taken from longer": constant,
        "2 widths, 2 batch sizes": [
            a_run(3, width, batch_size=size) for width, size in product((0.0625, 0.125), (16, 64))
        ],
        "long evaluation": [a_run(4, lr=lr, train_size=2000, test_size=12_000) for lr in rates],
    }


@contextmanager
def recorded() -> Iterator[list[Moment]]:
    """Record all estimates of a sweep in the block."""
    moments: list[Moment] = []
    report = RunTimes.report

    def recording(self: RunTimes, run: int, share: float) -> None:
        report(self, run, share)
        if (left := self.left()) is not None:
            moments.append(Moment(time.monotonic(), self.done, left))

    RunTimes.report = recording  # type: ignore[method-assign]
    try:
        yield moments
    finally:
        RunTimes.report = report  # type: ignore[method-assign]


@contextmanager
def ends(times: list[float]) -> Iterator[None]:
    """Record when runs end."""
    end = RunTimes.end

    def recording(self: RunTimes, run: int) -> None:
        end(self, run)
        times.append(time.monotonic())

    RunTimes.end = recording  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunTimes.end = end  # type: ignore[method-assign]


def measure(name: str, configs: list[RunConfig]) -> list[list[object]]:
    """Train a sweep, and return the rows of its table."""
    ended: list[float] = []
    with tempfile.TemporaryDirectory() as folder, recorded() as moments, ends(ended):
        paths = Paths(results=folder)
        with redirect_stdout(StringIO()):
            run_sweep([config.model_copy(update={"paths": paths}) for config in configs])
    rows: list[list[object]] = []
    for mark in MARKS:
        moment = next(moment for moment in moments if moment.done >= mark)
        actual = ended[-1] - moment.now
        rows.append([name, f"{moment.done:.0%}", moment.left, actual, moment.left / actual])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="measure only the sweeps whose name contains this")
    only = parser.parse_args().only or ""
    rows = [
        row for name, configs in sweeps().items() if only in name for row in measure(name, configs)
    ]
    header = ("sweep", "done", "estimated s", "actual s", "ratio")
    print(tabulate(rows, header, floatfmt=".2f"))
    worst = max(abs(float(str(row[-1])) - 1) for row in rows)
    verdict = "within" if worst <= ALLOWED else "not within"
    print(f"\nlargest error {worst:.0%}: {verdict} {ALLOWED:.0%}")


if __name__ == "__main__":
    main()
