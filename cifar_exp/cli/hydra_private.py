"""The private names of Hydra and OmegaConf that this project uses, but for two kinds.

Those that it replaces are in `composition` and `hydra_guard`. The classes that the sweeper and the
launchers extend are imported there: Hydra makes them again when it scans for plug-ins, so they must
not be imported before. pyproject.toml bounds the versions, and
tests/test_private_names.py fails where a new version lacks one of them.
"""

from dataclasses import replace
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
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
    "parsed_value",
    "plain_value",
    "stored_value",
    "with_parsed_value",
]


def parsed_value(override: Override) -> Any:
    """Return the value of an override as it was parsed: a sweep stays one."""
    return override._value


def with_parsed_value(override: Override, value: Any) -> Override:
    """Return an override with another parsed value."""
    return replace(override, _value=value)


def plain_value(value: Any) -> Any:
    """Return a parsed value without its quotation marks, lists and mappings with theirs."""
    return Override._convert_value(value)


def stored_value(section: DictConfig, name: str) -> Any:
    """Return a value as it stands in a configuration, not resolved; None if it is not there."""
    node: Any = section._get_node(name)
    return None if node is None else node._value()


def allow_objects(config: DictConfig) -> None:
    """Let a configuration hold objects of any class."""
    config._set_flag("allow_objects", True)
