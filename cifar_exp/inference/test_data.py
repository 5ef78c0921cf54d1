"""The test images of a run, or others with the same classes."""

import logging
from collections.abc import Sequence

import torch

from cifar_exp.config.data_overrides import with_data
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.dataset import Dataset, Split
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
    dataset = load(config.data, as_path(config.paths.cache), run.trusted)
    if config == run.config and dataset.digest() != run.state.get("data_sha256"):
        _log.warning("these are not the images that the run was trained and tested on")
    positions = torch.tensor(_positions(dataset, run.classes))
    return Split(dataset.test.images, positions[dataset.test.labels])


def _positions(dataset: Dataset, classes: Sequence[str]) -> list[int]:
    """Return where the classes of a data set stand among the network's."""
    missing, unknown = ({*classes} - {*dataset.classes}), ({*dataset.classes} - {*classes})
    if missing or unknown or len({*classes}) < len(classes):
        raise UserError(
            "expected images of the classes that the network was trained on; "
            f"missing: {_some(missing)}; not known: {_some(unknown)}"
        )
    return [list(classes).index(name) for name in dataset.classes]


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return (shown + ", ..." * (len(names) > _SHOWN)) or "none"
