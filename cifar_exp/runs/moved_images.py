"""Recognises moved, copied and changed image folders by their content."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cifar_exp.config.load import from_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.class_folders import ClassFolders
from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import read_text
from cifar_exp.paths import CONFIG_FILE, MODEL_FILE, RUNS
from cifar_exp.runs.folder import ENDED, RunFolder

ImagesKey = tuple[Any, ...]  # the path of a folder, and the part of its images that is used


def recognised(
    configs: Sequence[RunConfig],
    known: dict[ImagesKey, str | None] | None = None,
    writes: bool = True,
) -> list[RunConfig]:
    """Set `data.same_as` for image folders that were moved, so that run ids do not change.

    The id of a run contains the path of its images. If no stored run has this path, the images
    are compared by digest with those of stored runs that used all images, or the same part of them
    as the new run. If they are equal, `data.same_as` is set to the path that the stored runs have.

    Args:
        configs: checked settings.
        known: cache of the results; pass the same dictionary to several calls.
        writes: whether decoded images are stored in `paths.cache`.

    Returns:
        The settings in the same order.
    """
    cache = {} if known is None else known
    if writes:
        return [_recognised(config, cache) for config in configs]
    with TemporaryDirectory() as folder:
        return [_recognised(config, cache, Path(folder)) for config in configs]


def changed_images(runs: Sequence[tuple[RunConfig, RunFolder]]) -> list[str]:
    """Compare the images of finished runs with those that the runs were trained on.

    Args:
        runs: settings and folder of each run; runs that will be trained are ignored.

    Returns:
        A message for each image folder that has changed.
    """
    digests: dict[str, str | None] = {}
    changed: Counter[str] = Counter()
    for config, folder in runs:
        data = config.data
        if not isinstance(data, ImageFolder) or config.rerun or folder.status not in ENDED:
            continue
        before, key = folder.read_state().get("data_sha256"), data.model_dump_json()
        if key not in digests:
            digests[key] = _digest(data, data.root, as_path(config.paths.cache))
        changed[data.root] += None not in (before, digests[key]) and before != digests[key]
    return [
        f"data.root={root}: the images have changed since {count} of the finished runs "
        f"{'was' if count == 1 else 'were'} trained. Add rerun=true to train on the current images."
        for root, count in changed.items()
        if count
    ]


def _recognised(
    config: RunConfig, known: dict[ImagesKey, str | None], cache: Path | None = None
) -> RunConfig:
    data = config.data
    if not isinstance(data, ImageFolder) or data.same_as or "${" in data.root:
        return config
    root = os.path.realpath(as_path(data.root))
    images = (root, *_part(data))
    if images not in known:
        earlier = _earlier_root(config, root, cache or as_path(config.paths.cache))
        if earlier and earlier not in known.values():
            print(
                f"data.root={data.root}: uses the runs on {earlier}, which had the same images",
                flush=True,
            )
        known[images] = earlier
    if known[images] is None:
        return config
    return config.model_copy(update={"data": data.model_copy(update={"same_as": known[images]})})


def _part(data: ImageFolder) -> tuple[Any, ...]:
    """Return the settings that determine which images of a folder are used."""
    return data.limit_train, data.limit_test, data.val_fraction, data.test_fraction, data.image_size


def _covers(stored: ImageFolder, new: ImageFolder) -> bool:
    """Return whether a stored run used all images that a new one with the same folder would use."""
    limits = (stored.limit_train, stored.limit_test)
    return (limits == (None, None) and not stored.val_fraction) or _part(stored) == _part(new)


def _earlier_root(config: RunConfig, root: str, cache: Path) -> str | None:
    """Return the path that stored runs have for the same images; None if it is `root` or none."""
    assert isinstance(config.data, ImageFolder)
    candidates: dict[str, tuple[ImageFolder, str]] = {}
    for file in sorted((as_path(config.paths.results) / RUNS).glob(f"*/{CONFIG_FILE}")):
        stored = _image_folder(file)
        if stored is None:
            continue
        earlier = stored.same_as or stored.root
        if earlier == root:
            return None
        if stored.root == root and not os.path.isdir(earlier):
            return earlier  # a run on `root` was recognised before, also if images have changed
        folder = RunFolder(file.parent)
        digest = folder.read_state().get("data_sha256")
        is_new = earlier not in candidates and _covers(stored, config.data)
        if is_new and isinstance(digest, str) and _may_be(folder, stored, root):
            candidates[earlier] = (stored, digest)
    for earlier, (stored, digest) in candidates.items():
        if _digest(stored, root, cache) == digest:
            return earlier
    return None


def _may_be(folder: RunFolder, stored: ImageFolder, root: str) -> bool:
    """Return whether a run may have had the images of a folder: decoding them takes long."""
    found = ClassFolders(Path(root), stored.test_fraction)
    try:
        classes = json.loads(read_text(folder.path / MODEL_FILE))["classes"]
    except (OSError, ValueError, KeyError, TypeError):  # such as runs that have not ended
        classes = found.classes
    return not found.problems and classes == list(found.classes)


def _image_folder(file: Path) -> ImageFolder | None:
    """Return the data settings in a config.yaml if they are an image folder."""
    try:
        text = read_text(file)
        # most runs have other data, and parsing is slow
        data = from_yaml(text).data if "name: image_folder" in text else None
    except (OSError, ValueError):
        return None
    return data if isinstance(data, ImageFolder) and os.path.isabs(data.root) else None


def _digest(stored: ImageFolder, root: str, cache: Path) -> str | None:
    from cifar_exp.data.sources import load  # importing PyTorch takes 2 s

    try:
        return load(stored.model_copy(update={"root": root}), cache).digest()
    except UserError:
        return None  # training on these images reports the error
