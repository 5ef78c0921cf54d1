"""The test images of a run, or others with the same classes."""

import logging
from collections.abc import Sequence

import torch

from cifar_exp.config.data_overrides import with_data
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.dataset import Split
from cifar_exp.data.settings import ImageFolder
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.inference.load import TrainedRun

_SHOWN = 3
_log = logging.getLogger("cifar_exp")


def data_settings(run: TrainedRun, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the settings of a run with the data to be used; images get the network's size.

    Args:
        run: that was trained.
        overrides: `data=image_folder data.root=photos`; none for the run's own data.

    Raises:
        UserError: see `with_data`.
    """
    return with_data(run.config, overrides, {"image_size": run.image_size})


def labelled_images(run: TrainedRun, config: RunConfig) -> Split:
    """Load test images, with labels that are positions in `run.classes`.

    Args:
        run: that was trained.
        config: settings with the data to be used.

    Raises:
        UserError: there are none, or their classes are not the network's.
    """
    data = config.data
    if isinstance(data, ImageFolder):
        _positions(list(data.contents(run.trusted).counts or ()), run, f"data.root={data.root}")
        if config.data != run.config.data and not data.val_fraction:
            # no training image is used, and so few are decoded
            data = data.model_copy(update={"limit_train": len(run.classes)})
    dataset = load(data, as_path(config.paths.cache), run.trusted)
    if config == run.config and dataset.digest() != run.state.get("data_sha256"):
        _log.warning("these are not the images that the run was trained and tested on")
    positions = torch.tensor(_positions(dataset.classes, run))
    return Split(dataset.test.images, positions[dataset.test.labels])


def _positions(names: Sequence[str], run: TrainedRun, where: str = "data") -> list[int]:
    """Return the positions of the classes of a data set among the network's."""
    missing, unknown = {*run.classes} - {*names}, {*names} - {*run.classes}
    if missing or unknown or len({*run.classes}) < len(run.classes):
        found = [("missing", missing), ("unknown", unknown)]
        raise UserError(
            "; ".join(
                [
                    f"{where}: expected the classes that the network was trained on",
                    *(f"{what}: {_some(classes)}" for what, classes in found if classes),
                ]
            )
        )
    return [list(run.classes).index(name) for name in names]


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown + ", ..." * (len(names) > _SHOWN)
