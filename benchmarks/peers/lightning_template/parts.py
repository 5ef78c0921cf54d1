"""Data module and network that the configuration names."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from article_loop import Images, vgg16
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy

Batch = tuple[Tensor, Tensor]


class ImagesModule(LightningDataModule):
    """Images of a file that `peers.py` writes, with the article's transforms."""

    def __init__(self, file: str, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str) -> None:
        """Load the images."""
        with np.load(self.hparams.file) as file:
            self.train, self.test = (
                Images(file[f"{split}_images"], file[f"{split}_labels"].tolist(), split == "train")
                for split in ("train", "test")
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches."""
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the test images, on which the article evaluates each epoch."""
        return self._loader(self.test, shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test images."""
        return self._loader(self.test, shuffle=False)

    def _loader(self, images: Images, shuffle: bool) -> DataLoader[Batch]:
        return DataLoader(
            images, self.hparams.batch_size, shuffle, num_workers=self.hparams.num_workers
        )


class Classifier(LightningModule):
    """VGG16 with the loss and the metrics of each split."""

    def __init__(
        self, width: float, optimizer: Callable[[Iterable[Tensor]], Optimizer], classes: int = 10
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = vgg16(width, classes)
        self.criterion = nn.CrossEntropyLoss()
        splits = ("train", "val", "test")
        self.accuracy = nn.ModuleDict({f"{s}_acc": MulticlassAccuracy(classes) for s in splits})
        self.losses = nn.ModuleDict({f"{s}_loss": MeanMetric() for s in splits})
        self.best = MaxMetric()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Evaluate a batch."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Evaluate a batch."""
        self._step(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the best accuracy so far."""
        self.best(self.accuracy["val_acc"].compute())
        self.log("val/acc_best", self.best.compute(), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> Optimizer:
        """Build the optimizer."""
        return self.hparams.optimizer(self.parameters())

    def _step(self, batch: Batch, split: str) -> Tensor:
        images, labels = batch
        logits = self.net(images)
        loss: Tensor = self.criterion(logits, labels)
        mean, accuracy = self.losses[f"{split}_loss"], self.accuracy[f"{split}_acc"]
        mean(loss)
        accuracy(torch.argmax(logits, dim=1), labels)
        self.log(f"{split}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss
