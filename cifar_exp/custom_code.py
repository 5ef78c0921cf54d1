"""Code of the user's own: found where the command is called, and called."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError, summarize
from cifar_exp.expressions import expanded
from cifar_exp.sections import CustomCode

# Launchers that conf/ has settings for, and the extras of pyproject.toml that bring them.
_PLUGINS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}


def call(section: str, own: CustomCode, trusted: Collection[str], **given: Any) -> Any:
    """Call what a section names, with the settings that stand there.

    Args:
        section: "model" or "data".
        own: the section's settings.
        trusted: the names that may be called.
        given: keyword arguments besides the user's settings.

    Raises:
        UserError: the name is not trusted, there is nothing of that name, or it raises an error.
    """
    if own.target not in trusted:
        raise untrusted(f"{section}._target_", own.target)
    function = _imported(section, own.target)
    settings = {name: _with_variables(value) for name, value in own.settings.items()}
    try:
        return function(**given, **settings)
    except Exception as error:
        raise UserError(f"{section}: {own.target} raises {summarize(error)}") from error


def untrusted(key: str, name: str) -> UserError:
    """Return the error for code that a configuration names and the user has not allowed."""
    for plugin, extra in _PLUGINS.items():
        if name.startswith(f"hydra_plugins.{plugin}."):
            return UserError(f"{key}: expected {plugin}; pip install -e '.[{extra}]' brings it")
    return UserError(f"{key}: {name} can run any code; if you trust it, add --allow {name}")


def digest(target: str) -> str | None:
    """Return the SHA-256 of the file that holds what was called, if it is in one."""
    module_name, _, name = target.rpartition(".")
    called = getattr(importlib.import_module(module_name), name)
    file = getattr(sys.modules.get(called.__module__), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


def _imported(section: str, target: str) -> Callable[..., Any]:
    module_name, _, name = target.rpartition(".")
    # at the end, so that a file there does not stand in for a library; it stays, for later imports
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed_import(section, module_name, error) from error
        raise UserError(
            f"{section}._target_: there is no module {error.name}, neither in {os.getcwd()} nor "
            "among what is installed or on PYTHONPATH"
        ) from error
    except Exception as error:
        raise _failed_import(section, module_name, error) from error
    function = getattr(module, name, None)
    if not callable(function):
        where = getattr(module, "__file__", None) or module_name
        raise UserError(f"{section}._target_: {where} has no class or function {name}")
    return function  # type: ignore[no-any-return]


def _failed_import(section: str, module: str, error: Exception) -> UserError:
    return UserError(f"{section}._target_: importing {module} raises {summarize(error)}")


def _with_variables(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_variables(one) for one in value]
    return expanded(value) if isinstance(value, str) else value
