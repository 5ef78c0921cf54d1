"""A run as its folder tells it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import evaluated, with_defaults
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.paths import STATE_FILE
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.results import Results
from cifar_exp.runs.stored import StoredRun, check, check_rows


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it.

    Attributes:
        config: its settings.
        folder: where it is.
        status: as `RunFolder.status`.
        state: run.json.
        rows: the lines of metrics.jsonl under the names of today, None for values that they lack;
            none if the run is damaged.
        problem: why it is damaged, if it is.
    """

    config: RunConfig
    folder: RunFolder
    status: str
    state: dict[str, Any]
    rows: list[dict[str, Any]]
    problem: str = ""

    @property
    def evaluated_on(self) -> str:
        """The images that it is evaluated on after each epoch, "test" or "validation"."""
        return self.config.data.evaluated_on

    @property
    def results(self) -> Results:
        """What its rows come to."""
        return Results(self.rows, self.evaluated_on)

    def evaluated(self, name: str) -> str:
        """Return the column of a metric on the evaluated images. Args: name: of the metric."""
        return evaluated(name, self.evaluated_on)


def tested_images(record: Record) -> int | None:
    """Return how many images the accuracies of a run are shares of; None if that is not known."""
    data, stored = record.config.data, record.state.get("evaluated_images")
    if isinstance(stored, int):
        return stored
    if data.sizes is None:  # a run from before the number was kept, on custom images
        return data.limit_test if data.evaluated_on == "test" else None
    train, test = data.sizes
    if data.evaluated_on == "validation":
        return round(data.val_fraction * min(train, data.limit_train or train))
    return min(test, data.limit_test or test)


def fewest(counts: Iterable[int | None]) -> int | None:
    """Return the smallest of the numbers that are known."""
    return min((count for count in counts if count), default=None)


def read_record(folder: RunFolder) -> Record:
    """Read a run's folder.

    Raises:
        UserError: its files cannot be read, or hold something else.
    """
    config, state, rows = folder.read_config(), folder.read_state(), folder.read_metrics()
    file = folder.path / STATE_FILE
    if not folder.has_state and (os.path.lexists(file) or rows):  # it comes before the first epoch
        raise UserError(
            f"{file}: expected readable JSON; run the command that trained the run again, "
            "which restores the file"
        )
    check(StoredRun, state, file)
    check_rows(rows, folder.metrics_file)
    folder.check_config(config, state)
    status, problem = folder.judged(state, rows)
    # what cannot be trusted is in no number and no curve
    rows = [] if problem else [with_defaults(row, config.data.evaluated_on) for row in rows]
    return Record(config, folder, status, state, rows, problem)


def remarks(records: Sequence[Record]) -> list[str]:
    """Return a line about each run that cannot be trusted, and about those that have no sums."""
    lines = [
        f"{record.folder.path}: {record.problem}; its results are not used"
        for record in records
        if record.problem
    ]
    before = sum(r.status in ENDED and not r.folder.has_sums(r.state) for r in records)
    if before:
        count = f"{before} runs were" if before > 1 else "1 run was"
        lines.append(f"{count} trained before sha256 sums were kept, so the files are not checked")
    return lines
