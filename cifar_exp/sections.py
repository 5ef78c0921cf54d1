"""What all sections of settings share: how they are checked, and types of their values."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected a path, in which there is no NUL")
    return text


def _is_in_a_module(name: str) -> str:
    if "." not in name or not all(map(str.isidentifier, name.split("."))):
        raise ValueError("expected a module and what is in it, such as my_package.MyNet")
    return name


def _plain(value: Any) -> Any:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict | list) or (isinstance(one, float) and not math.isfinite(one)):
            raise ValueError("expected a number, text, true, false, null or a list of these")
    return value


PathText = Annotated[str, Field(max_length=4096), AfterValidator(_without_nul)]
Plain = Annotated[Any, AfterValidator(_plain)]


class Section(BaseModel):
    """Settings that cannot change once checked; unknown keys and wrong types are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True
    )


class CustomCode(Section):
    """Code of the user's own: what it is called with is whatever else stands in the section."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Plain]

    name: Literal["own"] = "own"
    target: Annotated[str, AfterValidator(_is_in_a_module)] = Field(
        alias="_target_", max_length=200, description="what is called, such as my_package.MyNet"
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The keyword arguments that the user gives."""
        return dict(self.__pydantic_extra__)
