"""Load the test images of a run, or other images with the same classes."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from cifar_exp.config.data_overrides import with_data
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.dataset import Split
from cifar_exp.data.settings import Data, ImageFolder
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError, some
from cifar_exp.expressions import as_path
from cifar_exp.inference.load import TrainedRun

_log = logging.getLogger("cifar_exp")


def data_settings(run: TrainedRun, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the settings of a run with other data, at the image size of the network.

    Args:
        run: trained run.
        overrides: such as `data=image_folder data.root=photos`; none keep the data of the run.

    Raises:
        UserError: see `with_data`.
    """
    return with_data(run.config, overrides, {"image_size": run.image_size})


def labelled_images(run: TrainedRun, config: RunConfig) -> Split:
    """Load test images with labels that are indices into `run.classes`.

    Args:
        run: trained run.
        config: settings from `data_settings`.

    Raises:
        UserError: the images are missing, or their classes are not those of the network.
    """
    data = config.data
    if isinstance(data, ImageFolder):
        trained_on = getattr(run.config.data, "root", None)
        if data.root == trained_on and not as_path(data.root).exists():
            raise UserError(
                f"{_source(data)}: folder not found. If the images were moved, "
                "evaluate and export accept their new folder: data.root=NEW_FOLDER."
            )
        # checked before images are decoded
        _class_indices(list(data.contents(run.trusted).counts or ()), run, data)
        if config.data != run.config.data and not data.val_fraction:
            # training images are not used: decode as few as possible
            data = data.model_copy(update={"limit_train": len(run.classes)})
    dataset = load(data, as_path(config.paths.cache), run.trusted)
    before = run.state.get("data_sha256")  # None: not recorded
    if config == run.config and before not in (None, dataset.digest()):
        _log.warning("%s: the images have changed since the run was trained", _source(config.data))
    indices = torch.tensor(_class_indices(dataset.classes, run, config.data))
    return replace(dataset.test, labels=indices[dataset.test.labels])


def _source(data: Data) -> str:
    root = getattr(data, "root", "")
    return f"data.root={root}" if root else "data"


def _class_indices(names: Sequence[str], run: TrainedRun, data: Data) -> list[int]:
    """Return the indices of a data set's classes in `run.classes`."""
    missing, unknown = {*run.classes} - {*names}, {*names} - {*run.classes}
    if missing or unknown or len({*run.classes}) < len(run.classes):
        problem = f"{_source(data)}: expected the classes that the network was trained on"
        if missing:
            problem += f"; missing: {some(sorted(missing))}"
        if unknown:
            problem += f"; unknown: {some(sorted(unknown))}"
        raise UserError(problem)
    return [run.classes.index(name) for name in names]
