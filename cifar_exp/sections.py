"""Base classes and value types of the sections of settings."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check_path(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a path without NUL characters")
    return text


def _check_target(name: str) -> str:
    if "." not in name or not all(map(str.isidentifier, name.split("."))):
        raise ValueError("expected MODULE.NAME, such as my_package.MyNet")
    return name


def _check_plain(value: Any) -> Any:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict | list) or (isinstance(item, float) and not math.isfinite(item)):
            raise ValueError("expected a number, text, true, false, null or a list of these")
    return value


PathText = Annotated[str, Field(max_length=4096), AfterValidator(_check_path)]
Plain = Annotated[Any, AfterValidator(_check_plain)]


class Section(BaseModel):
    """Immutable settings. Unknown keys and wrong types are rejected."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True
    )


class CustomCode(Section):
    """A custom function or class; further keys of the section are its keyword arguments."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Plain]

    name: Literal["own"] = "own"
    target: Annotated[str, AfterValidator(_check_target)] = Field(
        alias="_target_",
        max_length=200,
        description="function or class to call, such as my_package.MyNet",
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments from the configuration."""
        return dict(self.__pydantic_extra__)
