"""Types and ranges of the values in the files of runs, which may come from other people."""

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
    create_model,
    model_validator,
)

from cifar_exp.config.metrics import COLUMNS
from cifar_exp.errors import UserError

_LARGEST_FLOAT32 = 3.5e38
_adapter = cache(TypeAdapter)  # slow to create


def _is_a_name(text: str) -> str:
    if text in ("", "..") or Path(text).name != text or "\0" in text:
        raise ValueError("expected the name of a folder in `runs`, not a path")
    return text


Text = Annotated[str, Field(max_length=10_000)]
FolderName = Annotated[str, Field(max_length=255), AfterValidator(_is_a_name)]
Accuracy = Annotated[float, Field(ge=0, le=1)]
Loss = Annotated[float, Field(ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Epoch = Annotated[int, Field(ge=1, le=1_000_000)]


class Stored(BaseModel):
    """Base class for the content of a file; values that have no field are allowed."""

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


class _Part(Stored):
    compute: _Compute
    provenance: _Provenance


class StoredRun(Stored):
    """The content of run.json, in which values that are not known yet are missing."""

    status: Literal["pending", "running", "complete", "diverged", "failed"]
    reason: Text = ""
    balanced_accuracy: Accuracy | None = None
    largest_class_share: Accuracy | None = None
    epoch_kept: Epoch = 1
    epoch_stopped: Epoch = 1
    data_sha256: Text = ""
    sha256: dict[Text, Text] = {}
    evaluated_images: Count = 0
    shared_images: Count = 0
    started: Text = ""
    compute: _Compute | None = None
    provenance: _Provenance | None = None
    earlier: Annotated[list[_Part], Field(max_length=1000)] = []  # of a run resumed elsewhere

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = self.model_fields_set
        if "provenance" in given and (not self.provenance or not self.compute or not self.started):
            raise ValueError("expected `provenance` together with `compute` and `started`")
        return self


class _Epoch(Stored):
    epoch: Epoch


# Range of a column by its unit. Missing and non-finite values are None.
_RANGES: dict[str, Any] = {"%": Accuracy, "s": Amount, "images/s": Amount, "bytes": Count}
_columns: dict[str, Any] = {
    key: (_RANGES.get(column.metric.unit, Loss) | None, None) for key, column in COLUMNS.items()
}
# A line of metrics.jsonl.
StoredEpoch = create_model("StoredEpoch", __base__=_Epoch, **_columns)


Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Normalization(Stored):
    mean: Channels
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class StoredModel(Stored):
    """The content of model.json: the input and output of a trained network."""

    classes: list[Text] = Field(min_length=2, max_length=100_000)
    image_size: int = Field(ge=1, le=100_000)  # of custom images as well
    normalization: _Normalization


def check_rows(rows: Any, file: Path) -> None:
    """Check the lines of a metrics.jsonl.

    Args:
        rows: the lines, read as JSON.
        file: path of the file, for the message.

    Raises:
        UserError: a line has invalid values, or the epochs are not consecutive.
    """
    check(list[StoredEpoch], rows, file)
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        raise UserError(f"{file}: expected one line for each of the epochs 1, 2, 3, ...")


def check(kind: Any, content: Any, file: Path) -> Any:
    """Check the content of a file.

    Args:
        kind: a subclass of Stored, or `list` of one.
        content: the content, read as JSON.
        file: path of the file, for the message.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """
    try:
        # JSON mode rejects lone surrogates, which cannot be encoded as UTF-8
        return _adapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        place = f"{file}: {key}" if key else str(file)
        raise UserError(
            f"{place}: {message[0].lower()}{message[1:]}. "
            "The file is damaged, or another program wrote it."
        ) from error
