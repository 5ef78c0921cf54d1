"""Device, images and both training loops, which all sections use."""

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

_ENDLESS = 1_000_000  # epochs; benchmarks stop the training


@dataclass(frozen=True)
class Bench:
    """Settings of the benchmark, and both training loops.

    Args:
        device: device of both loops.
        folder: folder of images; None for synthetic images.
        quick: whether to measure as little as possible, to test the benchmark itself.
        scratch: empty folder for temporary files.
    """

    device: torch.device
    folder: Path | None
    quick: bool
    scratch: Path

    def times(self, count: int, quick: int = 1) -> int:
        """Return `count`, or `quick` in quick mode."""
        return quick if self.quick else count

    def width(self, width: float) -> float:
        """Return `width`, or a small one in quick mode."""
        return min(width, 1 / 16) if self.quick else width

    @property
    def cache(self) -> Path:
        """Temporary folder of the decoded images."""
        return self.scratch / "cache"

    def data(self, train_size: int, test_size: int, batch_size: int = 64) -> Data:
        """Return data settings; a folder with fewer images is used completely."""
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
        """Return the baseline's settings for this data, with endless epochs."""
        return RunConfig(
            data=data,
            model=Model(width=width),
            training=TrainingSettings(epochs=_ENDLESS),
            device="cuda" if self.device.type == "cuda" else "cpu",
            precision=precision,
            seed=seed,
            logger=Logger(tensorboard=False),
            paths=Paths(cache=str(self.cache)),
        )

    def training(self, config: RunConfig, graphs: bool = True) -> Training:
        """Return our training loop."""
        dataset, compute = self.dataset(config.data), choose_compute(config)
        images = DeviceImages(dataset, compute.device)
        return Training(config, images, dataset.classes, compute, graphs)

    def article(self, config: RunConfig) -> ArticleLoop:
        """Return the article's loop with the same images, batch size and width."""
        dataset = self.dataset(config.data)
        splits = (
            (split.images.numpy(), split.labels.tolist()) for split in (dataset.train, dataset.test)
        )
        return ArticleLoop(*splits, self.device, config.data.batch_size, config.model.width)

    def dataset(self, data: Data) -> Dataset:
        """Load the images, once for equal settings."""
        return _load(data.model_copy(update={"batch_size": 1}), self.cache)

    def overrides(self, data: Data) -> list[str]:
        """Return the overrides that select this data in train.py."""
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
    """Run a Python file in a new process.

    Args:
        arguments: the file and its arguments.
        folder: working folder; created if missing.

    Returns:
        Seconds from start to exit, and the standard output.

    Raises:
        RuntimeError: the process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {key: text for key, text in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    # finds the package in any folder, also if it is not installed
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
    """Run train.py in a folder and return the seconds from start to exit."""
    return in_new_process(str(ROOT / "train.py"), *arguments, folder=folder)[0]
