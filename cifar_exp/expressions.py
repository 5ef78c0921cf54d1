"""Paths in settings, and the environment variables in them, whose values are written nowhere.

A path such as `${oc.env:SCRATCH}/photos` is kept as it was typed, in everything that is saved, and
becomes a path where it is used.
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

_SHORTEST_SECRET = 3  # a shorter value is everywhere by chance
# Without quotes: a name, a path, and another expression.
_READS_AS_TEXT = r"(?!(?i:null|true|false|inf|nan)$)[A-Za-z_]\w*|[\w.-]*/[\w./-]*|\$\{[^{}]*\}"


def as_path(text: str) -> Path:
    """Return the path that a setting means: `${oc.env:NAME}`, with or without a default, and `~`.

    Raises:
        UserError: the environment variable is not set and has no default, or there can be no such
            path: a name is too long, or there is no such user.
    """
    try:
        path = Path(expanded(text)).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):  # need not be there yet
            path.stat()
    except RuntimeError as error:
        raise UserError(f"{text}: there is no home folder of that user") from error
    except OSError as error:
        raise UserError(f"{text}: {error.strerror}") from error
    return path


def expanded(text: str) -> str:
    """Return a text with the environment variables in it replaced by their values.

    Raises:
        UserError: one is not set and has no default.
    """
    try:
        return str(OmegaConf.create({"text": text}).text) if "${" in text else text
    except OmegaConfBaseException as error:
        raise UserError(f"{text}: {reason_of(error, text)}") from error


def names_variables(typed: Any) -> bool:
    """Tell whether environment variables stand anywhere in a text or configuration."""
    return "oc.env" in str(typed)


def reason_of(error: OmegaConfBaseException, typed: Any) -> str:
    """Say why an expression has no value, without telling values of environment variables.

    Args:
        error: what OmegaConf has told.
        typed: the text or configuration that it was about, not resolved.
    """
    if unset := re.search(r"Environment variable '(.*)' not found", str(error)):
        name = unset[1]
        return (
            f"the environment variable {name} is not set; set it, or give a default: "
            f"${{oc.env:{name},DEFAULT}}"
        )
    return (
        "what stands there has no value that fits"
        if names_variables(typed)
        else str(error).splitlines()[0]
    )


@contextmanager
def expressions_kept() -> Iterator[None]:
    """Let `${oc.env:NAME}` stand for its own text while the block resolves a configuration."""
    OmegaConf.register_new_resolver("oc.env", _own_text, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _own_text(*arguments: Any) -> str:
    return f"${{oc.env:{','.join(map(_as_typed, arguments))}}}"


def _as_typed(argument: Any) -> str:
    if not isinstance(argument, str):
        return "null" if argument is None else str(argument)
    if re.fullmatch(_READS_AS_TEXT, argument, re.ASCII):
        return argument
    if "${" not in argument:  # in there, quotation marks are not escaped
        # the grammar takes backslashes for themselves, except before a quotation mark
        argument = re.sub(r"(\\*)'", r"\1\1\\'", argument)
        argument = re.sub(r"(\\+)\Z", r"\1\1", argument)
    return f"'{argument}'"


def hide(text: str, config: Section) -> str:
    """Put expressions for the values of environment variables that the settings name.

    Args:
        text: an error or a log line, which may tell paths.
        config: the settings of the run it is about.
    """
    texts = _texts(config)
    names = {name for text in texts for name in re.findall(r"oc\.env:'?([^,'}]+)", text)}
    values = [(form, name) for name in names for form in _forms(os.environ.get(name, ""))]
    for value, name in sorted(values, reverse=True, key=lambda pair: len(pair[0])):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, f"${{oc.env:{name}}}")
    return text


def _texts(config: Section) -> Iterator[str]:
    waiting = [config.model_dump()]
    while waiting:
        for value in waiting.pop().values():
            if isinstance(value, dict):
                waiting.append(value)
            else:
                yield from map(str, value if isinstance(value, list) else [value])


def _forms(value: str) -> set[str]:
    """Return the ways in which messages tell a path."""
    ways = value, str(Path(value)), str(Path(os.path.expanduser(value)))
    return {form for way in ways for form in (way, repr(way)[1:-1])}
