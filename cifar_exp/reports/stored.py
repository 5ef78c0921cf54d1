"""What the file of a sweep holds, with types and ranges: it may come from elsewhere."""

from typing import Any, Self

from pydantic import Field, model_validator

from cifar_exp.runs.stored import FolderName, Stored, Text


class _Listed(Stored):
    run_id: Text
    folder: FolderName


class _Part(Stored):
    study: dict[str, Any]
    runs: list[str] = Field(min_length=1)


class StoredSweep(Stored):
    """A sweep's sweep.json."""

    command: str = Field(max_length=100_000)
    runs: list[_Listed] = Field(min_length=1)
    studies: list[_Part] = Field(default_factory=list)

    @model_validator(mode="after")
    def _lists_the_runs_of_its_studies(self) -> Self:
        known = {run.run_id for run in self.runs}
        if any(run not in known for part in self.studies for run in part.runs):
            raise ValueError("expected the runs of its studies among its `runs`")
        return self
