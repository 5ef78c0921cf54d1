"""From Hydra's composed YAML to the typed, checked `RunConfig`."""

import json
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError

_Task = TypeVar("_Task")
_SHOWN_ERRORS = 2
_SECTIONS_OF_SEVERAL_KINDS = ("data", "optimizer", "scheduler")
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
    try:
        content: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        content.pop("study", None)  # says which runs there are, and nothing about one of them
        return _checked(content)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key}: a value is needed, such as {key}=VALUE") from error
    except OmegaConfBaseException as error:
        message = str(error).splitlines()[0]
        raise UserError(
            f"{error.full_key}: {message}; give it as {error.full_key}=VALUE"
        ) from error
    except ValidationError as error:
        raise UserError(in_lines(error)) from error


def to_yaml(config: RunConfig) -> str:
    """Return the settings as they stand in a run's config.yaml."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> RunConfig:
    """Read what `to_yaml` wrote.

    Raises:
        ValueError: it is not YAML, or not a configuration.
    """
    try:
        return _checked(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _checked(content: Any) -> RunConfig:
    # JSON mode is strict about types but takes a list where the schema has a tuple
    return RunConfig.model_validate_json(json.dumps(content))


def in_lines(error: ValidationError, prefix: str = "") -> str:
    """Say in one or two lines what was refused. Args: prefix: of all keys."""
    problems = error.errors(include_url=False)
    lines = [
        (prefix if problem["loc"] else prefix.replace(".", ": ")) + _in_one_line(problem)
        for problem in problems[:_SHOWN_ERRORS]
    ]
    if len(problems) > _SHOWN_ERRORS:
        lines[-1] += f" (and {len(problems) - _SHOWN_ERRORS} more)"
    return "\n".join(lines)


def _in_one_line(problem: Any) -> str:
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
            hint = "; its file lacks the first line `# @package _global_`" * (key == "experiment")
            return f"{key}: there is no such setting{hint}"
        case "union_tag_invalid":
            expected, given = problem["ctx"]["expected_tags"], problem["ctx"]["tag"]
            return f"{key}.name: expected one of {expected}, got '{given}'"
    message = problem["msg"].removeprefix("Value error, ")
    for pydantic, ours in _WORDS:
        message = message.replace(pydantic, ours)
    return f"{key}: {message}, got {json.dumps(problem['input'])}"
