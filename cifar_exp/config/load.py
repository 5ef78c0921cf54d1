"""Validation of composed configurations, and reading and writing of config.yaml."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from cifar_exp.config.command_settings import OF_COMMAND
from cifar_exp.config.keys import explain_key, is_list, short
from cifar_exp.config.schema import CAN_BE_CUSTOM, WITH_OPTIONS, RunConfig
from cifar_exp.errors import UserError
from cifar_exp.expressions import explain_expression, expressions_kept, names_variables

NO_CLAIMS = "seed=auto: expected a study with claims, such as study=lr"
_Task = TypeVar("_Task")
# Settings whose environment variables stay unresolved; see `cifar_exp.expressions`.
FREE_TEXT = (
    "data.root",
    "data.same_as",
    "model.init",
    "paths.results",
    "paths.logs",
    "paths.cache",
    "logger.project",
    "logger.group",
)
_MAX_CHARACTERS = 100_000  # of a config.yaml; typical files have about 1,000
_MAX_CACHED = 4096  # configurations; the file of a run is read several times
_MAX_DEPTH = 100  # of nested settings; the schema has 3 levels
# libyaml reads a file in 1 ms, Python in 7 ms; not every installation has it
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_ERRORS = 2
_MAX_SHOWN = 100
_MAX_LEVELS = 10  # repeated in a message
_REPLACEMENTS = (
    ("Input should be ", "expected "),
    ("expected greater", "expected a number greater"),
    ("expected less", "expected a number less"),
    ("String should match pattern", "expected a text that matches"),
    ("String should have", "expected"),
    ("a valid integer", "an integer"),
    ("a valid array", "a list"),
    ("a valid ", "a "),
)


def trains_a_run(task: _Task) -> _Task:
    """Mark a Hydra task that only trains its run, so that a launcher may train it elsewhere."""
    task.trains_a_run = True  # type: ignore[attr-defined]
    return task


def load_config(composed: DictConfig) -> RunConfig:
    """Validate a composed configuration.

    Args:
        composed: Hydra's configuration without the `hydra` node.

    Returns:
        The typed settings.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    content = resolved(composed)
    content.pop("study", None)  # describes the sweep, not a run
    command = {name: content.pop(name, None) for name in OF_COMMAND}
    if command["budget"] is not None:
        raise UserError("budget: expected a sweep, a study or a search; add -m")
    _keep_expressions(content, composed)
    if content.get("seed") == "auto":
        raise UserError(NO_CLAIMS)
    typed = OmegaConf.to_container(composed)
    for section in CAN_BE_CUSTOM:
        _check_custom_code(content, typed, section)
    try:
        return checked(content)
    except ValidationError as error:
        raise UserError(
            format_errors(error, typed=typed if names_variables(typed) else None)
        ) from error


def resolved(composed: DictConfig) -> Any:
    """Return a composed configuration with its interpolations resolved.

    Raises:
        UserError: a key has no value. The message has no values of environment variables.
    """
    try:
        return OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key}: missing value; set {key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise UserError(explain_expression(error, OmegaConf.to_container(composed))) from error


def _check_custom_code(content: Any, typed: Any, section: str) -> None:
    part = content.get(section)
    if not isinstance(part, dict) or "_target_" not in part:
        return
    # an expression may resolve to another name than the one that was allowed
    if part["_target_"] != _value_at(typed, (section, "_target_")):
        raise UserError(f"{section}._target_: expected a name, not an expression")
    name = part.setdefault("name", "own")
    if name != "own":
        raise UserError(
            f"{section}._target_: cannot be combined with {section}={name}; set {section}=own"
        )


def _keep_expressions(content: Any, composed: DictConfig) -> None:
    """Replace free text by its unresolved form."""
    for key in [*FREE_TEXT, *_custom_code_keys(content)]:
        section, name = key.split(".", 1)
        if not _has_text(_value_at(content, (section, name))):
            continue
        try:
            with expressions_kept():
                typed = OmegaConf.select(composed, key)
                listed = isinstance(typed, ListConfig)
                content[section][name] = OmegaConf.to_object(typed) if listed else typed
        except OmegaConfBaseException as error:
            raise UserError(
                f"{key}: expected ${{oc.env:NAME}} in the text, not another expression"
            ) from error


def _custom_code_keys(content: Any) -> Iterator[str]:
    for section in CAN_BE_CUSTOM:
        part = content.get(section)
        if isinstance(part, dict) and "_target_" in part:  # any of its settings may be text
            yield from (f"{section}.{name}" for name in part)


def _has_text(value: Any) -> bool:
    return any(isinstance(item, str) for item in (value if isinstance(value, list) else [value]))


def _value_at(content: Any, path: Sequence[Any]) -> Any:
    """Return the value at a path, or the interpolation that replaces one of its parents."""
    for part in path:
        try:
            content = content[part if isinstance(content, dict) else int(part)]
        except (LookupError, ValueError, TypeError):
            break
    return content


def to_yaml(config: RunConfig) -> str:
    """Return the text of a run's config.yaml."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@lru_cache(_MAX_CACHED)
def from_yaml(text: str) -> RunConfig:
    """Read the text of a config.yaml.

    Raises:
        ValueError: the text is not YAML, or not a valid configuration.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"expected at most {_MAX_CHARACTERS} characters")
    content: dict[str, Any] = {}
    try:
        for section in re.split(r"^(?=\w)", text, flags=re.MULTILINE):
            content |= _load_section(section) or {}
        if not content:
            raise TypeError("expected settings")
        return checked(content)
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error


@lru_cache(_MAX_CACHED)  # runs of a sweep share most sections, and YAML is slow to read
def _load_section(text: str) -> Any:
    _refuse_aliases(text)
    return yaml.load(text, _YAML)


def _refuse_aliases(text: str) -> None:
    """Reject aliases, with which ten lines can expand to gigabytes, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, _YAML):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("expected no aliases")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:  # loading recurses
            raise yaml.YAMLError(f"expected at most {_MAX_DEPTH} levels of nested settings")


def checked(content: Any) -> RunConfig:
    """Convert JSON values to typed settings.

    Raises:
        ValidationError: a key is unknown, or a value has the wrong type or is out of range.
    """
    # JSON mode is strict about types but accepts a list for a tuple
    return RunConfig.model_validate_json(json.dumps(_without_negative_zeros(content), default=str))


def _without_negative_zeros(content: Any) -> Any:
    """Replace -0.0 by 0.0: both compute the same, but would have different ids."""
    match content:
        case dict():
            return {key: _without_negative_zeros(value) for key, value in content.items()}
        case list() | tuple():
            return [_without_negative_zeros(value) for value in content]
        case float():
            return content + 0.0
    return content


def format_errors(error: ValidationError, prefix: str = "", typed: Any = None) -> str:
    """Format a validation error in one or two lines.

    Args:
        error: raised by pydantic.
        prefix: added to all keys, such as "study.".
        typed: the unresolved configuration, shown instead of values from environment variables;
            None to show values.
    """
    problems = [p for p in error.errors(include_url=False) if not _lacks_only_invalid_items(p)]
    lines = [
        (prefix if problem["loc"] or not prefix else f"{prefix.removesuffix('.')}: ")
        + _format_error(problem, typed, is_run=not prefix)
        for problem in problems[:_MAX_ERRORS]
    ]
    if len(problems) > _MAX_ERRORS:
        lines[-1] += f" (and {len(problems) - _MAX_ERRORS} more)"
    return "\n".join(lines)


def _lacks_only_invalid_items(problem: Any) -> bool:
    # pydantic counts the valid items of a list; the invalid ones have their errors
    is_short = problem["type"] == "too_short"
    return is_short and len(problem["input"]) >= int(problem["ctx"]["min_length"])


def _format_error(problem: Any, typed: Any, is_run: bool) -> str:
    if problem["type"] == "json_invalid":
        return "expected valid UTF-8 without deeply nested settings"
    if not problem["loc"]:  # several settings together
        return str(problem["msg"]).removeprefix("Value error, ")
    section, *rest = problem["loc"]
    # in a section with options, the second part of the location is the option
    option, path = (rest[:1], rest[1:]) if section in WITH_OPTIONS else ([], rest)
    key = ".".join(map(str, (section, *path)))
    match problem["type"]:
        case "missing" if not is_run:  # of a study file
            return f"{key}: missing"
        case "missing":
            return f"{key}: missing value; set {key}=VALUE"
        case "extra_forbidden" if key == "experiment":
            hint = "its file lacks the first line `# @package _global_`"
            return f"{key}: unknown setting; {hint}"
        case "extra_forbidden" if is_run and section in RunConfig.model_fields:
            return explain_key(key, *option)
        case "extra_forbidden":
            return f"{key}: unknown setting"
        case "union_tag_invalid":
            given = _value_at(typed, (section, "name")) if typed else problem["ctx"]["tag"]
            return f"{key}.name: expected one of {problem['ctx']['expected_tags']}, got '{given}'"
        case "union_tag_not_found":
            return f"{key}.name: missing value; set {key}=OPTION"
        case "too_short":
            count = f"at least {problem['ctx']['min_length']} of them"
            return f"{key}: expected {count}, got {len(problem['input'])}"
    value = _value_at(typed, (section, *path)) if typed else problem["input"]
    # hints would repeat values from the environment
    hint = _hint(key, problem) if section in RunConfig.model_fields and not typed else ""
    return f"{key}: {_expected_and_given(problem, value)}{hint}"


def _expected_and_given(problem: Any, value: Any) -> str:
    expected = problem["msg"].removeprefix("Value error, ")
    for old, new in _REPLACEMENTS:
        expected = expected.replace(old, new)
    given = json.dumps(value, default=str)
    given = given[:_MAX_SHOWN] + "..." * (len(given) > _MAX_SHOWN)
    if problem["type"] == "literal_error" and len(expected) > _MAX_SHOWN:  # cut off on the screen
        names = re.findall(r"'([^']*)'", expected)
        near = difflib.get_close_matches(str(value)[:_MAX_SHOWN], names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"got {given}, {hint}{expected}"
    return f"{expected}, got {given}"


def _hint(key: str, problem: Any) -> str:
    value = problem["input"]
    plain = isinstance(value, str | int | float) and len(str(value)) <= _MAX_SHOWN
    match problem["type"]:
        case "tuple_type" if plain:
            return f"; write {key}=[{value}]"
        case "string_type" if plain and (key.startswith("paths.") or key == "data.root"):
            return f"; write {key}=./{value}"
        case "string_type" if plain:
            return f"; write '{key}=\"{value}\"'"
    if isinstance(value, list) and 1 < len(value) <= _MAX_LEVELS and not is_list(key):
        return f"; to sweep write -m {short(key)}={','.join(map(str, value))}"
    return ""
