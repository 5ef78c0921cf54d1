"""The training loop, a generator: a driver runs one to its end, or takes turns among several."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import Batches
from cifar_exp.data.dataset import Dataset
from cifar_exp.models.vgg import build_model
from cifar_exp.training.device import Compute
from cifar_exp.training.memory import peak_memory_bytes, reset_peak_memory
from cifar_exp.training.metrics import EpochMetrics, MetricSums, has_diverged
from cifar_exp.training.optimizers import build_optimizer, set_lr
from cifar_exp.training.randomness import derived_seed, generator
from cifar_exp.training.schedules import lr_factor

# After so many steps the loop lets its driver show progress, or stop.
_STEPS_BETWEEN_YIELDS = 10


@dataclass(frozen=True)
class Progress:
    """How far a run is: `steps` of its `total_steps` are done, the last one in `epoch`."""

    epoch: int
    steps: int
    total_steps: int


class Training:
    """A run while it trains: the network, the optimizer and what was measured so far.

    The epoch to train next is `len(history) + 1`; every random choice is derived from
    (seed, purpose, epoch). So these three are all there is to save.

    Args:
        config: the run's settings.
        dataset: images and labels.
        compute: the device and precision to use.
    """

    def __init__(self, config: RunConfig, dataset: Dataset, compute: Compute) -> None:
        reset_peak_memory(compute.device)
        self.config = config
        self.compute = compute
        self.classes = dataset.classes
        self.batches = Batches(dataset, config.data, compute.device)
        seed = derived_seed(config.seed, "weights")
        self.model = build_model(config.model, len(dataset.classes), seed).to(compute.device)
        self.optimizer = build_optimizer(config.optimizer, self.model.parameters())
        self.history: list[EpochMetrics] = []

    @property
    def diverged(self) -> bool:
        """Whether the loss of the last epoch was not finite, or had exploded."""
        if not self.history:
            return False
        last = self.history[-1]
        return has_diverged(last.train_loss, len(self.classes)) or not math.isfinite(last.test_loss)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or len(self.history) >= self.config.training.epochs

    def run(self) -> Iterator[Progress | EpochMetrics]:
        """Train what is left, epoch by epoch, and test after each.

        Yields:
            Progress every few steps, and the metrics at the end of each epoch. The loop can be
            left at any yield, and a checkpoint be taken where it yields metrics.
        """
        while not self.finished:
            epoch = len(self.history) + 1
            started = time.perf_counter()
            sums = MetricSums(self.compute.device)
            steps_before = (epoch - 1) * self.batches.steps_per_epoch
            for step, (images, labels) in enumerate(self._training_batches(epoch), steps_before):
                lr = self._lr(step)
                self._step(images, labels, lr, sums)
                if (step + 1) % _STEPS_BETWEEN_YIELDS == 0:
                    yield Progress(epoch, step + 1, self.total_steps)
            train_loss, train_accuracy = sums.means()
            trained = time.perf_counter()
            test_loss, test_accuracy = self._test(skip=has_diverged(train_loss, len(self.classes)))
            metrics = EpochMetrics(
                epoch=epoch,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                test_loss=test_loss,
                test_accuracy=test_accuracy,
                lr=lr,
                train_seconds=trained - started,
                test_seconds=time.perf_counter() - trained,
                images_per_second=self.batches.train_size / (trained - started),
                peak_memory_bytes=peak_memory_bytes(self.compute.device),
            )
            self.history.append(metrics)
            yield metrics

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.batches.steps_per_epoch * self.config.training.epochs

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint needs, taken at the end of an epoch."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [metrics.as_json() for metrics in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [EpochMetrics.from_json(row) for row in state["history"]]

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Return what the network makes of normalised images, without dropout.

        Shape:
            images `(N, 3, H, W)`, result `(N, classes)`.
        """
        self.model.eval()
        with self._autocast():
            logits: Tensor = self.model(images)
        return logits.float()

    def _training_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        seed = self.config.seed
        self.model.train()
        self.model.dropout.start_epoch(derived_seed(seed, "dropout", epoch))
        return self.batches.train(
            generator(seed, "order", epoch), generator(seed, "augmentation", epoch)
        )

    def _step(self, images: Tensor, labels: Tensor, lr: float, sums: MetricSums) -> None:
        set_lr(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            logits = self.model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        sums.add(loss.detach(), logits.detach(), labels)

    def _test(self, skip: bool) -> tuple[float, float]:
        if skip:
            return math.nan, math.nan
        sums = MetricSums(self.compute.device)
        for images, labels in self.batches.test():
            logits = self.logits(images)
            sums.add(functional.cross_entropy(logits, labels), logits, labels)
        return sums.means()

    def _lr(self, step: int) -> float:
        steps, epochs = self.batches.steps_per_epoch, self.config.training.epochs
        return self.config.optimizer.lr * lr_factor(self.config.scheduler, step, steps, epochs)

    def _autocast(self) -> AbstractContextManager[None]:
        uses_bf16 = self.compute.precision == "bf16"
        return torch.autocast(self.compute.device.type, torch.bfloat16, enabled=uses_bf16)
