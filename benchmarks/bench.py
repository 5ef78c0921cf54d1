"""What all sections share: the device, the images, and both loops set up alike."""

import functools
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from article_loop import ArticleLoop

from cifar_exp.config.schema import Logger, Paths, RunConfig
from cifar_exp.config.schema import Training as TrainingSettings
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.settings import Data, ImageFolder, Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.settings import Model
from cifar_exp.training.device import choose_compute
from cifar_exp.training.loop import Training

ROOT = Path(__file__).parents[1]
Precision = Literal["auto", "fp32", "bf16"]

_NO_END = 1_000_000  # epochs; what is measured is stopped from outside


@dataclass(frozen=True)
class Bench:
    """One call of the benchmark.

    Args:
        device: where both loops compute.
        folder: of images; None for synthetic ones.
        quick: measure little, only to see that all works.
        scratch: an empty folder for whatever is written on the way.
    """

    device: torch.device
    folder: Path | None
    quick: bool
    scratch: Path

    def times(self, count: int, quick: int = 1) -> int:
        """Return how much to measure: `count`, or `quick` when it is to be quick."""
        return quick if self.quick else count

    def width(self, width: float) -> float:
        """Return a factor on the channels: `width`, or a small one when it is to be quick."""
        return min(width, 1 / 16) if self.quick else width

    @property
    def cache(self) -> Path:
        """Folder of the decoded images, for this call only."""
        return self.scratch / "cache"

    def data(self, train_size: int, test_size: int, batch_size: int = 64) -> Data:
        """Return the settings of so many images, or of all where the folder has fewer."""
        if self.folder is None:
            return Synthetic(train_size=train_size, test_size=test_size, batch_size=batch_size)
        return ImageFolder(
            root=str(self.folder),
            limit_train=train_size,
            limit_test=test_size,
            batch_size=batch_size,
        )

    def config(
        self, data: Data, width: float = 1.0, precision: Precision = "auto", seed: int = 0
    ) -> RunConfig:
        """Return the settings of the article's run on this data, without an end."""
        return RunConfig(
            data=data,
            model=Model(width=width),
            training=TrainingSettings(epochs=_NO_END),
            device="cuda" if self.device.type == "cuda" else "cpu",
            precision=precision,
            seed=seed,
            logger=Logger(tensorboard=False),
            paths=Paths(cache=str(self.cache)),
        )

    def training(self, config: RunConfig, graphs: bool = True) -> Training:
        """Set up our loop."""
        dataset, compute = self.dataset(config.data), choose_compute(config)
        images = DeviceImages(dataset, compute.device)
        return Training(config, images, dataset.classes, compute, graphs)

    def article(self, config: RunConfig) -> ArticleLoop:
        """Set up the article's loop with the same images, batch size and width."""
        dataset = self.dataset(config.data)
        splits = (
            (split.images.numpy(), split.labels.tolist()) for split in (dataset.train, dataset.test)
        )
        return ArticleLoop(*splits, self.device, config.data.batch_size, config.model.width)

    def dataset(self, data: Data) -> Dataset:
        """Load the images, once for settings that name the same."""
        return _load(data.model_copy(update={"batch_size": 1}), self.cache)

    def overrides(self, data: Data) -> list[str]:
        """Return what names this data on the command line of train.py."""
        settings = data.model_dump(exclude={"name"}, exclude_unset=True)
        given = [f"data={data.name}", f"device={self.device.type}"]
        given += [f"data.{key}={_quoted(value)}" for key, value in settings.items()]
        return [*given, f"paths.cache={_quoted(str(self.cache))}", "logger=none"]


@functools.cache
def _load(data: Data, cache: Path) -> Dataset:
    return load(data, cache)


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"


def in_new_process(*arguments: str, folder: Path) -> tuple[float, str]:
    """Run a Python file with its arguments.

    Args:
        arguments: the file, and what it is given.
        folder: where it runs; made when needed.

    Returns:
        Seconds from start to end, and what it printed.

    Raises:
        RuntimeError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {key: text for key, text in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    # found wherever the process runs, and whether the package is installed or not
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def train_py(*arguments: str, folder: Path) -> float:
    """Run train.py in a folder. Returns: the seconds from start to end."""
    return in_new_process(str(ROOT / "train.py"), *arguments, folder=folder)[0]
