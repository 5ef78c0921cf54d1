"""What a sweep will train and what that costs: time, disk and memory (no PyTorch import)."""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

from cifar_exp.config.identity import all_settings
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Contents
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.paths import RUNS
from cifar_exp.runs.continuing import Shorter, shorter_run
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.needs import Needs
from cifar_exp.runs.record import read_record
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import Checked, Measured
from cifar_exp.sweeps.run_queue import find_prefix_runs
from cifar_exp.sweeps.run_times import RunTimes, expected_cost, image_counts, shape
from cifar_exp.sweeps.worker import measure
from cifar_exp.sweeps.worker_pool import Worker
from cifar_exp.terminal import columns, printable, table, wrapped

_SECONDS_TO_MEASURE = 12.0  # of each of two runs
_MAX_READ = 500  # of finished runs, the newest first
_ENOUGH_READ = 5  # finished runs of a shape
# Relative half-widths of intervals: of finished runs, of measured steps, of other shapes.
_STORED, _MEASURED, _SCALED = 0.15, 0.3, 0.6
_SECONDS_AROUND_SWEEP = 10.0  # start of the workers, and the report
NOTHING_WRITTEN = "Nothing was trained or written."
_USUAL_COLUMNS = 80
_MAX_ROWS = 24


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep before the sweep starts.

    Attributes:
        config: settings of the run.
        folder: folder of the run.
        status: status of the run.
        shorter: complete shorter run that it would continue; None if there is none.
        longer: longer run of the sweep whose first epochs it equals; None if there is none.
    """

    config: RunConfig
    folder: RunFolder
    status: str
    shorter: Shorter | None = None
    longer: RunConfig | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run is not trained."""
        return self.status in ENDED and not self.config.rerun

    @cached_property
    def epochs_before(self) -> int:
        """Number of epochs that are not trained."""
        epochs = self.config.training.epochs
        if self.is_finished or self.longer:
            return epochs
        if self.shorter and not self.shorter.problem:
            return self.shorter.epochs
        restarts = self.config.rerun or self.status == "damaged"
        return 0 if restarts else min(epochs, len(self.folder.read_metrics()))

    @property
    def share(self) -> float:
        """Fraction of its epochs that are not trained, in [0, 1]."""
        return self.epochs_before / self.config.training.epochs

    @property
    def start(self) -> str:
        """How the run starts, in words."""
        if self.is_finished:
            return "finished before"
        if self.longer:
            return f"taken from epochs={self.longer.training.epochs}"
        if self.status == "pending" and self.epochs_before:
            return f"continues epochs={self.epochs_before}"
        if self.status in ("interrupted", "failed"):
            return f"{self.status} after epoch {self.epochs_before}"
        return "repeated" if self.config.rerun else {"pending": "new"}.get(self.status, self.status)


def plan_runs(runs: Sequence[tuple[RunConfig, RunFolder]]) -> list[PlannedRun]:
    """Return the runs of a sweep with what is on disk. Nothing is written.

    Args:
        runs: settings and folder of each run, at least one.
    """
    planned = [PlannedRun(config, folder, folder.status) for config, folder in runs]
    pending = [run for run in planned if not run.is_finished]
    configs = [run.config for run in pending]
    started = [index for index, run in enumerate(pending) if run.status != "pending"]
    longer = {
        id(pending[short]): configs[long]
        for long, shorter in find_prefix_runs(configs, started).items()
        for short in shorter
    }
    is_new = [run.status == "pending" and not run.config.rerun for run in planned]
    stored = RunFolder.by_id(as_path(runs[0][0].paths.results) / RUNS) if any(is_new) else {}
    return [
        PlannedRun(
            run.config,
            run.folder,
            run.status,
            shorter_run(run.config, stored) if new else None,
            longer.get(id(run)),
        )
        for run, new in zip(planned, is_new, strict=True)
    ]


@dataclass(frozen=True)
class EpochTime:
    """Seconds of an epoch with its interval, and the memory of the run in bytes."""

    low: float
    expected: float
    high: float
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
    """

    on_gpu: bool
    known: dict[str, EpochTime] = field(default_factory=dict)
    source: str = ""
    _costs: dict[str, float] = field(default_factory=dict)

    def add(self, config: RunConfig, time: EpochTime) -> None:
        """Add the time of an epoch of a run."""
        self.known[shape(config)] = time
        self._costs[shape(config)] = self._cost(config)

    def _cost(self, config: RunConfig) -> float:
        return expected_cost(config, self.on_gpu) / config.training.epochs

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
                f"{_SECONDS_TO_MEASURE:.0f} s. Leave out plan and budget."
            )
        cost = self._cost(config)
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
    by_shape = {shape(config): config for config in configs}
    contents = dict(zip(map(shape, configs), checked.needs.contents, strict=True))
    found = _finished(by_shape, checked)
    for of, times in found.items():
        seconds, memory = zip(*times, strict=True)
        low, high = min(seconds), max(seconds)
        time = EpochTime.around(median(seconds), _STORED, max(memory))
        speeds.add(
            by_shape[of],
            EpochTime(min(low, time.low), time.expected, max(high, time.high), time.memory),
        )
    unknown = sorted(
        (by_shape[of] for of in by_shape if of not in found),
        key=lambda config: expected_cost(config, speeds.on_gpu) / config.training.epochs,
    )
    measured = 0
    for config in unknown[-1:] + unknown[:-1][:1]:
        if found_time := _measured(config, contents[shape(config)], checked.allocations):
            speeds.add(config, found_time)
            measured += 1
    runs = sum(map(len, found.values()))
    of_stored = f"{runs} finished run{'s' * (runs > 1)} of the same shape" if runs else ""
    of_measured = {0: "", 1: "a few measured steps"}.get(
        measured, "a few measured steps of the largest and the smallest run"
    )
    speeds.source = " and ".join(filter(None, (of_stored, of_measured)))
    return speeds


def _finished(
    by_shape: Mapping[str, RunConfig], checked: Checked
) -> dict[str, list[tuple[float, int]]]:
    """Return seconds per epoch and memory of finished runs on this hardware, by shape."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    threads = (0, 1, checked.allocations[0].threads)
    for folder in _newest(as_path(next(iter(by_shape.values())).paths.results) / RUNS):
        try:
            record = read_record(folder)
        except UserError:
            continue
        of, results = shape(record.config), record.results
        if record.status not in ENDED or of not in by_shape or not results.seconds:
            continue
        compute, provenance = record.state.get("compute"), record.state.get("provenance")
        if not provenance or provenance["hardware"] != checked.hardware:
            continue
        if compute and compute["threads"] in threads and len(found[of]) < _ENOUGH_READ:
            memory = results.peak_memory_bytes or 0
            found[of].append((results.seconds / len(results.rows), memory))
        if len(found) == len(by_shape) and min(map(len, found.values())) == _ENOUGH_READ:
            break
    return found


def _newest(runs: Path) -> Iterator[RunFolder]:
    entries = list(os.scandir(runs)) if runs.is_dir() else []
    entries.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
    return (RunFolder(Path(entry.path)) for entry in entries[:_MAX_READ])


def _measured(
    config: RunConfig, contents: Contents, allocations: Sequence[Allocation]
) -> EpochTime | None:
    """Measure a run in as many processes as the sweep has; None if it takes too long."""
    end = time.monotonic() + _SECONDS_TO_MEASURE
    workers = [Worker(measure, config, contents, each) for each in allocations]
    try:
        answers = [
            worker.receive()
            for worker in workers
            if worker.connection.poll(max(0.0, end - time.monotonic()))
        ]
    finally:
        for worker in workers:
            worker.end(at_once=True)
    speeds = [answer for answer in answers if isinstance(answer, Measured)]
    if not speeds:
        return None
    train, test = image_counts(config, contents.train_size)
    seconds = [train * s.train_seconds + test * s.test_seconds for s in speeds]
    return EpochTime.around(median(seconds), _MEASURED, max(s.memory for s in speeds))


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


@dataclass(frozen=True)
class Forecast:
    """What a sweep will train, and what that costs.

    Attributes:
        runs: all runs.
        varied: keys in which they differ, without the seed.
        needs: space and images of the runs to train.
        at_once: number of concurrent runs; 0 if each run is a job.
        speeds: times of their epochs; None if they are not known.
        added: runs that the sweep may add until its claims are settled.
    """

    runs: Sequence[PlannedRun]
    varied: Sequence[str]
    needs: Needs
    at_once: int
    speeds: Speeds | None
    added: Sequence[RunConfig] = ()

    @property
    def pending(self) -> list[PlannedRun]:
        """The runs to train."""
        return [run for run in self.runs if not run.is_finished]

    def __str__(self) -> str:
        """Return the answer in one line, a table of the runs, and the sources of the numbers."""
        details = [wrapped(line) for line in self._details()] if self.pending else []
        lines = [wrapped(self._answer()), "", self._table(), "", *details, NOTHING_WRITTEN]
        return printable("\n".join(lines))

    def _answer(self) -> str:
        count, pending = len(self.runs), self.pending
        parts = [f"{count} run{'s' * (count > 1)}, {len(pending)} to train"]
        if pending and self.speeds:
            configs = [run.config for run in pending]
            shares = [run.share for run in pending]
            time = duration(configs, self.speeds, self.at_once, shares)
            parts[0] += f"; about {time}"
            if self.added:
                shares += [0.0] * len(self.added)
                most = duration([*configs, *self.added], self.speeds, self.at_once, shares)
                parts[0] += f", at most {in_time(most.high)} with {len(self.added)} more runs"
        if pending:
            parts += [in_bytes(self.needs.disk_bytes)]
            parts += [f"{self.at_once} at once" if self.at_once else "each as a job"]
        return ", ".join(parts)

    def _table(self) -> str:
        grouped: dict[tuple[str, ...], list[PlannedRun]] = defaultdict(list)
        for run in self.runs:
            flat = all_settings(run.config)
            levels = [str(flat.get(key, "")) for key in self.varied]
            grouped[(*levels, run.start)].append(run)
        rows = [self._row(key, runs) for key, runs in grouped.items()]
        header = [*short_names(list(self.varied)), "start", "seeds", "epochs", "steps"]
        header += ["time each"] * (self.speeds is not None)
        text = table(rows[:_MAX_ROWS], header, columns() or _USUAL_COLUMNS)
        more = len(rows) - _MAX_ROWS
        return text + (f"\n... and {more} more rows" if more > 0 else "")

    def _row(self, key: Sequence[str], runs: Sequence[PlannedRun]) -> list[str]:
        run = runs[0]
        epochs = run.config.training.epochs - run.epochs_before
        cells = [*key, _numbers([run.config.seed for run in runs]), str(epochs)]
        cells.append(f"{self._steps_of(run):,}" if epochs else "")
        if self.speeds is not None:
            seconds = 0 if run.is_finished else epochs * self.speeds.epoch(run.config).expected
            cells.append(in_time(seconds) if epochs else "")
        return cells

    @cached_property
    def _train_sizes(self) -> dict[str, int]:
        shapes = (shape(run.config) for run in self.pending)
        sizes = (contents.train_size for contents in self.needs.contents)
        return dict(zip(shapes, sizes, strict=True))

    def _steps_of(self, run: PlannedRun) -> int:
        if run.is_finished:
            return 0
        per_epoch = -(-self._train_sizes[shape(run.config)] // run.config.data.batch_size)
        return per_epoch * (run.config.training.epochs - run.epochs_before)

    def _details(self) -> Iterator[str]:
        yield f"steps:  {sum(map(self._steps_of, self.pending)):,} in total"
        results = as_path(self.runs[0].config.paths.results).absolute()
        if self.speeds is not None:
            yield f"time:   from {self.speeds.source}"
        existing = next(path for path in (results, *results.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        yield f"disk:   {in_bytes(self.needs.disk_bytes)}, {in_bytes(free)} are free"
        if self.speeds is not None:
            memory = max(self.speeds.epoch(run.config).memory for run in self.pending)
            device = "GPU memory" if self.speeds.on_gpu else "memory"
            yield f"memory: about {in_bytes(memory * self.at_once)} of {device}"


def _numbers(numbers: Collection[int]) -> str:
    """Return "0, 1, 2" or "0 to 9"."""
    ordered = sorted(numbers)
    first, last = ordered[0], ordered[-1]
    if len(ordered) > 2 and ordered == list(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, ordered))
