"""Records: the checked content of a run's files."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.config.metrics import evaluated, with_defaults
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.paths import CONFIG_FILE, STATE_FILE
from cifar_exp.runs.folder import ENDED, PENDING, RunFolder
from cifar_exp.runs.results import Results
from cifar_exp.runs.stored import StoredRun, check, check_rows
from cifar_exp.runs.trust import config_problem, has_sums


@dataclass(frozen=True)
class Record:
    """The checked content of a run's files.

    Attributes:
        config: settings of the run.
        folder: folder of the run.
        status: same as `RunFolder.status`.
        state: content of run.json.
        rows: lines of metrics.jsonl with the current column names, None for missing values;
            empty if the run is damaged.
        problem: why the run is damaged; "" if it is not.
    """

    config: RunConfig
    folder: RunFolder
    status: str
    state: dict[str, Any]
    rows: list[dict[str, Any]]
    problem: str = ""

    @property
    def evaluated_on(self) -> str:
        """The split that is evaluated after each epoch, "test" or "validation"."""
        return self.config.data.evaluated_on

    @property
    def results(self) -> Results:
        """The results computed from `rows`."""
        return Results(self.rows, self.evaluated_on)

    def evaluated(self, name: str) -> str:
        """Return the column of a metric of the evaluated split, for example "test_accuracy"."""
        return evaluated(name, self.evaluated_on)


def tested_images(record: Record) -> int | None:
    """Return the number of images in the evaluated split; None if it is unknown."""
    data, stored = record.config.data, record.state.get("evaluated_images")
    if isinstance(stored, int):
        return stored
    if data.sizes is None:  # custom data of an early version, which did not store the number
        return data.limit_test if data.evaluated_on == "test" else None
    train, test = data.sizes
    if data.evaluated_on == "validation":
        return round(data.val_fraction * min(train, data.limit_train or train))
    return min(test, data.limit_test or test)


def fewest(counts: Iterable[int | None]) -> int | None:
    """Return the smallest of the known numbers; None if none is known."""
    return min((count for count in counts if count), default=None)


def read_record(folder: RunFolder) -> Record:
    """Read and check the files of a run.

    Raises:
        UserError: a file cannot be read, has invalid values or belongs to another run.
    """
    config, state, rows = folder.read_config(), folder.read_state(), folder.read_metrics()
    file = folder.path / STATE_FILE
    if state == PENDING and (os.path.lexists(file) or rows):
        raise UserError(
            f"{file}: expected readable JSON. "
            "Run the command that trained the run again to rebuild the file."
        )
    check(StoredRun, state, file)
    status, problem = folder.status_and_problem(state, rows)
    if not problem:
        check_rows(rows, folder.metrics_file)
    changed = problem if problem.startswith(CONFIG_FILE) else ""
    if changed := changed or config_problem(folder.path, config, state):
        raise UserError(f"{folder.path}: {changed}, so its settings are unknown")
    rows = [] if problem else [with_defaults(row, config.data.evaluated_on) for row in rows]
    return Record(config, folder, status, state, rows, problem)


def remarks(records: Sequence[Record]) -> list[str]:
    """Return a line for each damaged run, and one for all runs whose files cannot be checked."""
    lines = [
        f"{record.folder.path}: {record.problem}; its results are not used"
        for record in records
        if record.problem
    ]
    unchecked = sum(r.status in ENDED and not has_sums(r.state) for r in records)
    if unchecked:
        count = f"{unchecked} runs have" if unchecked > 1 else "1 run has"
        lines.append(f"{count} no sha256 sums in run.json, so the files are not checked")
    return lines
