"""Absolute paths in config.yaml, and their correction after a project has been moved.

On the command line, paths are relative to the working directory. In config.yaml they are absolute,
except paths with environment variables, which stay unresolved.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import ImageFolder
from cifar_exp.paths import RUNS


def anchored(config: RunConfig) -> RunConfig:
    """Return the settings with absolute paths, for config.yaml."""
    return _map_paths(config, lambda text: os.path.realpath(os.path.expanduser(text)))


def relocate(config: RunConfig, folder: Path) -> RunConfig:
    """Return the settings of a stored run with its current paths.

    If a project is moved together with its results, its images are moved too. `data.same_as` keeps
    their first folder, so that the id of the run does not change.

    Args:
        config: from config.yaml.
        folder: of the run, in the subfolder `runs` of the results.
    """
    config = _keep_linked_root(config, folder)
    runs = Path(os.path.realpath(folder)).parent
    if runs.name != RUNS or "${" in config.paths.results:
        return config
    results = runs.parent
    stored = [
        text for text in (config.paths.results, config.data.place) if text and "${" not in text
    ]
    if not all(map(os.path.isabs, stored)):  # older versions stored relative paths
        return _resolve_relative(config, results, folder)
    return _move(config, Path(config.paths.results), results)


def _move(config: RunConfig, before: Path, now: Path) -> RunConfig:
    """Replace the beginning of all paths; with /new/p/results for /old/p/results, /old by /new."""
    if before == now:
        return config
    while before.name == now.name and before.name:
        before, now = before.parent, now.parent

    def moved(text: str) -> str:
        if not Path(text).is_relative_to(before):
            return text
        new = str(now / Path(text).relative_to(before))
        return new if os.path.exists(new) or not os.path.exists(text) else text

    current = _map_paths(config, moved)
    if isinstance(config.data, ImageFolder) and isinstance(current.data, ImageFolder):
        first = config.data.same_as or config.data.root
        if current.data.root != first:
            data = current.data.model_copy(update={"same_as": first})
            current = current.model_copy(update={"data": data})
    return current


def _keep_linked_root(config: RunConfig, folder: Path) -> RunConfig:
    """Store a root that is now reached through a link in `same_as`, if the run's id requires it."""
    data = config.data
    if not isinstance(data, ImageFolder) or data.same_as or not os.path.isabs(data.root):
        return config
    if os.path.realpath(data.root) == data.root:
        return config
    named = config.model_copy(update={"data": data.model_copy(update={"same_as": data.root})})
    return named if folder.name.endswith(run_id(named)) else config


def _resolve_relative(config: RunConfig, results: Path, folder: Path) -> RunConfig:
    """Resolve relative paths against the base folder with which the run has its id."""
    parts = Path(config.paths.results).parts
    ends_alike = parts[0] != "/" and results.parts[-len(parts) :] == parts
    likely = Path(*results.parts[: -len(parts)]) if ends_alike else results.parent

    def resolve(base: Path) -> RunConfig:
        return _map_paths(config, lambda text: os.path.normpath(base / os.path.expanduser(text)))

    candidates = [resolve(likely), resolve(Path.cwd())]
    matching = [candidate for candidate in candidates if folder.name.endswith(run_id(candidate))]
    return (matching or candidates)[0]


def _map_paths(config: RunConfig, function: Callable[[str], str]) -> RunConfig:
    """Apply a function to all paths in the settings except those with environment variables."""

    def mapped(text: str) -> str:
        return text if "${" in text else function(text)

    paths = {name: mapped(text) for name, text in config.paths.model_dump().items()}
    data_paths = {name: mapped(getattr(config.data, name)) for name in config.data.paths}
    return config.model_copy(
        update={
            "paths": config.paths.model_copy(update=paths),
            "data": config.data.model_copy(update=data_paths),
        }
    )
