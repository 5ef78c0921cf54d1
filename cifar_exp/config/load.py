"""From Hydra's composed YAML to the typed, checked `RunConfig`."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from cifar_exp.config.keys import explain_key, is_list, short
from cifar_exp.config.schema import CAN_BE_CUSTOM, RunConfig
from cifar_exp.errors import UserError
from cifar_exp.expressions import expressions_kept, names_variables, reason_of

NO_CLAIMS = "seed=auto: expected a study with claims, such as study=lr, until which seeds are added"
_Task = TypeVar("_Task")
# What is free text keeps the environment variables in it; see `paths`.
FREE_TEXT = (
    "data.root",
    "data.same_as",
    "paths.results",
    "paths.logs",
    "paths.cache",
    "logger.project",
    "logger.group",
)
_LONGEST_FILE = 100_000  # characters of a config.yaml, which has about 1,000
_MOST_CONFIGS_KEPT = 4096  # a run's file is read for its settings, its id and its checks
_DEEPEST = 100  # nested settings; there are 3
# libyaml reads a file in 1 ms, Python in 7; not every installation has it
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SHOWN_ERRORS = 2
_SHOWN_CHARACTERS = 100
_MOST_LEVELS = 10  # that are repeated in a message
_SECTIONS_OF_SEVERAL_KINDS = ("data", "model", "optimizer", "scheduler")
_WORDS = (
    ("Input should be ", "expected "),
    ("expected greater", "expected a number greater"),
    ("expected less", "expected a number less"),
    ("a valid integer", "an integer"),
    ("a valid array", "a list"),
    ("a valid ", "a "),
)


def trains_a_run(task: _Task) -> _Task:
    """Mark a Hydra task that does nothing but train its run, which a launcher may do elsewhere."""
    task.trains_a_run = True  # type: ignore[attr-defined]
    return task


def load_config(composed: DictConfig) -> RunConfig:
    """Check a composed configuration.

    Args:
        composed: what Hydra made of YAML and overrides, without its own `hydra` node.

    Returns:
        The typed settings, numbers converted to the types of the schema.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    content = resolved(composed)
    content.pop("study", None)  # says which runs there are, and nothing about one of them
    _keep_expressions(content, composed)
    if content.get("seed") == "auto":
        raise UserError(NO_CLAIMS)
    typed = OmegaConf.to_container(composed)
    for section in CAN_BE_CUSTOM:
        _name_own_code(content, typed, section)
    try:
        return checked(content)
    except ValidationError as error:
        raise UserError(in_lines(error, typed=typed if names_variables(typed) else None)) from error


def resolved(composed: DictConfig) -> Any:
    """Return the values that a composed configuration comes to.

    Raises:
        UserError: there is none for a key. The message tells no value of an environment variable.
    """
    try:
        return OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key}: a value is needed, such as {key}=VALUE") from error
    except OmegaConfBaseException as error:
        reason = reason_of(error, OmegaConf.to_container(composed))
        raise UserError(f"{error.full_key}: {reason}") from error


def _name_own_code(content: Any, typed: Any, section: str) -> None:
    part = content.get(section)
    if not isinstance(part, dict) or "_target_" not in part:
        return
    # an expression may come to another name than it did when the configuration was allowed
    if part["_target_"] != _at(typed, (section, "_target_")):
        raise UserError(f"{section}._target_: expected the name itself, and no expression")
    name = part.setdefault("name", "own")
    if name != "own":
        raise UserError(
            f"{section}._target_: expected no {section}={name} beside it, or {section}=own"
        )


def _keep_expressions(content: Any, composed: DictConfig) -> None:
    """Put free text into the content as it was typed."""
    for key in [*FREE_TEXT, *_of_own_code(content)]:
        section, name = key.split(".", 1)
        if not _has_text(_at(content, (section, name))):
            continue
        try:
            with expressions_kept():
                typed = OmegaConf.select(composed, key)
                listed = isinstance(typed, ListConfig)
                content[section][name] = OmegaConf.to_object(typed) if listed else typed
        except OmegaConfBaseException as error:
            raise UserError(f"{key}: expected ${{oc.env:NAME}} in the text itself") from error


def _of_own_code(content: Any) -> Iterator[str]:
    for section in CAN_BE_CUSTOM:
        part = content.get(section)
        if isinstance(part, dict) and "_target_" in part:  # nobody here knows what is text there
            yield from (f"{section}.{name}" for name in part)


def _has_text(value: Any) -> bool:
    return any(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))


def _at(content: Any, path: Sequence[Any]) -> Any:
    """Return what stands there, or above it where an interpolation stands for all of it."""
    for part in path:
        try:
            content = content[part if isinstance(content, dict) else int(part)]
        except (LookupError, ValueError, TypeError):
            break
    return content


def to_yaml(config: RunConfig) -> str:
    """Return the settings as they stand in a run's config.yaml."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


@lru_cache(_MOST_CONFIGS_KEPT)
def from_yaml(text: str) -> RunConfig:
    """Read what `to_yaml` wrote.

    Raises:
        ValueError: it is not YAML, or not a configuration.
    """
    if len(text) > _LONGEST_FILE:
        raise ValueError(f"expected at most {_LONGEST_FILE} characters")
    try:
        _refuse_aliases(text)
        return checked(yaml.load(text, _YAML))
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error


def _refuse_aliases(text: str) -> None:
    """Refuse what `to_yaml` never writes: with aliases, ten lines can become gigabytes."""
    depth = 0
    for event in yaml.parse(text, _YAML):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("expected no aliases")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:  # building it recurses
            raise yaml.YAMLError("expected settings that are not nested so deeply")


def checked(content: Any) -> RunConfig:
    """Return plain values as typed settings.

    Raises:
        ValidationError: a key is unknown, or a value has the wrong type or is out of range.
    """
    # JSON mode is strict about types but takes a list where the schema has a tuple
    return RunConfig.model_validate_json(json.dumps(_with_plain_zeros(content), default=str))


def _with_plain_zeros(content: Any) -> Any:
    """Return the content with 0.0 for -0.0, which computes the same and would be another run."""
    match content:
        case dict():
            return {key: _with_plain_zeros(value) for key, value in content.items()}
        case list() | tuple():
            return [_with_plain_zeros(value) for value in content]
        case float():
            return content + 0.0
    return content


def in_lines(error: ValidationError, prefix: str = "", typed: Any = None) -> str:
    """Say in one or two lines what was refused.

    Args:
        error: what was found wrong.
        prefix: of all keys.
        typed: the configuration with its interpolations, which are told and not their values
            where there are environment variables.
    """
    problems = error.errors(include_url=False)
    lines = [
        (prefix if problem["loc"] else prefix.replace(".", ": ")) + _in_one_line(problem, typed)
        for problem in problems[:_SHOWN_ERRORS]
    ]
    if len(problems) > _SHOWN_ERRORS:
        lines[-1] += f" (and {len(problems) - _SHOWN_ERRORS} more)"
    return "\n".join(lines)


def _in_one_line(problem: Any, typed: Any) -> str:
    if problem["type"] == "json_invalid":
        return "expected settings in UTF-8, and not nested so deeply"
    if not problem["loc"]:  # of several settings together
        return str(problem["msg"]).removeprefix("Value error, ")
    section, *rest = problem["loc"]
    # a section that comes in several kinds has its kind as second part of the location
    path = rest[1:] if section in _SECTIONS_OF_SEVERAL_KINDS else rest
    key = ".".join(str(part) for part in (section, *path))
    match problem["type"]:
        case "missing":
            return f"{key}: a value is needed, such as {key}=VALUE"
        case "extra_forbidden":
            if key == "experiment":
                hint = "its file lacks the first line `# @package _global_`"
                return f"{key}: unknown setting; {hint}"
            if section not in RunConfig.model_fields:
                return f"{key}: unknown setting"
            return explain_key(key, rest[0] if section in _SECTIONS_OF_SEVERAL_KINDS else None)
        case "union_tag_invalid":
            given = _at(typed, (section, "name")) if typed else problem["ctx"]["tag"]
            return f"{key}.name: expected one of {problem['ctx']['expected_tags']}, got '{given}'"
        case "union_tag_not_found":
            return f"{key}.name: a value is needed, such as {key}=OPTION"
    message = problem["msg"].removeprefix("Value error, ")
    for pydantic, ours in _WORDS:
        message = message.replace(pydantic, ours)
    given = json.dumps(_at(typed, (section, *path)) if typed else problem["input"], default=str)
    if len(given) > _SHOWN_CHARACTERS:
        given = given[:_SHOWN_CHARACTERS] + "..."
    # of a value from the environment nothing is repeated
    hint = _what_to_type(key, problem) if section in RunConfig.model_fields and not typed else ""
    return f"{key}: {message}, got {given}{hint}"


def _what_to_type(key: str, problem: Any) -> str:
    value = problem["input"]
    plain = isinstance(value, str | int | float) and len(str(value)) <= _SHOWN_CHARACTERS
    match problem["type"]:
        case "tuple_type" if plain:
            return f"; write {key}=[{value}]"
        case "string_type" if plain and (key.startswith("paths.") or key == "data.root"):
            return f"; write {key}=./{value}"
        case "string_type" if plain:
            return f"; write '{key}=\"{value}\"'"
    if isinstance(value, list) and 1 < len(value) <= _MOST_LEVELS and not is_list(key):
        return f"; to sweep write -m {short(key)}={','.join(map(str, value))}"
    return ""
