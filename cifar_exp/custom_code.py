"""Import and call of custom networks and data."""

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

# Optional launchers in conf/, with the extras of pyproject.toml that install them.
_PLUGINS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}


def call(section: str, config: CustomCode, trusted: Collection[str], **given: Any) -> Any:
    """Call the function or class of a section with the section's settings.

    Args:
        section: "model" or "data".
        config: the settings of the section.
        trusted: names that may be called.
        given: further keyword arguments.

    Raises:
        UserError: the name is not trusted or not found, or the call raises an error.
    """
    if config.target not in trusted:
        raise untrusted(f"{section}._target_", config.target)
    function = _import(section, config.target)
    settings = {name: _expand(value) for name, value in config.settings.items()}
    try:
        return function(**given, **settings)
    except (Exception, SystemExit) as error:
        raise UserError(f"{section}: {config.target} raises {summarize(error)}") from error


def untrusted(key: str, name: str) -> UserError:
    """Return the error for code that the user has not allowed.

    Args:
        key: the setting that names the code.
        name: of the code.
    """
    for plugin, extra in _PLUGINS.items():
        if name.startswith(f"hydra_plugins.{plugin}."):
            return UserError(f"{key}: {plugin} is not installed. Run pip install -e '.[{extra}]'")
    return UserError(f"{key}: {name} can run any code. If you trust it, add --allow {name}")


def digest(section: str, target: str) -> str | None:
    """Return the SHA-256 of the file that defines a function or class; None if there is no file.

    Args:
        section: "model" or "data".
        target: name of the function or class.

    Raises:
        UserError: the name is not found.
    """
    function = _import(section, target)
    file = getattr(sys.modules.get(function.__module__), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None


def _import(section: str, target: str) -> Callable[..., Any]:
    module_name, _, name = target.rpartition(".")
    # at the end, so that no file there shadows a library; kept for later imports
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed_import(section, module_name, error) from error
        raise UserError(
            f"{section}._target_: module {error.name} not found in {os.getcwd()}, on PYTHONPATH or "
            "among the installed packages"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed_import(section, module_name, error) from error
    function = getattr(module, name, None)
    if not callable(function):
        where = getattr(module, "__file__", None) or module_name
        here = Path(f"{module_name}.py").absolute()
        is_hidden = here.is_file() and str(here) != str(where)
        advice = f". Rename {here}, which that module hides" if is_hidden else ""
        raise UserError(f"{section}._target_: {where} has no class or function {name}{advice}")
    return function  # type: ignore[no-any-return]


def _failed_import(section: str, module: str, error: BaseException) -> UserError:
    advice = "Correct this line"
    if isinstance(error, ModuleNotFoundError):
        advice = f"Install {error.name}, or correct this line"
    problem = f"importing {module} raises {summarize(error)}"
    return UserError(f"{section}._target_: {problem}. {advice}.")


def _expand(value: Any) -> Any:
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return expanded(value) if isinstance(value, str) else value
