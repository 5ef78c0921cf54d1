"""What a sweep will train and what that costs: time, disk and memory (no PyTorch import)."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cifar_exp.config.identity import all_settings, can_be_continued, prefix_id, run_id
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.paths import CHECKPOINTS, RUNS
from cifar_exp.runs.continuing import Shorter, shorter_run
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.needs import Needs
from cifar_exp.sweeps.allocation import Allocation, known_concurrent
from cifar_exp.sweeps.run_times import shape
from cifar_exp.sweeps.speeds import SECONDS_TO_MEASURE, Speeds, duration, in_time
from cifar_exp.terminal import USUAL_COLUMNS, columns, printable, table, wrapped

NOTHING_WRITTEN = "Nothing was trained or written."
_MAX_ROWS = 24
_MAX_VARIED = 3  # keys with a column each


@dataclass
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
    def is_stuck(self) -> bool:
        """Whether the run will fail, since its files do not suffice to resume it."""
        damaged = self.status == "damaged" and not self.config.rerun
        return self.config.resume != "fresh" and (damaged or self._lacks_checkpoints)

    @property
    def is_trained(self) -> bool:
        """Whether the run will be trained."""
        return not self.is_finished and not self.is_stuck

    @cached_property
    def epochs_before(self) -> int:
        """Number of epochs that are not trained."""
        epochs = self.config.training.epochs
        if self.is_finished or self.longer:
            return epochs
        if self.shorter and not self.shorter.problem:
            return self.shorter.epochs
        return (
            0
            if self.config.rerun or self._restarts
            else min(epochs, len(self.folder.read_metrics()))
        )

    @property
    def _restarts(self) -> bool:
        """Whether it could only be trained from its first epoch."""
        return self.status == "damaged" or self._lacks_checkpoints

    @cached_property
    def _lacks_checkpoints(self) -> bool:
        if self.status not in ("interrupted", "failed"):  # one that trains may have none yet
            return False
        checkpoints = self.folder.path / CHECKPOINTS
        return len(self.folder.read_metrics()) > 1 and not any(checkpoints.glob("*.pt"))

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
        if self.status == "pending":
            return "new"
        if self.config.rerun:
            return "repeated"
        if self.is_stuck:
            return "cannot be resumed"
        if self._restarts:
            return "restarts"
        if self.status in ("interrupted", "failed"):
            return f"{self.status} after epoch {self.epochs_before}"
        return self.status


def plan_runs(runs: Sequence[tuple[RunConfig, RunFolder]]) -> list[PlannedRun]:
    """Return the runs of a sweep with what is on disk. Nothing is written.

    Args:
        runs: settings and folder of each run, at least one.
    """
    planned = [PlannedRun(config, folder, folder.status) for config, folder in runs]
    pending = [run for run in planned if not run.is_finished]
    new = [run for run in pending if run.status == "pending" and not run.config.rerun]
    stored = RunFolder.by_id(as_path(runs[0][0].paths.results) / RUNS) if new else {}
    by_id = {run_id(run.config): run.config for run in planned}
    for run in new:
        began = by_id.get(run.folder.read_state().get("began_as", ""))
        if began and began.training.epochs > run.config.training.epochs:
            run.longer = began  # which has saved its checkpoint
        else:
            run.shorter = shorter_run(run.config, stored)
    for long, shorter in find_prefix_runs(pending).items():
        for short in shorter:
            pending[short].longer = pending[long].config
    return planned


def find_prefix_runs(runs: Sequence[PlannedRun]) -> dict[int, list[int]]:
    """Find the runs that equal the first epochs of longer runs, which are still to be trained.

    Args:
        runs: the runs to train.

    Returns:
        For each longer run the indices of its shorter runs, the shortest last.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        if can_be_continued(run.config):
            same[prefix_id(run.config)].append(index)
    found: dict[int, list[int]] = {}
    for indices in same.values():
        longer: list[int] = []
        for index in sorted(indices, key=lambda i: runs[i].config.training.epochs, reverse=True):
            long = next((long for long in longer if _hands_over(runs[long], runs[index])), index)
            if long == index:
                longer.append(index)
            else:
                found.setdefault(long, []).append(index)
    return found


def _hands_over(long: PlannedRun, short: PlannedRun) -> bool:
    """Return whether a run will save, or has saved, the checkpoint of a shorter one."""
    if short.status != "pending" or short.config.rerun or long.is_stuck:
        return False
    will = short.config.training.epochs > long.epochs_before
    return will or short.folder.read_state().get("began_as") == run_id(long.config)


@dataclass(frozen=True)
class Forecast:
    """What a sweep will train, and what that costs.

    Attributes:
        runs: all runs.
        varied: keys in which they differ, without the seed.
        needs: space and images of the runs to train.
        allocations: allocation of each worker; empty if each run is a job.
        speeds: times of their epochs; None if they are not known.
        added: runs that the sweep may add until its claims are settled.
    """

    runs: Sequence[PlannedRun]
    varied: Sequence[str]
    needs: Needs
    allocations: Sequence[Allocation]
    speeds: Speeds | None
    added: Sequence[RunConfig] = ()

    @property
    def pending(self) -> list[PlannedRun]:
        """The runs to train."""
        return [run for run in self.runs if run.is_trained]

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
            time = duration(configs, self.speeds, len(self.allocations), shares)
            parts[0] += f"; about {time}"
            if self.added:
                shares += [0.0] * len(self.added)
                possible, workers = [*configs, *self.added], len(self.allocations)
                most = duration(possible, self.speeds, workers, shares)
                parts[0] += f", at most {in_time(most.high)} with {len(self.added)} more runs"
        if pending:
            parts += [in_bytes(self.needs.disk_bytes)]
            parts += [at_once(self.allocations, len(pending))]
        if stuck := sum(run.is_stuck for run in self.runs):
            parts += [
                f"{stuck} cannot be resumed; resume=fresh restarts {'them' if stuck > 1 else 'it'}"
            ]
        return ", ".join(parts)

    def _table(self) -> str:
        grouped: dict[tuple[str, ...], list[PlannedRun]] = defaultdict(list)
        for run, levels in zip(self.runs, self._levels, strict=True):
            grouped[(*self._cells(levels), run.start)].append(run)
        rows = [self._row(key, runs) for key, runs in grouped.items()]
        names = short_names(list(self.varied))
        header = ["settings"] if self._usual else names
        left = "epochs left" if "epochs" in header else "epochs"
        header = [*header, "start", "seeds", left, "steps"]
        header += ["time each"] * (self.speeds is not None)
        text = table(rows[:_MAX_ROWS], header, columns() or USUAL_COLUMNS)
        more = len(rows) - _MAX_ROWS
        return text + (f"\n... and {more} more rows" if more > 0 else "")

    @cached_property
    def _levels(self) -> list[dict[str, str]]:
        """The values of the varied keys of each run, by short name."""
        names = short_names(list(self.varied))
        flat = (all_settings(run.config) for run in self.runs)
        return [
            {name: str(of_run.get(key, "")) for name, key in zip(names, self.varied, strict=True)}
            for of_run in flat
        ]

    @cached_property
    def _usual(self) -> dict[str, str]:
        """The most common values, if too many keys vary for a column each; else empty."""
        if len(self.varied) <= _MAX_VARIED:
            return {}
        names = self._levels[0]
        return {
            name: Counter(levels[name] for levels in self._levels).most_common(1)[0][0]
            for name in names
        }

    def _cells(self, levels: Mapping[str, str]) -> list[str]:
        if not self._usual:
            return list(levels.values())
        differing = {name: value for name, value in levels.items() if value != self._usual[name]}
        return [", ".join(f"{name}={value}" for name, value in differing.items()) or "usual"]

    def _row(self, key: Sequence[str], runs: Sequence[PlannedRun]) -> list[str]:
        run = runs[0]
        epochs = run.config.training.epochs - run.epochs_before if run.is_trained else 0
        cells = [*key, _numbers([run.config.seed for run in runs]), str(epochs)]
        cells.append(f"{self._steps_of(run):,}" if epochs else "")
        if self.speeds is not None:
            cells.append(in_time(epochs * self.speeds.epoch(run.config).expected) if epochs else "")
        return cells

    @cached_property
    def _train_sizes(self) -> dict[str, int]:
        shapes = (shape(run.config) for run in self.pending)
        sizes = (contents.train_size for contents in self.needs.contents)
        return dict(zip(shapes, sizes, strict=True))

    def _steps_of(self, run: PlannedRun) -> int:
        per_epoch = -(-self._train_sizes[shape(run.config)] // run.config.data.batch_size)
        return per_epoch * (run.config.training.epochs - run.epochs_before)

    def _details(self) -> Iterator[str]:
        if self._usual:
            yield f"usual:  {', '.join(f'{name}={value}' for name, value in self._usual.items())}"
        yield f"steps:  {sum(map(self._steps_of, self.pending)):,} in total"
        results = as_path(self.runs[0].config.paths.results).absolute()
        if self.speeds is not None:
            yield f"time:   from {self.speeds.source}"
        elif self.allocations:  # jobs train on other machines
            yield f"time:   not known; a few steps took longer than {SECONDS_TO_MEASURE:.0f} s"
        existing = next(path for path in (results, *results.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        yield f"disk:   {in_bytes(self.needs.disk_bytes)}, {in_bytes(free)} are free"
        if self.speeds is not None:
            memory = max(self.speeds.epoch(run.config).memory for run in self.pending)
            of_gpu = f" of the GPU{'s' * (len(self.allocations) > 1)}" * self.speeds.on_gpu
            concurrent = known_concurrent(self.allocations, len(self.pending))
            of_each = " for each run" * (concurrent is None)
            yield f"memory: about {in_bytes(memory * (concurrent or 1))}{of_gpu}{of_each}"


def at_once(allocations: Sequence[Allocation], to_train: int) -> str:
    """Return how many runs are trained at once, in words.

    Args:
        allocations: allocation of each worker; empty if each run is a job.
        to_train: number of runs to train.
    """
    if not allocations:
        return "each as a job"
    concurrent = known_concurrent(allocations, to_train)
    return "as many at once as is fastest" if concurrent is None else f"{concurrent} at once"


def _numbers(numbers: Collection[int]) -> str:
    """Return "0, 1, 2" or "0 to 9"."""
    ordered = sorted(numbers)
    first, last = ordered[0], ordered[-1]
    if len(ordered) > 2 and ordered == list(range(first, last + 1)):
        return f"{first} to {last}"
    return ", ".join(map(str, ordered))
