"""Restrict the code that a configuration can call to plugins and to names that the user allows.

Hydra calls what a `_target_` under `hydra` names, and a YAML file from elsewhere can name any
installed function. A list of prefixes is no protection: `torch.optim.sgd.torch.load` exists.
"""

import argparse
import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.cli.error_messages import describe
from cifar_exp.cli.hydra_private import (
    CachingConfigRepository,
    ConfigLoaderImpl,
    parsed_value,
    plain_value,
    replaced,
)
from cifar_exp.cli.overrides import key_of, parse
from cifar_exp.custom_code import untrusted
from cifar_exp.errors import UserError
from cifar_exp.expressions import explain_expression, expressions_kept, leaves, names_variables

_LOGGING = ("job_logging", "hydra_logging")
_INSTANTIATED = ("callbacks", "launcher", "sweeper", *_LOGGING)
# Keys whose values logging.config calls, and the classes and objects that they may name.
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
        The other arguments, and the names that the user trusts: those after `--allow`, and those
        of a `_target_` in an override. They are not stored with the run.

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
    key = key_of(argument)
    if key.startswith("hydra.job.env_set."):
        yield key.rpartition(".")[2]
    if "_target_" not in argument or argument.startswith("-"):
        return
    if (override := parse(argument)) is None:
        return
    value = parsed_value(override)
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        plain = plain_value(choice)
        if key.endswith("_target_"):
            yield str(plain)
        yield from (name for _, name in _named_leaves(plain, {"_target_"}))


@contextmanager
def only_allowed(names: Collection[str]) -> Iterator[None]:
    """Refuse compositions that name other code while the block runs.

    Hydra has no hook between composing and calling, so its methods are replaced. All compositions
    of a command, also those of a sweep's runs, call `load_configuration`.

    Args:
        names: that the user trusts, in addition to those that plugins registered.

    Raises:
        UserError: a configuration names other code.
    """
    compose = ConfigLoaderImpl.load_configuration
    initialize = CachingConfigRepository.initialize_sources

    @cache
    def allowed() -> frozenset[str]:  # once Hydra has found the plugins
        return frozenset([*names, *_registered()])

    def composed(*args: Any, **kwargs: Any) -> DictConfig:
        try:
            config = compose(*args, **kwargs)
        except Exception as error:
            # compose again, for a message without values of environment variables
            with expressions_kept(), _as_hydra_errors():
                compose(*args, **kwargs)
            raise UserError("the value of an environment variable is not valid") from error
        _check(config, allowed())
        return config

    def initialized(repository: CachingConfigRepository, search_path: ConfigSearchPath) -> None:
        for element in search_path.get_path():
            path = str(element.path)
            is_in_file = element.provider == "hydra.searchpath in main"
            if is_in_file and path.startswith("pkg://") and path not in names:
                raise untrusted("hydra.searchpath", path)  # imports the package
        initialize(repository, search_path)
        for source in repository.get_sources():  # Hydra prints a warning in two lines
            if source.provider.startswith("hydra.searchpath") and not source.available():
                path = f"{source.scheme()}://{source.path}"
                raise UserError(f"hydra.searchpath: {path} not found. Correct the path.")

    with (
        replaced(ConfigLoaderImpl, load_configuration=composed),
        replaced(CachingConfigRepository, initialize_sources=initialized),
    ):
        yield


@contextmanager
def _as_hydra_errors() -> Iterator[None]:
    """Raise Hydra's ValueError, OSError and others as its configuration errors."""
    try:
        yield
    except (HydraException, UserError):
        raise
    except Exception as error:
        raise ConfigCompositionException(describe(error)) from error


def _registered() -> Iterator[str]:
    """Yield the names that Hydra and installed plugins have registered."""
    hydra = ConfigStore.instance().repo["hydra"]
    for group in ("launcher", "sweeper"):
        yield from (name for _, name in _named_leaves(_nodes(hydra[group]), {"_target_"}))


def _nodes(stored: Any) -> Any:
    if isinstance(stored, dict):
        return {name: _nodes(node) for name, node in stored.items()}
    return OmegaConf.to_container(stored.node)


def _check(config: DictConfig, allowed: Collection[str]) -> None:
    if config.hydra.job.env_copy:
        raise UserError(
            "hydra.job.env_copy: expected an empty list, since it writes values of environment "
            "variables into files;\nuse hydra.job.env_set.NAME='${oc.env:NAME}'"
        )
    unresolved: Any = OmegaConf.to_container(config)
    try:
        named = _named_code(config, unresolved)
    except OmegaConfBaseException as error:
        raise UserError(explain_expression(error, unresolved)) from error
    for key, name in named:
        if name in allowed:
            continue
        if names_variables(unresolved) and name not in str(unresolved):
            raise UserError(f"{key}: expected a literal name, got an environment variable")
        raise untrusted(key, name)


def _named_code(config: DictConfig, unresolved: Any) -> list[tuple[str, str]]:
    """Return the keys and names of all code, with expressions resolved."""
    hydra = unresolved["hydra"]
    # ${oc.create:...} can create nodes, and errors of Hydra contain values of variables
    read = [*_named_leaves(unresolved, {"_target_"}), *(hydra[name] for name in _INSTANTIATED)]
    if "${" not in str(read) and not names_variables(unresolved):
        return [*_targets(config, unresolved), *_called_by_hydra(hydra)]
    with _as_in_a_run(config) as resolved:
        hydra = OmegaConf.to_container(resolved.hydra, resolve=True)
        return [*_targets(resolved, unresolved), *_called_by_hydra(hydra)]


def _targets(config: DictConfig, unresolved: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys and names of all targets, and of environment variables that are set."""
    for key, name in _named_leaves(unresolved, {"_target_"}):
        resolved = OmegaConf.select(config, key) if "${" in name else None
        yield key, str(resolved or name)
    for name in config.hydra.job.env_set:  # PATH decides which programs are called
        yield f"hydra.job.env_set.{name}", name


def _called_by_hydra(hydra: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys and names that Hydra calls without a task."""
    for section in _INSTANTIATED:
        yield from _named_leaves(hydra[section], {"_target_"}, f"hydra.{section}")
    for section in _LOGGING:
        for key, name in _named_leaves(hydra[section], _LOGGING_KEYS, f"hydra.{section}"):
            if name not in _LOGGING_NAMES:
                yield key, name
        for key, value in leaves(hydra[section], f"hydra.{section}"):
            if str(value).startswith("ext://") and value not in _LOGGING_OBJECTS:
                yield key, value


@contextmanager
def _as_in_a_run(config: DictConfig) -> Iterator[DictConfig]:
    """Resolve ${hydra:...} as during a run while the block runs."""
    config = copy.deepcopy(config)
    with read_write(config), open_dict(config):
        config.hydra.job.num, config.hydra.job.id = 0, "0"
        config.hydra.runtime.output_dir = "."
        # overrides as typed, whose expressions are not resolved
        config.hydra.overrides.task, config.hydra.overrides.hydra = [], []
        config.hydra.job.override_dirname = ""
    state = HydraConfig.instance()
    previous = state.cfg
    state.set_config(config)
    try:
        yield config
    finally:
        state.cfg = previous


def _named_leaves(content: Any, keys: Collection[str], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the full key and the value of each leaf whose last key is one of `keys`."""
    for key, value in leaves(content, path):
        if key.rpartition(".")[2] in keys:
            yield key, str(value)
