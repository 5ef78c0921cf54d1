"""Schemas of sweep.json and search.json, against which files of any origin are validated."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cifar_exp.runs.stored import Count, FolderName, Loss, Stored, Text


class _Listed(Stored):
    run_id: Text
    folder: FolderName


class _Study(Stored):
    study: dict[str, Any]
    runs: list[str] = Field(min_length=1)


class StoredSweep(Stored):
    """The content of sweep.json."""

    command: str = Field(max_length=100_000)
    runs: list[_Listed] = Field(min_length=1)
    studies: list[_Study] = Field(default_factory=list)
    first_runs: int | None = Field(None, ge=1)  # only if a study adds seeds

    @model_validator(mode="after")
    def _lists_the_runs_of_its_studies(self) -> Self:
        listed = {run.run_id for run in self.runs}
        if any(run not in listed for study in self.studies for run in study.runs):
            raise ValueError("expected the runs of its studies among its `runs`")
        return self


class StoredTrial(Stored):
    """A trial in search.json."""

    number: Count
    status: Literal["complete", "pruned", "diverged", "failed", "running"]
    value: Loss | None
    epochs: Count
    params: dict[Text, bool | int | float | Text]
    run: FolderName | None
    reason: Text


class StoredConfirmation(Stored):
    """An evaluation of the best trial on the test set.

    Attributes:
        winner: number of the best trial.
        trials: number of trials at that time.
        found: run folders with the settings of the winner.
        start: run folders with the initial settings.
    """

    winner: Count
    trials: Count
    found: list[FolderName] = Field(min_length=1)
    start: list[FolderName]


class StoredSearchSettings(Stored):
    """The settings of a search that its report shows."""

    metric: Literal["accuracy", "loss"]
    n_trials: Count = 0  # 0 in files of older versions
    baseline: bool = True
    sampler: Text
    pruner: Text


class StoredSearch(Stored):
    """The content of search.json."""

    id: Text = ""  # older versions did not store it
    command: str = Field(max_length=100_000)
    settings: StoredSearchSettings
    space: dict[Text, Text] = Field(min_length=1)
    trials: list[StoredTrial]
    best: Count | None
    importance: dict[Text, Annotated[float, Field(ge=0, le=1.001)]]
    confirmations: list[StoredConfirmation]

    @property
    def ended(self) -> list[StoredTrial]:
        """The trials that have ended."""
        return [trial for trial in self.trials if trial.status != "running"]

    @property
    def left(self) -> int:
        """The number of trials that have not ended or not started."""
        return max(len(self.trials), self.settings.n_trials) - len(self.ended)

    @model_validator(mode="after")
    def _numbers_its_trials(self) -> Self:
        numbers = {trial.number for trial in self.trials if trial.status == "complete"}
        winners = [confirmation.winner for confirmation in self.confirmations]
        if not numbers.issuperset({*winners, self.best} - {None}):
            raise ValueError("expected the winners among its `trials`")
        return self
