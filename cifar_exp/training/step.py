"""What happens to a batch, as functions of tensors that stay where they are, for GPUs to replay."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from cifar_exp.config.metrics import evaluated_split
from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import Batches
from cifar_exp.models.dropout import Dropout
from cifar_exp.models.settings import CustomModel
from cifar_exp.training.bf16 import Bf16Weights
from cifar_exp.training.device import Compute
from cifar_exp.training.metrics import Measured, MetricSums
from cifar_exp.training.optimizers import ParamOptimizer
from cifar_exp.training.process_group import ALONE, ProcessGroup


class Step:
    """Trains on a batch, or tests on one; everything it reads and writes keeps its address.

    Args:
        config: the run's settings.
        model: the network, on the device.
        batches: the epoch's images; which of them make a batch is said with every call.
        compute: device and precision.
        processes: that have a part of each batch, and come to the same weights.
    """

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module,
        batches: Batches,
        compute: Compute,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self._model = model
        self._dropouts = [layer for layer in model.modules() if isinstance(layer, Dropout)]
        self._batches = batches
        self._compute = compute
        self._processes = processes
        self._label_smoothing = config.training.label_smoothing
        self._flips_tests = config.data.test_flip
        self.update = ParamOptimizer(config.optimizer, model.parameters())
        # The gradient of the loss. `backward` would make it anew in each step, which a GPU notices;
        # given to it, it imports sympy, which a CPU notices.
        self._one = torch.ones((), device=compute.device) if compute.on_gpu else None
        # a custom network may use a weight twice, and sums of bf16 gradients are less exact
        on_gpu_in_bf16 = compute.on_gpu and compute.precision == "bf16"
        copied = on_gpu_in_bf16 and not isinstance(config.model, CustomModel)
        self._bf16 = Bf16Weights(model) if copied else None
        self._network: Callable[[Tensor], Tensor] = self._bf16 or model
        split = evaluated_split(config.data.evaluated_on)
        self.train_sums = MetricSums(compute.device, "train", config.metrics, processes)
        self.test_sums = MetricSums(compute.device, split, config.metrics, processes)

    def train(self, indices: slice | Tensor) -> None:
        """Take one optimizer step. Args: places: of the batch in the epoch's order, below N."""
        local, count = self._local(indices)
        images, labels = self._batches.train_batch(local)
        loss, logits = self.forward(images, labels, count)
        self.backward(loss)
        self.change_weights()
        self.train_sums.add(Measured(loss.detach(), logits.detach(), labels, count, self._model))

    def forward(self, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return this process's share of the loss of a batch, and the logits.

        Args:
            images: normalised.
            labels: their classes.
            count: images of the whole batch, at least 1.

        Shape:
            images `(B, 3, H, W)`, labels `(B,)`, loss `()`, logits `(B, classes)`, both float32.
        """
        with self._compute.autocast():
            logits = self._network(images).float()
        return self._loss(logits, labels, count, self._label_smoothing), logits

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss. Shape: `()`."""
        self.update.clear_gradients()
        if self._bf16:
            self._bf16.clear_gradients()
        loss.backward(self._one)  # type: ignore[no-untyped-call]
        if self._bf16:
            self._bf16.pass_on_gradients()
        self._processes.all_reduce_gradients(self._model.parameters())

    def change_weights(self) -> None:
        """Let the optimizer change the weights by their gradients."""
        self.update.step()
        self.weights_have_changed()

    def weights_have_changed(self) -> None:
        """Renew what depends on the weights, after they were changed or loaded."""
        if self._bf16:
            self._bf16.renew()

    def test(self, indices: slice | Tensor) -> None:
        """Add the metrics of a batch of test images. Args: places: of the images, below N."""
        local, count = self._local(indices)
        images, labels = self._batches.test_batch(local)
        logits = self.logits(images)
        loss = self._loss(logits, labels, count)
        self.test_sums.add(Measured(loss, logits, labels, count, self._model))

    def _local(self, indices: slice | Tensor) -> tuple[slice | Tensor, int]:
        """Return this process's part of a batch, and how many images the whole batch has."""
        if isinstance(indices, Tensor):
            return indices, len(indices)
        local = self._processes.part(indices)
        for layer in self._dropouts:
            layer.first_image = local.start - indices.start
        return local, indices.stop - indices.start

    def _loss(
        self, logits: Tensor, labels: Tensor, count: int, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return this process's share of the mean loss of a batch of `count` images."""
        if self._processes.alone:
            return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        total = functional.cross_entropy(
            logits, labels, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / count

    @torch.no_grad()  # not inference_mode: its tensors could not be captured together with others
    def logits(self, images: Tensor) -> Tensor:
        """Return what the network makes of images, in the mode that it is in.

        Shape:
            images `(N, 3, H, W)`, result `(N, classes)`, float32.
        """
        return predict_logits(self._network, images, self._compute, self._flips_tests)

    def tensors(self) -> Iterator[Tensor]:
        """Yield everything that a step changes."""
        yield from self._model.parameters()
        yield from self._model.buffers()
        yield from self.update.tensors()
        if self._bf16:
            yield from self._bf16.tensors()
        yield self.train_sums.sums
        yield self.test_sums.sums


def predict_logits(
    model: Callable[[Tensor], Tensor], images: Tensor, compute: Compute, flips: bool
) -> Tensor:
    """Return what a network makes of images, in the mode that it is in.

    Args:
        model: the network.
        images: normalised.
        compute: device and precision.
        flips: whether an image counts together with its mirror image.

    Shape:
        images `(N, 3, H, W)`, result `(N, classes)`, float32.
    """
    with compute.autocast():
        logits = model(images).float()
        if flips:
            logits = (logits + model(images.flip(3)).float()) / 2
    return logits
