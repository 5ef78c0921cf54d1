"""Checks before training: loggers, devices, data, networks, folders and disk space."""

import errno
import os
import shutil
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from cifar_exp.config.identity import can_be_continued
from cifar_exp.config.schema import Logger, RunConfig
from cifar_exp.data.class_folders import is_among_classes
from cifar_exp.data.settings import Contents, ImageFolder
from cifar_exp.data.sources import check
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.run_loggers import kinds
from cifar_exp.models.build import check_model
from cifar_exp.models.settings import Network
from cifar_exp.paths import CHECKPOINTS
from cifar_exp.runs.checkpoint import KEPT
from cifar_exp.runs.cleaning import size_bytes
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.needs import Needs
from cifar_exp.training.device import uses_gpu

# Measured sizes, rounded up.
_RUN_BYTES = 500_000  # figures and log
_EPOCH_BYTES = 2_000  # metrics and log
_EVENTS_EPOCH_BYTES = 500  # event file
_EVENTS_FIGURES_BYTES = 300_000  # event file
_BYTES_PER_VALUE = 4


def preflight(
    configs: Sequence[RunConfig], at_once: int = 1, trains_here: bool = True, writes: bool = True
) -> Needs:
    """Check that runs can be trained, and write their hyperparameters for TensorBoard.

    Args:
        configs: settings of the runs, at least one.
        at_once: number of runs that train at the same time.
        trains_here: whether they train on this machine; if not, devices are not checked.
        writes: whether to create folders, download images and write hyperparameters.

    Returns:
        The space and the images of the runs.

    Raises:
        UserError: a logger, device or data set is missing, a network cannot be built, a folder
            is not writable, or the disk has too little space for all runs.
        OSError: the hyperparameters cannot be written; `filename` is set.
    """
    sizes, of_runs = [], []
    contents: dict[str, Contents] = {}
    for logger in {config.logger for config in configs}:
        _check_loggers(logger)
    for config in configs:
        if trains_here:
            uses_gpu(config)
        _refuse_among_images(config)
        images = check(config.data, config.custom_code, contents, downloads=writes)
        _, classes, train_size, image_size = images
        # networks may reject a batch of one image
        is_single = (train_size - 1) % config.data.batch_size == 0
        sizes.append(_state_size(config.model, classes, image_size, config.custom_code, is_single))
        of_runs.append(images)
    folders = {config.paths.results for config in configs}
    folders |= {config.paths.logs for config in configs if config.logger.tensorboard}
    for folder in sorted(folders):
        _check_writable(as_path(folder), writes)
    checkpoints = list(map(_checkpoint_bytes, configs, sizes))
    kept = _kept_bytes(configs, checkpoints)
    disk = _needed_bytes(configs, sum(sizes), checkpoints, at_once) + kept
    _check_space(configs, disk, kept)
    if writes:
        declare(configs)
    return Needs(kept, disk, tuple(of_runs))


def _check_loggers(logger: Logger) -> None:
    for name in (kind.package for kind in kinds(logger)):
        if find_spec(name) is None:
            raise UserError(f"logger={name}: not installed. Run pip install -e '.[{name}]'.")


def _refuse_among_images(config: RunConfig) -> None:
    """Refuse folders that would be classes of the images, as with data.root=. without train/."""
    if not isinstance(config.data, ImageFolder):
        return
    root, paths = as_path(config.data.root), config.paths
    written = {"results": paths.results}
    if config.logger.tensorboard or config.logger.mlflow:
        written["logs"] = paths.logs
    if is_among_classes(as_path(paths.cache).absolute().parent, root):
        # a cache in the root itself is files next to the classes, which are ignored
        written["cache"] = paths.cache
    for name, folder in written.items():
        if is_among_classes(as_path(folder), root):
            problem = f"would be a class of the images in data.root={config.data.root}"
            raise UserError(
                f"paths.{name}={folder}: {problem}. Run the command in another folder, "
                f"or set paths.{name}=FOLDER."
            )


def _check_writable(folder: Path, writes: bool) -> None:
    try:
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        elif not os.access(existing := _existing(folder), os.W_OK | os.X_OK):
            os.listdir(existing)  # raises NotADirectoryError for a file
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"{folder}: expected a writable folder ({error.strerror}). "
            "Choose others with paths.results=FOLDER and paths.logs=FOLDER."
        ) from error


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest parent that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _check_space(configs: Sequence[RunConfig], disk: int, kept: int) -> None:
    results, logs = as_path(configs[0].paths.results), as_path(configs[0].paths.logs)
    needed = {results: disk}
    if any(config.logger.tensorboard for config in configs):
        epochs = sum(config.training.epochs for config in configs)
        events = epochs * _EVENTS_EPOCH_BYTES + len(configs) * _EVENTS_FIGURES_BYTES
        same = _existing(results).stat().st_dev == _existing(logs).stat().st_dev
        folder = results if same else logs
        needed[folder] = needed.get(folder, 0) + events
    for folder, required in needed.items():
        total, _, free = shutil.disk_usage(_existing(folder))
        if total and required > free:  # some file systems report a size of 0
            runs = "1 run needs" if len(configs) == 1 else f"{len(configs)} runs need"
            without = ", or set keep_checkpoint=false" * (folder == results)
            raise UserError(
                f"{folder}: {runs} about {in_bytes(required)}, and "
                f"{in_bytes(free)} are free. Free some space, choose another disk with "
                f"paths.results=FOLDER and paths.logs=FOLDER{without if kept else ''}."
            )


def _needed_bytes(
    configs: Sequence[RunConfig], values: int, checkpoints: Sequence[int], at_once: int
) -> int:
    """Return how many more bytes runs will write; the networks have this number of values."""
    epochs = sum(config.training.epochs for config in configs)
    after = values * _BYTES_PER_VALUE + len(configs) * _RUN_BYTES + epochs * _EPOCH_BYTES
    # the kept checkpoints of a run, and one that is being written
    during = (KEPT + 1) * sum(sorted(checkpoints, reverse=True)[:at_once])
    existing = sum(size_bytes(folder.path / CHECKPOINTS) for folder in RunFolder.of_all(configs))
    return max(0, after + during - existing)


def _kept_bytes(configs: Sequence[RunConfig], checkpoints: Sequence[int]) -> int:
    """Return the size of the last checkpoints that complete runs keep."""
    return sum(
        size
        for config, size in zip(configs, checkpoints, strict=True)
        if config.keep_checkpoint and can_be_continued(config)
    )


def _checkpoint_bytes(config: RunConfig, size: int) -> int:
    copies = 1 + config.optimizer.moments + (config.training.keep == "best")
    return size * copies * _BYTES_PER_VALUE


@cache  # the runs of a sweep share networks
def _state_size(
    model: Network, classes: int, image_size: int, trusted: frozenset[str], single: bool
) -> int:
    return check_model(model, classes, image_size, trusted, single)
