"""Results in Python: the runs of a folder or a sweep, and their numbers as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cifar_exp.config.identity import all_settings, run_id
from cifar_exp.config.metrics import COLUMNS
from cifar_exp.errors import UserError
from cifar_exp.paths import RUNS, SEARCH_FILE
from cifar_exp.reports.metrics import MEASURES, measured
from cifar_exp.reports.records import (
    read_records,
    read_runs,
    read_search,
    read_sweep,
    runs_of_search,
)
from cifar_exp.runs.find import RESULTS, find_sweep, run_folders
from cifar_exp.runs.record import Record

if TYPE_CHECKING:
    import pandas

# The numbers of a whole run in a data frame; claims of studies use the same names.
_SUMMARY = [
    *(name for name in MEASURES if name.startswith(("final_", "best_"))),
    *("seconds", "images_per_second", "peak_memory_bytes"),
]
_HISTORY = ["run_id", "name", "epoch", *COLUMNS]
_NULLABLE = {int: "Int64", bool: "boolean"}  # pandas types with missing values


@dataclass(frozen=True)
class Run:
    """A run on the disk, as its folder records it.

    Attributes:
        record: its settings, state and metrics as they are stored.
    """

    record: Record

    @cached_property
    def id(self) -> str:
        """Ten hex digits; two runs with the same id compute the same."""
        return run_id(self.record.config)

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.record.folder.path.name

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.record.folder.path

    @property
    def status(self) -> str:
        """One of complete, diverged, interrupted, failed, pending, damaged."""
        return self.record.status

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings that decide what is computed, by dotted key; includes the seed."""
        return all_settings(self.record.config)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, one per epoch; accuracies are fractions, losses in nats."""
        return self.record.rows

    @cached_property
    def summary(self) -> dict[str, float | None]:
        """The numbers of the whole run, such as `final_test_accuracy`; None where it has none."""
        return {name: measured(self.record, name) for name in _SUMMARY}

    def history(self) -> pandas.DataFrame:
        """Return the metrics as a data frame, one row per epoch."""
        return _pandas().DataFrame(self.metrics)

    def __repr__(self) -> str:
        """Return its name, status and number of epochs."""
        return f"<Run {self.name}: {self.status}, {len(self.metrics)} epochs>"


class Runs(Sequence[Run]):
    """Runs that were loaded together, sorted by name.

    Args:
        runs: any number.
        left_out: a line about each run that is missing or cannot be read.
    """

    def __init__(self, runs: Sequence[Run], left_out: Sequence[str] = ()) -> None:
        self._runs = tuple(runs)
        self.left_out = tuple(left_out)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | slice) -> Run | Runs:
        """Return one run, or the runs of a slice."""
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        """Return how many runs there are."""
        return len(self._runs)

    def __repr__(self) -> str:
        """Return the number of runs."""
        return f"<{len(self)} runs>"

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with one row per run.

        Columns: `run_id`, `name`, `status`, `epochs` (trained), each setting under its dotted key
        (`optimizer.lr`, `seed`), the numbers of the run (`final_test_accuracy`, a fraction;
        `seconds`), and with `training.keep=best` or `training.patience` `epoch_kept` and
        `epoch_stopped`. Columns that no run has a value for are left out.
        """
        rows = [
            {"run_id": run.id, "name": run.name, "status": run.status, "epochs": len(run.metrics)}
            | run.settings
            | run.summary
            | {name: run.record.state.get(name) for name in ("epoch_kept", "epoch_stopped")}
            for run in self
        ]
        frame = _pandas().DataFrame(rows).dropna(axis=1, how="all")
        for name in frame.columns[frame.isna().any()]:
            # a missing value would turn integers into floats, and booleans into objects
            (kind, *others) = {type(row[name]) for row in rows if row.get(name) is not None}
            if kind in _NULLABLE and not others:
                frame[name] = frame[name].astype(_NULLABLE[kind])
        return frame

    def history(self) -> pandas.DataFrame:
        """Return a data frame with one row per run and epoch; `run_id` and `name` say which run."""
        rows = [{"run_id": run.id, "name": run.name} | row for run in self for row in run.metrics]
        return _pandas().DataFrame(rows, columns=None if rows else _HISTORY)


def load_runs(given: str | Path | None = None, results: str | Path = RESULTS) -> Runs:
    """Load runs with their settings and metrics; needs no PyTorch.

    Args:
        given: a folder of all results, the folder of a sweep, study or search, or its name, id, or
            a unique beginning of one of them, as `python -m cifar_exp ls` prints; None for all of
            `results`. The runs of a search are its trials and those that test the best settings.
        results: folder of all results, where names and ids are looked up.

    Returns:
        The runs, sorted by name. Runs whose files are damaged have the status "damaged" and no
        metrics; a line about each run that cannot be read is in `left_out`.

    Raises:
        UserError: nothing is found, or no run can be read.
    """
    folder = Path(results if given is None else given)
    if given is None or (folder / RUNS).is_dir():
        records, left_out = read_records(run_folders(folder))
    else:
        sweep = find_sweep(str(given), Path(results))
        if (sweep / SEARCH_FILE).is_file():
            found, left_out = read_runs(sweep.parent / RUNS, runs_of_search(read_search(sweep)))
        else:
            found, left_out = read_sweep(sweep)
        records = list(found.values())
    records.sort(key=lambda record: record.folder.path.name)
    return Runs([Run(record) for record in records], left_out)


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise UserError("data frames need pandas: pip install -e '.[notebook]'") from error
    return pandas
