"""Environment variables in settings.

A path such as `${oc.env:SCRATCH}/photos` is saved unresolved and resolved when it is used, so that
values of environment variables are never written to disk.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from cifar_exp.errors import UserError
from cifar_exp.sections import Section

_UNSET = re.compile("Environment variable '(.*)' not found")
_MIN_SECRET_LENGTH = 3  # shorter values occur by chance
# Text that needs no quotes: a name, a path or another expression.
_UNQUOTED = r"(?!(?i:null|true|false|inf|nan)$)[A-Za-z_]\w*|[\w.-]*/[\w./-]*|\$\{[^{}]*\}"


def as_path(text: str) -> Path:
    """Resolve the environment variables and `~` in a path.

    Raises:
        UserError: an environment variable is not set and has no default, or the path is invalid:
            a name is too long or a user does not exist.
    """
    try:
        path = Path(expanded(text)).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):  # the path need not exist
            path.stat()
    except RuntimeError as error:
        raise UserError(f"{text}: the home folder of this user was not found") from error
    except OSError as error:
        raise UserError(f"{text}: {error.strerror}") from error
    return path


def expanded(text: str) -> str:
    """Return a text with its environment variables replaced by their values.

    Raises:
        UserError: an environment variable is not set and has no default.
    """
    try:
        return str(OmegaConf.create({"text": text}).text) if "${" in text else text
    except OmegaConfBaseException as error:
        raise UserError(f"{text}: {_reason(error, text)}") from error


def names_variables(typed: Any) -> bool:
    """Return whether a text or configuration contains environment variables."""
    return "oc.env" in str(typed)


def explain_expression(error: OmegaConfBaseException, typed: Any) -> str:
    """Return which setting has no value, and why, without values of environment variables.

    Args:
        error: raised by OmegaConf while it resolved a setting, which may refer to others.
        typed: the unresolved configuration.
    """
    key = error.full_key
    if unset := _UNSET.search(str(error)):
        uses = re.compile(rf"oc\.env:\s*['\"]?{re.escape(unset[1])}\b")
        keys = [key for key, value in leaves(typed) if uses.search(str(value))]
        if key not in keys:
            key = next((key for key in keys if not key.startswith("hydra.")), key)
    return f"{key}: {_reason(error, typed)}"


def _reason(error: OmegaConfBaseException, typed: Any) -> str:
    if unset := _UNSET.search(str(error)):
        name = unset[1]
        return (
            f"the environment variable {name} is not set; set it, or give a default: "
            f"${{oc.env:{name},DEFAULT}}"
        )
    return (
        "the expression has no valid value"
        if names_variables(typed)
        else str(error).splitlines()[0]
    )


def leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of nested dictionaries and lists."""
    if isinstance(content, list):
        content = dict(enumerate(content))
    for key, value in content.items() if isinstance(content, dict) else ():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list) and value:
            yield from leaves(value, inner)
        else:
            yield inner, value


@contextmanager
def expressions_kept() -> Iterator[None]:
    """Leave `${oc.env:NAME}` unresolved while the block resolves a configuration."""
    OmegaConf.register_new_resolver("oc.env", _unresolved, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _unresolved(*arguments: Any) -> str:
    return f"${{oc.env:{','.join(map(_quoted, arguments))}}}"


def _quoted(argument: Any) -> str:
    if not isinstance(argument, str):
        return "null" if argument is None else str(argument)
    if re.fullmatch(_UNQUOTED, argument, re.ASCII):
        return argument
    if "${" not in argument:  # quotation marks in an expression are not escaped
        # in the grammar a backslash is special only before a quotation mark
        argument = re.sub(r"(\\*)'", r"\1\1\\'", argument)
        argument = re.sub(r"(\\+)\Z", r"\1\1", argument)
    return f"'{argument}'"


def hide(text: str, config: Section) -> str:
    """Replace the values of environment variables used in the settings by their expressions.

    Args:
        text: an error or a log line, which may contain paths.
        config: the settings of the run.
    """
    used = [str(value) for _, value in leaves(config.model_dump(mode="json"))]
    names = {name for value in used for name in re.findall(r"oc\.env:'?([^,'}]+)", value)}
    values = [(form, name) for name in names for form in _forms(os.environ.get(name, ""))]
    for value, name in sorted(values, reverse=True, key=lambda pair: len(pair[0])):
        if len(value) >= _MIN_SECRET_LENGTH:
            text = text.replace(value, f"${{oc.env:{name}}}")
    return text


def _forms(value: str) -> set[str]:
    """Return a value in the forms in which messages show a path."""
    paths = value, str(Path(value)), str(Path(os.path.expanduser(value)))
    return {form for path in paths for form in (path, repr(path)[1:-1])}
