"""Paths in the settings of a run that mean the same from every folder, and after a move.

What is typed is relative to the folder that the command is called in. A config.yaml is read from
others, so its paths are absolute; those with environment variables stay as they were typed.
"""

import os
from collections.abc import Callable
from pathlib import Path

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import ImageFolder
from cifar_exp.paths import RUNS

_Place = Callable[[str], str]


def anchored(config: RunConfig) -> RunConfig:
    """Return the settings with absolute paths, as a run's config.yaml has them."""
    return _with_places(config, lambda text: os.path.realpath(os.path.expanduser(text)))


def found_again(config: RunConfig, folder: Path) -> RunConfig:
    """Return the settings of a stored run with its paths as they are now.

    Where a project was moved together with its results, so were the images in it. They stay known
    as the images of their first place, also where a link now leads from there: the identity of the
    run does not change.

    Args:
        config: as config.yaml has it.
        folder: of the run, in `runs` of the results.
    """
    config = _known_as_before(config, folder)
    now = Path(os.path.realpath(folder)).parent
    if now.name != RUNS or "${" in config.paths.results:
        return config
    now = now.parent
    stored = [
        text for text in (config.paths.results, config.data.place) if text and "${" not in text
    ]
    if not all(map(os.path.isabs, stored)):  # from before paths were stored as absolute ones
        return _from_where_it_was_called(config, now, folder)
    before = Path(config.paths.results)
    if before == now:
        return config
    while before.name == now.name and before.name:
        before, now = before.parent, now.parent

    def moved(text: str) -> str:
        if not Path(text).is_relative_to(before):
            return text
        new = str(now / Path(text).relative_to(before))
        return new if os.path.exists(new) or not os.path.exists(text) else text

    placed = _with_places(config, moved)
    if isinstance(config.data, ImageFolder) and isinstance(placed.data, ImageFolder):
        known_as = config.data.same_as or config.data.root
        if placed.data.root != known_as:
            data = placed.data.model_copy(update={"same_as": known_as})
            placed = placed.model_copy(update={"data": data})
    return placed


def _known_as_before(config: RunConfig, folder: Path) -> RunConfig:
    """Name the place of images that a link leads to now, if the run has its id with it."""
    data = config.data
    if not isinstance(data, ImageFolder) or data.same_as or not os.path.isabs(data.root):
        return config
    if os.path.realpath(data.root) == data.root:
        return config
    named = config.model_copy(update={"data": data.model_copy(update={"same_as": data.root})})
    return named if folder.name.endswith(run_id(named)) else config


def _from_where_it_was_called(config: RunConfig, results: Path, folder: Path) -> RunConfig:
    """Find the folder that relative paths belong to: with it the run has its id."""
    parts = Path(config.paths.results).parts
    ends_alike = parts[0] != "/" and results.parts[-len(parts) :] == parts
    likely = Path(*results.parts[: -len(parts)]) if ends_alike else results.parent
    placed = [
        _with_places(config, lambda text, base=base: _at(base, text))  # type: ignore[misc]
        for base in (likely, Path.cwd())
    ]
    named = [one for one in placed if folder.name.endswith(run_id(one))]
    return (named or placed)[0]


def _at(base: Path, text: str) -> str:
    return os.path.normpath(base / os.path.expanduser(text))


def _with_places(config: RunConfig, place: _Place) -> RunConfig:
    def placed(text: str) -> str:
        return text if "${" in text else place(text)

    paths = {name: placed(text) for name, text in config.paths.model_dump().items()}
    changed = config.model_copy(update={"paths": config.paths.model_copy(update=paths)})
    if config.data.paths:
        own = {name: placed(getattr(config.data, name)) for name in config.data.paths}
        data = config.data.model_copy(update=own)
        changed = changed.model_copy(update={"data": data})
    return changed
