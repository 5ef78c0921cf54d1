"""What a study is: what it varies, and the claims that its report tests."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.config.load import NO_CLAIMS, in_lines, resolved
from cifar_exp.config.metrics import OF_RUNS
from cifar_exp.errors import UserError
from cifar_exp.expressions import expressions_kept
from cifar_exp.sections import Section

Value = int | float | str | bool | None
Level = Value | tuple[Value, ...]  # the milestones of a schedule are a list
if TYPE_CHECKING:
    MetricOfRun = str
else:  # all that can be read off a run
    MetricOfRun = Literal[OF_RUNS]
_OF_TWO_LEVELS = ("higher", "lower", "same")


def level_name(level: Any) -> Any:
    """Return a level as reports name and compare it: a list becomes a word, `[1, 2]`."""
    return str(list(level)) if isinstance(level, list | tuple) else level


NamedLevel = Annotated[Value, BeforeValidator(level_name)]


class Claim(Section):
    """A statement, and what it predicts for a metric."""

    says: str = Field(description="the statement, in a sentence")
    metric: MetricOfRun = Field(description="what is compared")
    expects: Literal["higher", "lower", "same", "rises", "falls", "differs", "best_inside"] = Field(
        description="higher, lower, same: at one level than at another; rises, falls: along the "
        "levels; differs: between some levels; best_inside: best at a level that is not an end"
    )
    at: NamedLevel = Field(None, description="the level of which something is expected")
    than: NamedLevel = Field(None, description="the level that it is compared with")
    matters_from: float = Field(0.0, ge=0, description="smallest difference that matters")
    reached: float | None = Field(None, gt=0, le=1, description="accuracy, for epochs_to_...")

    @property
    def compares_two(self) -> bool:
        """Whether it is about two levels, and not about all."""
        return self.expects in _OF_TWO_LEVELS

    @model_validator(mode="after")
    def _says_all_it_needs(self) -> Self:
        given = self.model_fields_set
        if self.compares_two and not {"at", "than"} <= given:
            raise ValueError(f"expected the levels `at` and `than` with expects={self.expects}")
        if not self.compares_two and {"at", "than"} & given:
            raise ValueError(f"expected no `at` and `than` with expects={self.expects}")
        if self.expects == "same" and self.matters_from == 0:
            raise ValueError("expected `matters_from` above 0 with expects=same")
        if self.metric.startswith("epochs_to_") != (self.reached is not None):
            raise ValueError("expected `reached` with the metrics epochs_to_..., and only there")
        return self


class Study(Section):
    """A sweep over the levels of one setting or several, with some seeds, and what it is for."""

    name: str = Field(pattern=r"^[\w-]+$", max_length=80, description="of the file in conf/study/")
    title: str = Field(description="of the report")
    question: str = Field(description="that the study asks, in a sentence")
    vary: dict[str, tuple[Level, ...]] = Field(min_length=1, description="the levels of each key")
    settings: dict[str, Level] = Field({}, description="what all its runs share")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, description="each level has a run with each; `auto` for adds_seeds"
    )
    adds_seeds: bool = Field(
        False, description="train further seeds at the levels of claims that are not settled"
    )
    max_seeds: int = Field(10, ge=3, le=100, description="most seeds of a level with adds_seeds")
    claims: tuple[Claim, ...] = Field((), description="that the report judges; see below")

    @model_validator(mode="after")
    def _varies_something(self) -> Self:
        if self.adds_seeds and not self.claims:
            raise ValueError("expected claims with `adds_seeds`: seeds are added until they settle")
        if self.adds_seeds and not 2 <= len(self.seeds) <= self.max_seeds:
            raise ValueError("expected 2 to `max_seeds` seeds with `adds_seeds`")
        if not all(self.vary.values()):
            raise ValueError("expected at least one level for every key of `vary`")
        if len(self.vary) > 1 and self.claims:
            raise ValueError("expected one key under `vary` in a study with claims")
        if "seed" in self.vary:
            raise ValueError("expected seeds under `seeds`, not under `vary`")
        (levels, *_) = self.vary.values()
        for claim in self.claims:
            if claim.compares_two and not {claim.at, claim.than} <= {*map(level_name, levels)}:
                raise ValueError(f"expected `at` and `than` among the levels: {claim.says}")
        return self


def load_studies(composed: DictConfig) -> list[Study]:
    """Check the study that was chosen, or all of those that it is made of.

    Args:
        composed: the node `study` of what Hydra composed; `parts` holds studies by name.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type.
    """
    content = _with_expressions(resolved(composed), composed)
    parts = content["parts"].values() if "parts" in content else [content]
    try:
        return [_checked(part) for part in parts]
    except ValidationError as error:
        raise UserError(in_lines(error, "study.")) from error


def with_seeds_added(studies: Sequence[Study]) -> list[Study]:
    """Return studies that add seeds until their claims are settled; those without claims stay.

    Raises:
        UserError: none has claims.
    """
    if not any(study.claims for study in studies):
        raise UserError(NO_CLAIMS)
    return [
        study.model_copy(update={"adds_seeds": True}) if study.claims else study
        for study in studies
    ]


def _with_expressions(content: Any, composed: DictConfig) -> Any:
    """Return the content, its texts with the environment variables as they were typed."""
    try:
        with expressions_kept():
            return _with_texts(content, OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError("study: expected ${oc.env:NAME} in its texts alone") from error


def _with_texts(content: Any, texts: Any) -> Any:
    match content, texts:
        case dict(), dict():
            return {key: _with_texts(value, texts.get(key)) for key, value in content.items()}
        case list(), list():
            return [_with_texts(*pair) for pair in zip(content, texts, strict=True)]
        case ((dict() | list() | str()), _):
            return texts
    return content


def read_study(content: Any) -> Study:
    """Read what a sweep's sweep.json says of its study.

    Raises:
        UserError: it is not a study.
    """
    try:
        return Study.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise UserError(in_lines(error, "study.")) from error


def _checked(content: dict[str, Any]) -> Study:
    if content.get("seeds") == "auto":
        content |= {"adds_seeds": True}
        del content["seeds"]
    vary = content.get("vary")
    if isinstance(vary, dict):
        content["vary"] = {SHORT_NAMES.get(key, key): levels for key, levels in vary.items()}
    settings = content.get("settings")
    if isinstance(settings, dict):  # words stay: they are levels' names
        content["settings"] = {
            SHORT_NAMES.get(key, key) if not isinstance(value, str) else key: value
            for key, value in settings.items()
        }
    # JSON mode is strict about types but takes a list where the schema has a tuple
    return Study.model_validate_json(json.dumps(content))
