"""Private names of Hydra and OmegaConf.

Two kinds are elsewhere. `composition` and `hydra_guard` replace methods. The sweeper and the
launchers import their base classes, since Hydra creates these again when it scans for plugins.
pyproject.toml bounds the versions; tests/test_private_names.py fails if a version lacks a name.
"""

from dataclasses import replace
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

__all__ = [
    "CachingConfigRepository",
    "ConfigLoaderImpl",
    "ConfigRepository",
    "Hydra",
    "allow_objects",
    "get_args_parser",
    "get_overrides_dirname",
    "parsed_value",
    "plain_value",
    "stored_value",
    "with_parsed_value",
]


def parsed_value(override: Override) -> Any:
    """Return the parsed value of an override, a `Sweep` for a sweep."""
    return override._value


def with_parsed_value(override: Override, value: Any) -> Override:
    """Return a copy of an override with another parsed value."""
    return replace(override, _value=value)


def plain_value(value: Any) -> Any:
    """Return a parsed value without its quotation marks; lists and mappings keep theirs."""
    return Override._convert_value(value)


def stored_value(section: DictConfig, name: str) -> Any:
    """Return the unresolved value of a setting; None if there is none."""
    node: Any = section._get_node(name)
    return None if node is None else node._value()


def allow_objects(config: DictConfig) -> None:
    """Allow values of any class in a configuration."""
    config._set_flag("allow_objects", True)
