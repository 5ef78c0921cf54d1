"""Studies: the settings they vary and the claims that their reports test."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from cifar_exp.config.keys import SHORT_NAMES, without_name
from cifar_exp.config.load import NO_CLAIMS, format_errors, resolved
from cifar_exp.config.metrics import RUN_METRICS
from cifar_exp.config.reference import Reference, read_reference
from cifar_exp.errors import UserError
from cifar_exp.expressions import expressions_kept
from cifar_exp.sections import Section


def _check_plain(value: Any) -> Any:
    # otherwise pydantic writes a line for each type of the union
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict | list):
            raise ValueError("expected a number, text, true, false, null or a list of these")
    return tuple(value) if isinstance(value, list) else value  # a strict tuple is no list


Value = int | float | str | bool | None
# the milestones of a schedule are a list
Level = Annotated[Value | tuple[Value, ...], BeforeValidator(_check_plain)]
if TYPE_CHECKING:
    MetricOfRun = str
else:
    MetricOfRun = Literal[RUN_METRICS]
_OF_TWO_LEVELS = ("higher", "lower", "same")
_OF_ALL_PARTS = ("settings", "seeds", "add_seeds", "max_seeds", "reference")


def level_name(level: Any) -> Any:
    """Return a level as shown and compared in reports: a list becomes the text `[1, 2]`."""
    return str(list(level)) if isinstance(level, list | tuple) else level


NamedLevel = Annotated[Value, BeforeValidator(level_name)]


class Claim(Section):
    """A statement and its prediction for a metric."""

    says: str = Field(description="the statement, as a sentence")
    metric: MetricOfRun = Field(description="the metric that is compared")
    expects: Literal["higher", "lower", "same", "rises", "falls", "differs", "best_inside"] = Field(
        description="higher, lower, same: at the level `at` compared with `than`; rises, falls: "
        "along the levels; differs: between any two levels; best_inside: best at an inner level"
    )
    at: NamedLevel = Field(None, description="the level that the claim is about")
    than: NamedLevel = Field(None, description="the level to compare with")
    matters_from: float = Field(
        0.0, ge=0, description="smallest relevant difference, in the unit of the metric"
    )
    reached: float | None = Field(
        None, gt=0, le=1, description="accuracy to reach, for epochs_to_..."
    )

    @property
    def compares_two(self) -> bool:
        """Whether the claim compares two levels, not all."""
        return self.expects in _OF_TWO_LEVELS

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        given = self.model_fields_set
        if self.compares_two and not {"at", "than"} <= given:
            raise ValueError(f"expected the levels `at` and `than` with expects={self.expects}")
        if self.compares_two and self.at == self.than:
            raise ValueError("expected different levels as `at` and `than`")
        if not self.compares_two and {"at", "than"} & given:
            raise ValueError(f"expected no `at` and `than` with expects={self.expects}")
        if self.expects == "same" and self.matters_from == 0:
            raise ValueError("expected `matters_from` above 0 with expects=same")
        if self.metric.startswith("epochs_to_") != (self.reached is not None):
            raise ValueError(
                "expected `reached` with the metrics epochs_to_..., and only with these"
            )
        return self


class Study(Section):
    """A sweep over the levels of one or more settings with several seeds, and its claims."""

    name: str = Field(
        pattern=r"^[\w-]+$", max_length=80, description="name of the file in conf/study/"
    )
    title: str = Field(description="title of the report")
    question: str = Field(description="question of the study, as a sentence")
    vary: dict[str, tuple[Level, ...]] = Field(
        min_length=1, description="levels of each varied key"
    )
    settings: dict[str, Level] = Field({}, description="settings of all runs of the study")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="seeds; each level is trained with each. `auto`: 0, 1, 2 and `add_seeds`",
    )
    add_seeds: bool = Field(
        False, description="add seeds at the levels of inconclusive claims until they are settled"
    )
    max_seeds: int = Field(10, ge=2, le=100, description="limit of the seeds that are added")
    claims: tuple[Claim, ...] = Field((), description="claims that the report tests; see below")
    reference: Reference | None = Field(
        None, description="published values to compare the runs with; see below"
    )

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if not all(self.vary.values()):
            raise ValueError("expected at least one level for every key of `vary`")
        if len(self.vary) > 1 and self.claims:
            raise ValueError("expected one key under `vary` in a study with claims")
        if self.reference is not None:
            if len(self.vary) > 1:
                raise ValueError("expected one key under `vary` in a study with a reference")
            self.reference.rows(*self.vary)  # reports mistakes before training
        if "seed" in self.vary:
            raise ValueError("expected seeds under `seeds`, not under `vary`")
        if self.add_seeds and not self.claims:
            raise ValueError("expected claims with add_seeds: true")
        if self.add_seeds and not 2 <= len(self.seeds) <= self.max_seeds:
            raise ValueError("expected 2 to max_seeds seeds with add_seeds: true")
        (levels, *_) = self.vary.values()
        for claim in self.claims:
            if claim.compares_two and not {claim.at, claim.than} <= {*map(level_name, levels)}:
                known = ", ".join(str(level_name(level)) for level in levels)
                raise ValueError(
                    f"expected `at` and `than` among the levels {known}, got at: {claim.at} and "
                    f"than: {claim.than}"
                )
        return self


def load_studies(composed: DictConfig) -> list[Study]:
    """Validate the selected study, or all parts of a combined study.

    Args:
        composed: the node `study` of Hydra's configuration; `parts` holds studies by name.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type.
    """
    content = _keep_expressions(resolved(composed), composed)
    return [_validated(part, prefix) for prefix, part in _parts(content).items()]


def _parts(content: Any) -> dict[str, dict[str, Any]]:
    """Return the studies of a file, the study itself or those under `parts`, by key."""
    if not isinstance(content, dict):
        raise UserError(f"study: expected a study, got {json.dumps(content)}")
    if "parts" not in content:
        return {"study": content}
    common = dict(content)
    parts = common.pop("parts")
    if not isinstance(parts, dict) or not parts:
        raise UserError(f"study.parts: expected studies by name, got {json.dumps(parts)}")
    for key in common:
        if key not in _OF_ALL_PARTS:
            names = ", ".join(_OF_ALL_PARTS)
            raise UserError(f"study.{key}: expected only {names} next to `parts`.")
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise UserError(f"study.parts.{name}: expected a study, got {json.dumps(part)}")
    if "reference" in common and not any("reference" in part for part in parts.values()):
        raise UserError("study.reference: none of the parts has a reference")
    adds_seeds = common.get("add_seeds") is True or common.get("seeds") == "auto"
    if adds_seeds and not any(part.get("claims") for part in parts.values()):
        raise UserError("study: none of the parts has claims, for which seeds could be added")
    return {f"study.parts.{name}": _with_common(part, common) for name, part in parts.items()}


def _with_common(part: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """Replace values of a part by those next to `parts`; its levels stay."""
    changes = {key: value for key, value in common.items() if key != "reference" or key in part}
    if not part.get("claims"):  # only claims need further seeds
        changes.pop("add_seeds", None)
        if changes.get("seeds") == "auto":
            del changes["seeds"]
    settings, own = changes.get("settings"), part.get("settings")
    if isinstance(settings, dict):
        changes["settings"] = _without(settings, part.get("vary"))
        if isinstance(own, dict):  # which may spell a key differently
            part = part | {"settings": _without(own, settings)}
    return _merged(part, changes)


def _without(settings: dict[str, Any], others: Any) -> dict[str, Any]:
    """Return the settings except those in `others`, by short or dotted key."""
    keys = {SHORT_NAMES.get(key, key) for key in others} if isinstance(others, dict) else set()
    return {key: value for key, value in settings.items() if SHORT_NAMES.get(key, key) not in keys}


def _merged(own: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = own | changes
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(own.get(key), dict):
            merged[key] = _merged(own[key], value)
    return merged


def add_seeds(studies: Sequence[Study]) -> list[Study]:
    """Return the studies with `add_seeds`, except those without claims.

    Args:
        studies: parts of the selected study.

    Raises:
        UserError: none of them has claims, or one of them has too many seeds or only one.
    """
    if not any(study.claims for study in studies):
        raise UserError(NO_CLAIMS)
    for study in studies:
        if study.claims and not 2 <= len(study.seeds) <= study.max_seeds:
            raise UserError(
                f"study {study.name}: expected 2 to {study.max_seeds} seeds, its max_seeds, at the "
                f"start of seed=auto, got {len(study.seeds)}"
            )
    return [
        Study.model_validate(dict(study) | {"add_seeds": True}) if study.claims else study
        for study in studies
    ]


def _keep_expressions(content: Any, composed: DictConfig) -> Any:
    """Return the content with its texts unresolved."""
    try:
        with expressions_kept():
            return _replace_texts(content, OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError("study: expected ${oc.env:NAME} only in texts") from error


def _replace_texts(content: Any, texts: Any) -> Any:
    match content, texts:
        case dict(), dict():
            return {key: _replace_texts(value, texts.get(key)) for key, value in content.items()}
        case list(), list():
            return [_replace_texts(*pair) for pair in zip(content, texts, strict=True)]
        case ((dict() | list() | str()), _):
            return texts
    return content


def read_study(content: Any) -> Study:
    """Read the study in a sweep.json.

    Raises:
        UserError: the content is not a valid study.
    """
    try:
        return Study.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise UserError(format_errors(error, "study.")) from error


def _as_stored(key: str, level: Any) -> Any:
    """Return a level as runs store it: `high` of `lr` is 0.01, and paths of images are absolute."""
    if key == "data.root" and isinstance(level, str) and "${" not in level:
        return os.path.realpath(os.path.expanduser(level))
    return without_name(key, level)


def _levels_as_stored(key: str, levels: Any) -> Any:
    return [_as_stored(key, level) for level in levels] if isinstance(levels, list) else levels


def _claim_as_stored(claim: Any, key: str) -> Any:
    if not isinstance(claim, dict):
        return claim
    return claim | {end: _as_stored(key, claim[end]) for end in ("at", "than") if end in claim}


def _refuse_ignored(vary: Any, settings: Any) -> None:
    """Refuse settings of which only the last would count, such as `lr` and `optimizer.lr`."""
    typed_by_key = defaultdict(list)
    for section in (vary, settings):
        for key in section if isinstance(section, dict) else ():
            typed_by_key[SHORT_NAMES.get(key, key)].append(key)
    for typed in typed_by_key.values():
        if len(typed) > 1:
            names = " and ".join(typed)
            raise UserError(
                f"study: {names} set the same. Set it once, under `vary` or `settings`."
            )
    if isinstance(settings, dict) and "seed" in settings:
        raise UserError(
            "study.settings.seed: expected seeds under `seeds`. Write seeds: [0, 1, 2]."
        )


def _validated(content: dict[str, Any], prefix: str) -> Study:
    if content.get("seeds") == "auto":
        del content["seeds"]
        content["add_seeds"] = True
    vary, settings = content.get("vary"), content.get("settings")
    _refuse_ignored(vary, settings)
    if isinstance(vary, dict):
        claims = content.get("claims")
        if isinstance(claims, list) and len(vary) == 1:  # else claims are refused
            content["claims"] = [_claim_as_stored(claim, *vary) for claim in claims]
        content["vary"] = {
            SHORT_NAMES.get(key, key): _levels_as_stored(key, levels)
            for key, levels in vary.items()
        }
    if isinstance(settings, dict):  # a short name with a named level, lr=high, stays
        content["settings"] = {
            SHORT_NAMES.get(key, key) if not isinstance(value, str) else key: value
            for key, value in settings.items()
        }
    reference = content.get("reference")
    if isinstance(reference, dict) and isinstance(reference.get("file"), str):
        content["reference"] = reference | {"text": read_reference(reference["file"])}
    try:
        # JSON mode is strict about types but accepts a list for a tuple
        study = Study.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise UserError(format_errors(error, f"{prefix}.")) from error
    if study.reference is not None:
        study.reference.check(*study.vary)
    return study
