"""Which code a configuration may call: what plugins registered, and what the user named himself.

Hydra calls whatever a `_target_` under `hydra` names, and a YAML file from elsewhere can name
anything that is installed: `torch.optim.sgd.torch.load` passes every test of a prefix.
"""

import argparse
import copy
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, NoReturn

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.cli.hydra_private import (
    CachingConfigRepository,
    ConfigLoaderImpl,
    parsed_value,
    plain_value,
)
from cifar_exp.custom_code import untrusted
from cifar_exp.errors import UserError
from cifar_exp.expressions import expressions_kept, names_variables, reason_of

_LOGGING = ("job_logging", "hydra_logging")
_CALLED = ("callbacks", "launcher", "sweeper", *_LOGGING)
# What logging.config calls, and the classes that are there for it.
_LOGGING_KEYS = {"()", "class", "listener", "queue"}
_LOGGING_NAMES = {
    "logging.FileHandler",
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
    "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
}
_LOGGING_OBJECTS = {"ext://sys.stdout", "ext://sys.stderr"}


def split_allowed(arguments: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Take `--allow NAME` out of a command line.

    Args:
        arguments: the command line without the program.

    Returns:
        The command line that Hydra understands, and the names the user trusts: those after
        `--allow`, and those that an override gives to a `_target_`. Nothing keeps the former: who
        gives a recorded command again decides again.

    Raises:
        UserError: `--allow` has no name.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--allow", action="append", default=[])
    parser.error = _refuse  # type: ignore[method-assign]
    known, others = parser.parse_known_args(list(arguments))
    typed = (name for argument in others for name in _typed_names(argument))
    return others, frozenset([*known.allow, *typed])


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message.removeprefix('argument ')}, such as --allow my_package.MyClass")


def _typed_names(argument: str) -> Iterator[str]:
    key = argument.partition("=")[0].lstrip("+")
    if key.startswith("hydra.job.env_set."):
        yield key.rpartition(".")[2]
    if "_target_" not in argument or argument.startswith("-"):
        return
    try:
        override = OverridesParser.create().parse_override(argument)
    except Exception:  # Hydra parses it again and tells what is wrong
        return
    value = parsed_value(override)
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        plain = plain_value(choice)
        if key.endswith("_target_"):
            yield str(plain)
        yield from (name for _, name in _found(plain, {"_target_"}))


@contextmanager
def only_allowed(names: Collection[str]) -> Iterator[None]:
    """Refuse other code in whatever Hydra composes while the block runs.

    Hydra has no place between composing and calling where one could look, so its methods are
    wrapped: all of a command's compositions, those of a sweep's runs too, go through the first.

    Args:
        names: that the user trusts, besides what plugins registered.
    """

    def checked(compose: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
        @wraps(compose)
        def wrapper(*args: Any, **kwargs: Any) -> DictConfig:
            try:
                config = compose(*args, **kwargs)
            except Exception as error:
                # again, for a message that tells no value of an environment variable
                with expressions_kept(), _told_by_hydra():
                    compose(*args, **kwargs)
                raise UserError("expected another value of an environment variable") from error
            _check(config, {*names, *_registered()})
            return config

        return wrapper

    def checked_path(use: Callable[..., None]) -> Callable[..., None]:
        @wraps(use)
        def wrapper(repository: Any, search_path: ConfigSearchPath) -> None:
            for element in search_path.get_path():
                path = str(element.path)
                in_a_file = element.provider == "hydra.searchpath in main"
                if in_a_file and path.startswith("pkg://") and path not in names:
                    raise untrusted("hydra.searchpath", path)  # a package's code runs
            use(repository, search_path)

        return wrapper

    compose = ConfigLoaderImpl.load_configuration
    use = CachingConfigRepository.initialize_sources
    ConfigLoaderImpl.load_configuration = checked(compose)  # type: ignore[method-assign]
    CachingConfigRepository.initialize_sources = checked_path(use)  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]
        CachingConfigRepository.initialize_sources = use  # type: ignore[method-assign]


@contextmanager
def _told_by_hydra() -> Iterator[None]:
    """Let Hydra's ValueError, OSError and others be mistakes of the user, as they are."""
    try:
        yield
    except (HydraException, UserError):
        raise
    except Exception as error:
        raise ConfigCompositionException(in_words(error)) from error


def in_words(error: Exception) -> str:
    """Say in one or two lines what a library has raised."""
    text = "\n".join(str(error).strip().splitlines()[:2])
    if isinstance(error, HydraException | ValueError) and text:
        return text
    text = text or str(traceback.extract_tb(error.__traceback__)[-1].line)
    return f"Hydra fails with {type(error).__name__}: {text}"


def _registered() -> Iterator[str]:
    """Yield the names that Hydra and installed plugins have stored, which takes Python code."""
    hydra = ConfigStore.instance().repo["hydra"]
    for group in ("launcher", "sweeper"):
        yield from (name for _, name in _found(_nodes(hydra[group]), {"_target_"}))


def _nodes(stored: Any) -> Any:
    if isinstance(stored, dict):
        return {name: _nodes(node) for name, node in stored.items()}
    return OmegaConf.to_container(stored.node)


def _check(config: DictConfig, allowed: Collection[str]) -> None:
    if config.hydra.job.env_copy:
        raise UserError(
            "hydra.job.env_copy: expected none, since it would write values of the environment "
            "into files;\nuse hydra.job.env_set.NAME='${oc.env:NAME}'"
        )
    typed: Any = OmegaConf.to_container(config)
    looked_at = [*_found(typed, {"_target_"}), *(typed["hydra"][name] for name in _CALLED)]
    # ${oc.create:...} can make whole nodes; and Hydra would tell a variable's value in its errors
    resolves = "${" in str(looked_at) or names_variables(typed)
    try:
        with _as_in_a_run(config) if resolves else nullcontext(config) as running:
            hydra: Any = OmegaConf.to_container(running.hydra, resolve=resolves)
            named = [*_anywhere(running, typed), *_called_by_hydra(hydra)]
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {reason_of(error, typed)}") from error
    for key, name in named:
        if name in allowed:
            continue
        if names_variables(typed) and name not in str(typed):
            raise UserError(f"{key}: expected no code from an environment variable")
        raise untrusted(key, name)


def _anywhere(config: DictConfig, typed: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys and names of targets, of the run's own settings too."""
    for key, name in _found(typed, {"_target_"}):
        resolved = OmegaConf.select(config, key) if "${" in name else None
        yield key, str(resolved or name)
    for name in config.hydra.job.env_set:  # PATH, say, decides which programs are run
        yield f"hydra.job.env_set.{name}", name


def _called_by_hydra(hydra: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys and names of what Hydra calls by itself."""
    for section in _CALLED:
        yield from _found(hydra[section], {"_target_"}, f"hydra.{section}")
    for section in _LOGGING:
        for key, name in _found(hydra[section], _LOGGING_KEYS, f"hydra.{section}"):
            if name not in _LOGGING_NAMES:
                yield key, name
        for key, value in _leaves(hydra[section], f"hydra.{section}"):
            if str(value).startswith("ext://") and value not in _LOGGING_OBJECTS:
                yield key, value


@contextmanager
def _as_in_a_run(config: DictConfig) -> Iterator[DictConfig]:
    """Let ${hydra:...} resolve as it does while a run is running."""
    config = copy.deepcopy(config)
    with read_write(config), open_dict(config):
        config.hydra.job.num, config.hydra.job.id = 0, "0"
        config.hydra.runtime.output_dir = "."
        # what was typed, in which an expression is no expression
        config.hydra.overrides.task, config.hydra.overrides.hydra = [], []
        config.hydra.job.override_dirname = ""
    state = HydraConfig.instance()
    before = state.cfg
    state.set_config(config)
    try:
        yield config
    finally:
        state.cfg = before


def _found(content: Any, keys: Collection[str], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what stands under one of these keys, at any depth, and before it the whole key."""
    for key, value in _leaves(content, path):
        if key.rpartition(".")[2] in keys:
            yield key, str(value)


def _leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, list):
        content = dict(enumerate(content))
    for key, value in content.items() if isinstance(content, dict) else ():
        inner = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list) and value:
            yield from _leaves(value, inner)
        else:
            yield inner, value
