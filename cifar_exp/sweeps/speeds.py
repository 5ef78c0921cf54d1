"""The time of runs: of finished runs, or measured on a few steps (no PyTorch import)."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Contents
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.paths import RUNS
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.record import Record, read_record
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import Checked, Measured
from cifar_exp.sweeps.run_times import RunTimes, expected_cost, image_counts, shape
from cifar_exp.sweeps.worker import measure
from cifar_exp.sweeps.worker_pool import Worker

SECONDS_TO_MEASURE = 12.0  # of each of two runs
_MAX_READ = 500  # of finished runs, the newest first
_ENOUGH_READ = 5  # finished runs of a shape
# Relative half-widths of intervals: of finished runs, of measured steps, of other shapes.
_STORED, _MEASURED, _SCALED = 0.15, 0.3, 0.6
_SECONDS_AROUND_SWEEP = 10.0  # start of the workers, and the report
# Settings of the data without effect on the number of training images.
_OF_BATCHES = ("batch_size", "augment", "cutout", "test_flip", "normalize", "image_size")


@dataclass(frozen=True)
class Duration:
    """Expected seconds and their interval."""

    low: float
    expected: float
    high: float

    def __str__(self) -> str:
        """For example "25 min (20 to 33)"."""
        divisor, unit, digits = _unit(self.expected)
        low, expected, high = (
            f"{value / divisor:.{digits}f}" for value in (self.low, self.expected, self.high)
        )
        return f"{expected} {unit} ({low} to {high})"


@dataclass(frozen=True)
class EpochTime(Duration):
    """The time of an epoch, and the memory of the run in bytes."""

    memory: int = 0

    @staticmethod
    def around(seconds: float, width: float, memory: int = 0) -> "EpochTime":
        """Return a time with a relative half-width."""
        return EpochTime(seconds / (1 + width), seconds, seconds * (1 + width), memory)


@dataclass
class Speeds:
    """The time of an epoch by the shape of a run.

    Attributes:
        on_gpu: whether the runs train on a GPU.
        known: times by shape; see `run_times.shape`.
        source: where they are from, in words.
        sizes: numbers of training images, if they are known; see `_images`.
    """

    on_gpu: bool
    known: dict[str, EpochTime] = field(default_factory=dict)
    source: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    _costs: dict[str, float] = field(default_factory=dict)

    def add(self, config: RunConfig, time: EpochTime) -> None:
        """Add the time of an epoch of a run."""
        self.known[shape(config)] = time
        self._costs[shape(config)] = self.cost(config)

    def cost(self, config: RunConfig) -> float:
        """Return the expected relative time of an epoch of a run."""
        size = self.sizes.get(_images(config))
        return expected_cost(config, self.on_gpu, size) / config.training.epochs

    def epoch(self, config: RunConfig) -> EpochTime:
        """Return the time of an epoch; for an unknown shape that of the most similar one, scaled.

        Raises:
            UserError: no time is known.
        """
        if (found := self.known.get(shape(config))) is not None:
            return found
        if not self.known:
            raise UserError(
                f"The time of these runs is unknown, since it could not be measured in "
                f"{SECONDS_TO_MEASURE:.0f} s. Leave out plan and budget."
            )
        cost = self.cost(config)
        near = min(self.known, key=lambda other: abs(self._costs[other] / cost - 1))
        time = self.known[near]
        return EpochTime.around(time.expected * cost / self._costs[near], _SCALED, time.memory)

    def seconds(self, config: RunConfig) -> float:
        """Return the expected seconds of all epochs of a run."""
        return self.epoch(config).expected * config.training.epochs


def find_speeds(configs: Sequence[RunConfig], checked: Checked) -> Speeds:
    """Find how long epochs take: in finished runs of the same shape, else measured.

    The largest and the smallest run of unknown shape are measured on a few steps, at most half a
    minute together, with as many processes as the sweep has.

    Args:
        configs: the runs to train.
        checked: result of `check_runs` for these runs.
    """
    speeds = Speeds(checked.allocations[0].gpu is not None)
    shapes = list(map(shape, configs))
    by_shape = dict(zip(shapes, configs, strict=True))
    contents = dict(zip(shapes, checked.needs.contents, strict=True))
    threads = dict(zip(shapes, checked.threads, strict=True))
    speeds.sizes = {_images(it): contents[of].train_size for of, it in by_shape.items()}
    found = _finished(by_shape, threads, checked.hardware)
    for of, times in found.items():
        seconds, memory = zip(*times, strict=True)
        low, high = min(seconds), max(seconds)
        time = EpochTime.around(median(seconds), _STORED, max(memory))
        speeds.add(
            by_shape[of],
            EpochTime(min(low, time.low), time.expected, max(high, time.high), time.memory),
        )
    unknown = sorted((by_shape[of] for of in by_shape if of not in found), key=speeds.cost)
    measured = 0
    for config in unknown[-1:] + unknown[:-1][:1]:
        if found_time := _measured(config, contents[shape(config)], checked.allocations):
            speeds.add(config, found_time)
            measured += 1
    runs = sum(map(len, found.values()))
    of_stored = f"{runs} finished run{'s' * (runs > 1)} of the same shape" if runs else ""
    of_measured = "a few measured steps" if measured else ""
    of_measured += " of the largest and the smallest run" * (measured > 1)
    speeds.source = " and ".join(filter(None, (of_stored, of_measured)))
    return speeds


def _images(config: RunConfig) -> str:
    """Return the settings that determine the training images of a run."""
    settings = config.data.identity()
    return str({key: value for key, value in settings.items() if key not in _OF_BATCHES})


def _finished(
    by_shape: Mapping[str, RunConfig], threads: Mapping[str, int], hardware: Mapping[str, Any]
) -> dict[str, list[tuple[float, int]]]:
    """Return seconds per epoch and memory of finished runs on this hardware, by shape."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for folder in _newest(as_path(next(iter(by_shape.values())).paths.results) / RUNS):
        try:
            record = read_record(folder)
        except UserError:
            continue
        of, results = shape(record.config), record.results
        if of not in by_shape or not _is_comparable(record, threads[of], hardware):
            continue
        if len(found[of]) < _ENOUGH_READ:
            memory = results.peak_memory_bytes or 0
            found[of].append((results.seconds / len(results.rows), memory))
        if len(found) == len(by_shape) and min(map(len, found.values())) == _ENOUGH_READ:
            break
    return found


def _is_comparable(record: Record, threads: int, hardware: Mapping[str, Any]) -> bool:
    """Return whether a run was trained on this hardware alone, in one process with some threads."""
    provenance = record.state.get("provenance")
    if record.status not in ENDED or not record.results.seconds or not provenance:
        return False
    compute = record.state["compute"]
    resources = compute["threads"], compute.get("processes", 1), provenance["hardware"]
    moved = any(p["provenance"]["hardware"] != hardware for p in record.state.get("earlier", ()))
    return bool(resources == (threads, 1, hardware)) and not moved


def _newest(runs: Path) -> Iterator[RunFolder]:
    entries = list(os.scandir(runs)) if runs.is_dir() else []
    entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
    return (RunFolder(Path(entry.path)) for entry in entries[:_MAX_READ])


def _measured(
    config: RunConfig, contents: Contents, allocations: Sequence[Allocation]
) -> EpochTime | None:
    """Measure a run in as many processes as the sweep has; None if it takes too long."""
    end = time.monotonic() + SECONDS_TO_MEASURE
    workers = [Worker(measure, config, contents, each) for each in allocations]
    try:
        answers = [
            worker.receive()
            for worker in workers
            if worker.connection.poll(max(0.0, end - time.monotonic()))
        ]
    finally:
        for worker in workers:
            worker.kill()
    speeds = [answer for answer in answers if isinstance(answer, Measured)]
    if not speeds:
        return None
    train, test = image_counts(config, contents.train_size)
    seconds = [train * s.train_seconds + test * s.test_seconds for s in speeds]
    return EpochTime.around(median(seconds), _MEASURED, max(s.memory for s in speeds))


def _unit(seconds: float) -> tuple[float, str, int]:
    if seconds < 100:
        return 1.0, "s", 0
    if seconds < 100 * 60:
        return 60.0, "min", 0 if seconds > 600 else 1
    return (3600.0, "h", 1) if seconds < 48 * 3600 else (86400.0, "days", 1)


def in_time(seconds: float) -> str:
    """Format a time: "40 s", "25 min" or "3.2 h"."""
    divisor, unit, digits = _unit(seconds)
    return f"{seconds / divisor:.{digits}f} {unit}"


def duration(
    configs: Sequence[RunConfig],
    speeds: Speeds,
    at_once: int,
    shares: Sequence[float] = (),
) -> Duration:
    """Return how long a sweep of runs takes.

    Args:
        configs: the runs to train.
        speeds: times of their epochs.
        at_once: number of concurrent runs.
        shares: fraction of each run that was trained before; empty for none.
    """
    if not configs:
        return Duration(0.0, 0.0, 0.0)

    def seconds(bound: str, around: float) -> float:
        def cost_of(config: RunConfig) -> float:
            epoch: float = getattr(speeds.epoch(config), bound)
            return epoch * config.training.epochs

        times = RunTimes.of(configs, cost_of, shares, in_seconds=True)
        return around * _SECONDS_AROUND_SWEEP + (times.left(at_once) or 0.0)

    return Duration(seconds("low", 0.5), seconds("expected", 1.0), seconds("high", 1.5))
