"""Tiny runs on a GPU, for tests marked `gpu`."""

import io
from pathlib import Path
from typing import Any

import torch

from cifar_exp.config.schema import Logger, Paths, RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.settings import Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.settings import Model
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
# Batches of 16, 16 and 8; the last one needs a second graph.
DATA = Synthetic(train_size=40, test_size=20, batch_size=16, augment="crop_flip", cutout=8)


def data(**changes: Any) -> Synthetic:
    return DATA.model_copy(update=changes)


def config(folder: Path | None = None, **changes: Any) -> RunConfig:
    settings = {
        "data": DATA,
        "model": Model(name="vgg11", width=0.0625, dropout=0.5),
        "training": Length(epochs=2, label_smoothing=0.1),
        "precision": "fp32",
        "logger": Logger(tensorboard=False),
    }
    if folder:
        paths = {name: str(folder / name) for name in ("results", "logs", "cache")}
        settings["paths"] = Paths(**paths)
    return RunConfig(**(settings | changes))


class Runs:
    """Creates runs. Args: folder: cache folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def dataset(self, run: RunConfig) -> Dataset:
        return load(run.data, self._folder)

    def images(self, run: RunConfig, device: torch.device = GPU) -> DeviceImages:
        return DeviceImages(self.dataset(run), device)

    def __call__(
        self,
        run: RunConfig,
        device: torch.device = GPU,
        images: DeviceImages | None = None,
        **kwargs: Any,
    ) -> Training:
        images = images or self.images(run, device)
        compute = Compute(device, str(run.precision), threads=int(device.type == "cpu"))
        return Training(run, images, self.dataset(run).classes, compute, **kwargs)

    def done(self, *args: Any, **kwargs: Any) -> Training:
        run = self(*args, **kwargs)
        replays = run.replays
        list(run.run())
        assert run.replays == replays, "the steps could not be captured"
        return run


def assert_same(one: Training, other: Training, rounding: float = 0.0) -> None:
    """Compare metrics and, without rounding, parameters and buffers."""
    for first, second in zip(one.history, other.history, strict=True):
        for field in METRICS:
            difference = abs(first[field] - second[field])
            assert difference <= rounding, field
    if rounding == 0:
        first_state, second_state = one.model.state_dict(), other.model.state_dict()
        for name, weights in first_state.items():
            assert torch.equal(weights.cpu(), second_state[name].cpu()), name


def checkpoint_of(run: Training) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(run.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
