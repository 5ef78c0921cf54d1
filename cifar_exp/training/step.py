"""Training and evaluation steps on static tensors, so that CUDA graphs can capture them."""

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
from cifar_exp.training.metrics import MetricSums, StepResult
from cifar_exp.training.optimizers import ParamOptimizer
from cifar_exp.training.process_group import ALONE, ProcessGroup


class Step:
    """Trains or evaluates on one batch. All tensors keep their addresses.

    Attributes:
        optimizer: optimizer of the network's parameters.
        train_sums: metrics of the training images.
        test_sums: metrics of the validation or test images.
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
        self._test_flip = config.data.test_flip
        self.optimizer = ParamOptimizer(config.optimizer, model.parameters())
        # Gradient of the loss. Without it, `backward` launches one more kernel per step on a GPU.
        # With it, `backward` imports sympy, which delays the first step on a CPU.
        self._loss_gradient = torch.ones((), device=compute.device) if compute.on_gpu else None
        # a custom network may use a parameter twice, and would add its gradients in bf16
        bf16_on_gpu = compute.on_gpu and compute.precision == "bf16"
        copied = bf16_on_gpu and not isinstance(config.model, CustomModel)
        self._bf16 = Bf16Weights(model) if copied else None
        self._network: Callable[[Tensor], Tensor] = self._bf16 or model
        split = evaluated_split(config.data.evaluated_on)
        self.train_sums = MetricSums(compute.device, "train", config.metrics, processes)
        self.test_sums = MetricSums(compute.device, split, config.metrics, processes)

    def train(self, indices: slice | Tensor) -> None:
        """Take one optimizer step. Args: indices: positions of the batch in the epoch's order."""
        local, count = self._local(indices)
        images, labels = self._batches.train_batch(local)
        loss, logits = self.forward(images, labels, count)
        self.backward(loss)
        self.optimizer_step()
        self.train_sums.add(StepResult(loss.detach(), logits.detach(), labels, count, self._model))

    def forward(self, images: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Compute this process's share of the mean loss of a batch, and the logits.

        Args:
            images: normalized images of this process.
            labels: class indices.
            count: number of images in the whole batch, at least 1.

        Returns:
            The loss in nats and the logits, both float32.

        Shape:
            images `(B, 3, H, W)`, labels `(B,)`, loss `()`, logits `(B, classes)`.
        """
        with self._compute.autocast():
            logits = self._network(images).float()
        return self._loss(logits, labels, count, self._label_smoothing), logits

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss. Shape: loss `()`."""
        self.optimizer.zero_grad()
        if self._bf16:
            self._bf16.zero_grad()
        loss.backward(self._loss_gradient)  # type: ignore[no-untyped-call]
        if self._bf16:
            self._bf16.copy_gradients()
        self._processes.all_reduce_gradients(self._model.parameters())

    def optimizer_step(self) -> None:
        """Update the parameters with their gradients."""
        self.optimizer.step()
        self.refresh_bf16_weights()

    def refresh_bf16_weights(self) -> None:
        """Refresh the bf16 copies after the parameters were changed or loaded."""
        if self._bf16:
            self._bf16.refresh()

    def test(self, indices: slice | Tensor) -> None:
        """Evaluate a batch. Args: indices: positions of the images in the evaluated split."""
        local, count = self._local(indices)
        images, labels = self._batches.test_batch(local)
        logits = self.logits(images)
        loss = self._loss(logits, labels, count)
        self.test_sums.add(StepResult(loss, logits, labels, count, self._model))

    def _local(self, indices: slice | Tensor) -> tuple[slice | Tensor, int]:
        """Return this process's part of a batch, and the size of the whole batch."""
        if isinstance(indices, Tensor):
            return indices, len(indices)
        local = self._processes.part(indices)
        for layer in self._dropouts:
            layer.first_image = local.start - indices.start
        return local, indices.stop - indices.start

    def _loss(
        self, logits: Tensor, labels: Tensor, count: int, label_smoothing: float = 0.0
    ) -> Tensor:
        """Compute this process's share of the mean loss of a batch of `count` images."""
        if self._processes.alone:
            return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        total = functional.cross_entropy(
            logits, labels, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / count

    @torch.no_grad()  # CUDA graphs cannot mix tensors of inference_mode with others
    def logits(self, images: Tensor) -> Tensor:
        """Compute the logits of normalized images in the network's current mode.

        Shape:
            images `(N, 3, H, W)`, logits `(N, classes)`, float32.
        """
        return predict_logits(self._network, images, self._compute, self._test_flip)

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors that a step modifies."""
        yield from self._model.parameters()
        yield from self._model.buffers()
        yield from self.optimizer.tensors()
        if self._bf16:
            yield from self._bf16.tensors()
        yield self.train_sums.sums
        yield self.test_sums.sums


def predict_logits(
    model: Callable[[Tensor], Tensor], images: Tensor, compute: Compute, flips: bool
) -> Tensor:
    """Compute the logits of images in the network's current mode.

    Args:
        model: network.
        images: normalized images.
        compute: device and precision.
        flips: whether to average the logits of each image and its horizontal flip.

    Shape:
        images `(N, 3, H, W)`, logits `(N, classes)`, float32.
    """
    with compute.autocast():
        logits = model(images).float()
        if flips:
            logits = (logits + model(images.flip(3)).float()) / 2
    return logits
