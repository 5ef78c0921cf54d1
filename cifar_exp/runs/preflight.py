"""What would stop a run or a sweep, found before anything is trained."""

import os
import shutil
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from cifar_exp.config.identity import can_be_continued
from cifar_exp.config.schema import Logger, RunConfig
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
from cifar_exp.runs.folder import RunFolder
from cifar_exp.training.device import uses_gpu

# Measured, rounded up: the pictures and the log; an epoch in metrics, log and event file.
_RUN_BYTES = 500_000
_EPOCH_BYTES = 2_000
_EVENTS_BYTES = 500  # of an epoch, in the event file, which has two of the pictures as well
_PICTURES_BYTES = 300_000
_BYTES_PER_NUMBER = 4


def preflight(configs: Sequence[RunConfig], at_once: int = 1, trains_here: bool = True) -> int:
    """Find what would stop one of the runs, and declare their levels to TensorBoard.

    Args:
        configs: of the runs that are to be trained.
        at_once: how many of them train at the same time.
        trains_here: whether on this machine; else its devices do not matter.

    Returns:
        How many bytes their last checkpoints will take, which stay on disk.

    Raises:
        UserError: there is no such tracker, device or data, a network cannot be used, a folder
            cannot be written, or a disk has not the space that all of them will need.
        OSError: the levels cannot be written; `filename` is given.
    """
    numbers = []
    for config in configs:
        _check_trackers(config.logger)
        if trains_here:
            uses_gpu(config)
        classes, image_size, last_batch = check(config.data, config.custom_code)
        is_single = last_batch == 1  # the only size that a network may refuse
        numbers.append(_numbers(config.model, classes, image_size, config.custom_code, is_single))
        _check_writable(as_path(config.paths.results))
        if config.logger.tensorboard:
            _check_writable(as_path(config.paths.logs))
    if configs:
        _check_space(configs, numbers, at_once)
    declare(configs)
    return _kept_bytes(configs, numbers)


def _check_trackers(logger: Logger) -> None:
    for name in (kind.package for kind in kinds(logger)):
        if find_spec(name) is None:
            raise UserError(f"logger={name}: it is not installed; pip install -e '.[{name}]'")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: expected a folder that can be written ({error.strerror}); "
            "choose others with paths.results=FOLDER and paths.logs=FOLDER"
        ) from error


def _check_space(configs: Sequence[RunConfig], numbers: Sequence[int], at_once: int) -> None:
    results, logs = as_path(configs[0].paths.results), as_path(configs[0].paths.logs)
    kept = _kept_bytes(configs, numbers)
    needed = {results: _needed_bytes(configs, numbers, at_once) + kept}
    if any(config.logger.tensorboard for config in configs):
        epochs = sum(config.training.epochs for config in configs)
        events = epochs * _EVENTS_BYTES + len(configs) * _PICTURES_BYTES
        disk = results if os.stat(results).st_dev == os.stat(logs).st_dev else logs
        needed[disk] = needed.get(disk, 0) + events
    for folder, wanted in needed.items():
        total, _, free = shutil.disk_usage(folder)
        if total and wanted > free:  # some file systems report no size at all
            without = ", or keep no checkpoints with keep_checkpoint=false" * (folder == results)
            raise UserError(
                f"{folder}: {len(configs)} runs need about {in_bytes(wanted)} there, and "
                f"{in_bytes(free)} are free; make room, or choose another disk with "
                f"paths.results=FOLDER and paths.logs=FOLDER{without if kept else ''}"
            )


def _needed_bytes(configs: Sequence[RunConfig], numbers: Sequence[int], at_once: int) -> int:
    """Return how much runs will write into their folders, beyond what is there already.

    Args:
        configs: of the runs.
        numbers: that the network of each holds.
        at_once: how many keep checkpoints at the same time.
    """
    epochs = sum(config.training.epochs for config in configs)
    after = sum(numbers) * _BYTES_PER_NUMBER + len(configs) * _RUN_BYTES + epochs * _EPOCH_BYTES
    # those that are kept, and one that is being written
    during = [
        _checkpoint_bytes(config, count) * (KEPT + 1)
        for config, count in zip(configs, numbers, strict=True)
    ]
    there = sum(map(_checkpoints_there, RunFolder.of_all(configs)))
    return max(0, after + sum(sorted(during, reverse=True)[:at_once]) - there)


def _kept_bytes(configs: Sequence[RunConfig], numbers: Sequence[int]) -> int:
    """Return how much the last checkpoints of complete runs take, as far as they are kept."""
    return sum(
        _checkpoint_bytes(config, count)
        for config, count in zip(configs, numbers, strict=True)
        if config.keep_checkpoint and can_be_continued(config)
    )


def _checkpoint_bytes(config: RunConfig, numbers: int) -> int:
    return numbers * (1 + config.optimizer.moments) * _BYTES_PER_NUMBER


@cache  # the runs of a sweep share networks
def _numbers(
    model: Network, classes: int, image_size: int, trusted: frozenset[str], single: bool
) -> int:
    return check_model(model, classes, image_size, trusted, single)


def _checkpoints_there(folder: RunFolder) -> int:
    files = (folder.path / CHECKPOINTS).glob("*.pt")
    return sum(path.stat().st_size for path in files)
