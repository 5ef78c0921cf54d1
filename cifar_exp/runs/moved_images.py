"""Images that have been moved or copied: what they hold says which runs have seen them."""

import os
from collections.abc import Sequence
from pathlib import Path

from cifar_exp.config.load import from_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import read_text
from cifar_exp.paths import CONFIG_FILE, RUNS
from cifar_exp.runs.folder import RunFolder


def recognised(
    configs: Sequence[RunConfig], known: dict[str, str | None] | None = None
) -> list[RunConfig]:
    """Let runs on images that were moved be those that were trained before they were moved.

    The id of a run holds the place of its images. Where runs are stored on other places, and none
    on this one, the digests of the images decide whether they are the same ones; then
    `data.same_as` names the place that the ids count.

    Args:
        configs: checked settings, in any number.
        known: what was found out before, by place; pass the same for several calls.

    Returns:
        The settings, in the same order.
    """
    found = {} if known is None else known
    return [_recognised(config, found) for config in configs]


def _recognised(config: RunConfig, known: dict[str, str | None]) -> RunConfig:
    data = config.data
    if not isinstance(data, ImageFolder) or data.same_as or "${" in data.root:
        return config
    place = os.path.realpath(as_path(data.root))
    if place not in known:
        known[place] = _first_place(config, place)
        if known[place]:
            print(
                f"data.root={data.root}: the images are those of {known[place]}, so the runs on "
                "them count as runs on these",
                flush=True,
            )
    if known[place] is None:
        return config
    return config.model_copy(update={"data": data.model_copy(update={"same_as": known[place]})})


def _first_place(config: RunConfig, place: str) -> str | None:
    """Return the place under which stored runs know the images of this one, if it is another."""
    candidates: dict[str, tuple[ImageFolder, str]] = {}
    for file in sorted((as_path(config.paths.results) / RUNS).glob(f"*/{CONFIG_FILE}")):
        stored = _image_folder(file)
        if stored is None:
            continue
        first = stored.same_as or stored.root
        if first == place:
            return None  # runs have been trained on it
        if stored.root == place:
            return first  # has been recognised before
        digest = RunFolder(file.parent).read_state().get("data_sha256")
        if isinstance(digest, str):
            candidates.setdefault(first, (stored, digest))
    return next(
        (
            first
            for first, (stored, digest) in candidates.items()
            if _digest(stored, place, as_path(config.paths.cache)) == digest
        ),
        None,
    )


def _image_folder(file: Path) -> ImageFolder | None:
    try:
        text = read_text(file)
        # most runs are on other data, and to check all their settings takes longer
        data = from_yaml(text).data if "name: image_folder" in text else None
    except (OSError, ValueError):
        return None
    return data if isinstance(data, ImageFolder) and os.path.isabs(data.root) else None


def _digest(stored: ImageFolder, place: str, cache: Path) -> str | None:
    from cifar_exp.data.sources import load  # PyTorch takes 2 s

    try:
        return load(stored.model_copy(update={"root": place}), cache).digest()
    except UserError:
        return None  # the images cannot be read, which is told where they are trained on
