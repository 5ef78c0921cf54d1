"""Explain why Hydra or this project refused a command."""

import re
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException, ValidationError

from cifar_exp.cli.overrides import as_typed
from cifar_exp.config.keys import SHORT_NAMES, explain_key, explain_option, is_list, short
from cifar_exp.errors import UserError, import_problem, summarize
from cifar_exp.files import disk_full
from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY, free_memory, is_out_of_memory
from cifar_exp.terminal import printable

_LONGEST_LINE = 500  # characters of a message
# Arguments of the functions that an override may call.
_EXAMPLES = {"choice": "0.1,0.01", "interval": "0.001,0.1", "range": "1,10", "glob": "*"}


def explain(error: Exception) -> str | None:
    """Explain in one or two lines why a command failed.

    Frees the memory that the error keeps alive first, since a message may need it.

    Args:
        error: its traceback stays readable.

    Returns:
        The message, or None if the program is at fault.
    """
    free_memory(error)
    if not _is_mistake(error):
        return None
    lines = printable(_explained(error)).splitlines()
    return "\n".join(line[:_LONGEST_LINE] + "..." * (len(line) > _LONGEST_LINE) for line in lines)


def _is_mistake(error: Exception) -> bool:
    # an OSError is a disk that is full or missing, or a folder without permission
    known = UserError | HydraException | OmegaConfBaseException | OSError
    known |= ImportError | SyntaxError  # a package is missing, or code was changed
    if isinstance(error, known) or is_out_of_memory(error):
        return True
    # Hydra raises ValueError and others too; then the traceback has no line of this package
    package = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    return not any(package in Path(frame.filename).parents for frame in frames)


def _explained(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return TOO_LITTLE_MEMORY
    if isinstance(error, ImportError | SyntaxError):
        return import_problem(error)
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename else ""
        first = "Free some space, then run" if disk_full(error) else "Run"
        return f"{file}{error.strerror}. {first} the same command again; finished work is kept."
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_missing(str(error.missing_cfg_file), error.options or ())
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        named = re.search(r"full_key: (.+)", str(error))
        raised = error.__cause__.__cause__ or error.__cause__
        return f"{named[1] if named else 'hydra'}: {summarize(raised)}"
    return _explain_composition(error)


def _explain_syntax(override: str) -> str:
    joined = re.sub(r"\s*=\s*", "=", override.strip(), count=1)
    if joined != override:
        return f"{override}: expected no spaces; write {shlex.quote(joined)}"
    if called := re.match(rf"([^=]+)=({'|'.join(_EXAMPLES)})\(", joined):
        example = f"{called[1]}={called[2]}({_EXAMPLES[called[2]]})"
        return f"{override}: expected other arguments, such as '{example}'"
    return (
        f"{override}: expected KEY=VALUE, such as lr=0.01; "
        "a value with special characters needs quotes: 'KEY=\"VALUE\"'"
    )


def _explain_composition(error: Exception) -> str:
    """Explain an error of Hydra by its message, since it has no class or attribute for the case."""
    text, cause = str(error), error.__cause__
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return _explain_several(several[1])
    if existing := re.search(r"An item is already at '(.*)'", text):
        return f"+{existing[1]}: expected no plus, since {existing[1]} exists"
    if isinstance(cause, ValidationError) and cause.full_key:  # a setting of Hydra
        problem = str(cause).partition("\n")[0]
        return f"{cause.full_key}: {problem[:1].lower()}{problem[1:]}"
    if key := re.search(r"(?:Could not override|specify|append|find) '\+?([\w./@-]+)'", text):
        return explain_key(key[1].rstrip("."))
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return explain_key(cause.full_key)
    return describe(error)


def _explain_missing(file: str, found: Sequence[str]) -> str:
    group, _, option = file.rpartition("/")
    if file.partition("/")[0] in SHORT_NAMES:  # lr=1/10
        group, _, option = file.partition("/")
    if group:  # Hydra lists no options where several were chosen: logger=[tensorboard,wandb]
        return explain_option(group, option, found)
    return f"{option}.yaml: not found in the configuration folders"


def _explain_several(override: str) -> str:
    key, _, values = override.partition("=")
    joined = re.sub(r"\s*,\s*", ",", values)
    problem = f"{as_typed(override)}: several values need a sweep"
    if is_list(key):
        return f"{problem}; write {key}=[{joined}], or for a sweep over lists -m '{key}=[1],[1,2]'"
    return f"{problem}; write -m {shlex.quote(f'{short(key)}={joined}')}"


def describe(error: Exception) -> str:
    """Return the first two lines of a library's message, with the error's name if it needs one."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        return f"{mark.name}, line {mark.line + 1}: not valid YAML: {error.problem}"
    if isinstance(error, RecursionError):
        return "a file refers to itself, in its `defaults` or by a YAML alias. Remove that line."
    text = "\n".join(str(error).strip().splitlines()[:2])
    if isinstance(error, HydraException | ValueError) and text:
        return text
    text = text or str(traceback.extract_tb(error.__traceback__)[-1].line)
    return f"Hydra failed with {type(error).__name__}: {text}"
