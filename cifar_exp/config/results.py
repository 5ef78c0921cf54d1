"""What the files of runs and sweeps hold, with types and ranges: they may come from elsewhere."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from cifar_exp.errors import UserError

_LARGEST_FLOAT32 = 3.5e38
_adapter = cache(TypeAdapter)  # to make one takes longer than to use it


def _is_a_name(text: str) -> str:
    if text in ("", "..") or Path(text).name != text or "\0" in text:
        raise ValueError("expected the name of a folder in `runs`, without a path")
    return text


Text = Annotated[str, Field(max_length=10_000)]
FolderName = Annotated[str, Field(max_length=255), AfterValidator(_is_a_name)]
Accuracy = Annotated[float, Field(ge=0, le=1)]
Loss = Annotated[float, Field(ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Stored(BaseModel):
    """Values as they stand in a file, which may have more of them than are named here."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Hardware(Stored):
    cpu: Text
    cores: Count | None
    gpus: list[Text]


class _Provenance(Stored):
    commit: Text | None
    python: Text
    versions: dict[Text, Text | None]
    hardware: _Hardware


class _Compute(Stored):
    device: Text
    precision: Text
    threads: Count | None


class State(Stored):
    """A run's run.json. What is not known yet is not there."""

    status: Literal["pending", "running", "complete", "diverged", "failed"]
    reason: Text = ""
    epochs: Count = 0
    test_accuracy: Accuracy | None = None
    best_test_accuracy: Accuracy | None = None
    balanced_accuracy: Accuracy | None = None
    largest_class_share: Accuracy | None = None
    seconds: Amount = 0.0
    peak_memory_bytes: Count = 0
    data_sha256: Text = ""
    sha256: dict[Text, Text] = {}
    evaluated_images: Count = 0
    started: Text = ""
    compute: _Compute | None = None
    provenance: _Provenance | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.status == "complete" and self.test_accuracy is None:
            raise ValueError("expected `test_accuracy` of a run that is complete")
        given = self.model_fields_set
        if "provenance" in given and (not self.provenance or not self.compute or not self.started):
            raise ValueError("expected `provenance` together with `compute` and `started`")
        return self


class Row(Stored):
    """A line of a run's metrics.jsonl."""

    epoch: int = Field(ge=1, le=1_000_000)
    train_loss: Loss | None
    train_accuracy: Accuracy | None
    test_loss: Loss | None
    test_accuracy: Accuracy | None
    train_seconds: Amount = 0.0
    images_per_second: Amount = 0.0


Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Normalization(Stored):
    mean: Channels
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class ModelFile(Stored):
    """A run's model.json: what its weights are to be fed with, and what they answer."""

    classes: list[Annotated[str, Field(max_length=255)]] = Field(min_length=2, max_length=100_000)
    image_size: int = Field(ge=1, le=512)
    normalization: _Normalization


class _Listed(Stored):
    run_id: Text
    folder: FolderName
    status: Text


class _Part(Stored):
    study: dict[str, Any]
    runs: list[str] = Field(min_length=1)


class Sweep(Stored):
    """A sweep's sweep.json."""

    command: str = Field(max_length=100_000)
    runs: list[_Listed] = Field(min_length=1)
    studies: list[_Part] = []

    @model_validator(mode="after")
    def _lists_the_runs_of_its_studies(self) -> Self:
        known = {run.run_id for run in self.runs}
        if any(run not in known for part in self.studies for run in part.runs):
            raise ValueError("expected the runs of its studies among its `runs`")
        return self


class Trial(Stored):
    """A trial as a search's search.json lists it."""

    number: Count
    status: Literal["complete", "pruned", "diverged", "failed", "running"]
    value: Loss | None
    epochs: Count
    params: dict[Text, int | float | Text]
    run: FolderName | None
    reason: Text


class Confirmation(Stored):
    """A time that a search has touched the test set: the winner, and the folders of the runs."""

    winner: Count
    trials: Count
    found: list[FolderName] = Field(min_length=1)
    start: list[FolderName]


class SearchSettings(Stored):
    """What a search's report tells of its settings."""

    metric: Literal["accuracy", "loss"]
    sampler: Text
    pruner: Text


class Search(Stored):
    """A search's search.json."""

    id: Text = ""  # searches from before have none
    command: str = Field(max_length=100_000)
    settings: SearchSettings
    space: dict[Text, Text] = Field(min_length=1)
    trials: list[Trial]
    best: Count | None
    importance: dict[Text, Annotated[float, Field(ge=0, le=1.001)]]
    confirmations: list[Confirmation]

    @model_validator(mode="after")
    def _numbers_its_trials(self) -> Self:
        numbers = {trial.number for trial in self.trials if trial.status == "complete"}
        winners = [confirmation.winner for confirmation in self.confirmations]
        if not numbers.issuperset({*winners, self.best} - {None}):
            raise ValueError("expected the winners among its `trials`")
        return self


def check_rows(rows: Any, file: Path) -> None:
    """Check the lines of a metrics.jsonl. Raises: UserError: they are not those of a run."""
    check(list[Row], rows, file)
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise UserError(f"{file}: expected the epochs 1, 2, 3 and so on, a line each")


def check(kind: Any, content: Any, file: Path) -> None:
    """Check what a file holds.

    Args:
        kind: State, Sweep, ModelFile or a list of Row.
        content: what was read as JSON.
        file: for the message.

    Raises:
        UserError: it is something else.
    """
    try:
        # JSON mode refuses lone surrogates, which cannot be written again
        _adapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        place = f"{file}: {key}" if key else str(file)
        raise UserError(
            f"{place}: {message[0].lower()}{message[1:]}; "
            "the file is damaged, or another program wrote it"
        ) from error
