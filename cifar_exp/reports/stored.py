"""What the files of sweeps and searches hold; they may come from elsewhere, so it is checked."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cifar_exp.runs.stored import Count, FolderName, Loss, Stored, Text


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
    first_runs: int | None = Field(None, ge=1)  # of a sweep to which studies add seeds

    @model_validator(mode="after")
    def _lists_the_runs_of_its_studies(self) -> Self:
        known = {run.run_id for run in self.runs}
        if any(run not in known for part in self.studies for run in part.runs):
            raise ValueError("expected the runs of its studies among its `runs`")
        return self


class StoredTrial(Stored):
    """A trial as a search's search.json lists it."""

    number: Count
    status: Literal["complete", "pruned", "diverged", "failed", "running"]
    value: Loss | None
    epochs: Count
    params: dict[Text, int | float | Text]
    run: FolderName | None
    reason: Text


class StoredConfirmation(Stored):
    """A time that a search has touched the test set: the winner, and the folders of the runs."""

    winner: Count
    trials: Count
    found: list[FolderName] = Field(min_length=1)
    start: list[FolderName]


class StoredSearchSettings(Stored):
    """What a search's report tells of its settings."""

    metric: Literal["accuracy", "loss"]
    sampler: Text
    pruner: Text


class StoredSearch(Stored):
    """A search's search.json."""

    id: Text = ""  # searches from before have none
    command: str = Field(max_length=100_000)
    settings: StoredSearchSettings
    space: dict[Text, Text] = Field(min_length=1)
    trials: list[StoredTrial]
    best: Count | None
    importance: dict[Text, Annotated[float, Field(ge=0, le=1.001)]]
    confirmations: list[StoredConfirmation]

    @model_validator(mode="after")
    def _numbers_its_trials(self) -> Self:
        numbers = {trial.number for trial in self.trials if trial.status == "complete"}
        winners = [confirmation.winner for confirmation in self.confirmations]
        if not numbers.issuperset({*winners, self.best} - {None}):
            raise ValueError("expected the winners among its `trials`")
        return self
