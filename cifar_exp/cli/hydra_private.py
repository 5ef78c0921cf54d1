"""Private names of Hydra and OmegaConf.

Two kinds are elsewhere. Some modules replace methods with `replaced`. The sweeper and the
launchers import their base classes, since Hydra creates these again when it scans for plugins.
pyproject.toml bounds the versions; tests/test_private_names.py fails if a version lacks a name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    "replaced",
    "with_parsed_value",
]


@contextmanager
def replaced(owner: type, **methods: Any) -> Iterator[None]:
    """Replace or add methods of a class while the block runs.

    Args:
        owner: the class that defines the methods.
        methods: the new methods by name.
    """
    before = {name: vars(owner).get(name) for name in methods}
    for name, method in methods.items():
        setattr(owner, name, method)
    try:
        yield
    finally:
        for name, method in before.items():
            if method is None:
                delattr(owner, name)
            else:
                setattr(owner, name, method)


def parsed_value(override: Override) -> Any:
    """Return the parsed value of an override, a `Sweep` for a sweep."""
    return override._value


def with_parsed_value(override: Override, value: Any) -> Override:
    """Return a copy of an override with another parsed value."""
    return replace(override, _value=value)


def plain_value(value: Any) -> Any:
    """Return a parsed value without its quotation marks; lists and mappings keep theirs."""
    return Override._convert_value(value)


def allow_objects(config: DictConfig) -> None:
    """Allow values of any class in a configuration."""
    config._set_flag("allow_objects", True)
