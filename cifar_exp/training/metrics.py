"""Sums of what is measured in an epoch, kept on the device."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifar_exp.config.metrics import METRICS
from cifar_exp.training.process_group import ALONE, ProcessGroup

# So much more than its equal share the largest class has where classes count as unequal.
_UNEQUAL = 1.1


@dataclass(frozen=True)
class Measured:
    """What a metric can be computed from, after a step on a batch.

    Attributes:
        loss: this process's share of the mean loss of the batch.
        logits: of the images of the batch that this process has.
        labels: their classes.
        count: images of the whole batch.
        model: with the gradients of the step, if it was trained.

    Shape:
        loss `()`, logits `(B, classes)`, labels `(B,)`.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor
    count: int
    model: nn.Module


def _add_loss(total: Tensor, step: Measured) -> None:
    # exact: the product of a float32 and a count fits float64
    total.add_(step.loss, alpha=step.count)


def _add_correct(total: Tensor, step: Measured) -> None:
    total.add_((step.logits.argmax(1) == step.labels).sum())


def _add_correct_in_five(total: Tensor, step: Measured) -> None:
    # stable, as `argmax` is: of equal logits the first class comes first
    best = step.logits.argsort(dim=1, descending=True, stable=True)[:, :5]
    total.add_((best == step.labels.unsqueeze(1)).sum())


def _add_gradient_norm(total: Tensor, step: Measured) -> None:
    gradients = [weight.grad for weight in step.model.parameters() if weight.grad is not None]
    # of the whole batch, and so counted for this process's images of it
    total.add_(nn.utils.get_total_norm(gradients), alpha=len(step.labels))


# How a step is added to a metric's sum over images, of which this process has its part; by the
# metric's name. The mean over all images of the epoch is the metric.
_ADD: dict[str, Callable[[Tensor, Measured], None]] = {
    "loss": _add_loss,
    "accuracy": _add_correct,
    "top5_accuracy": _add_correct_in_five,
    "grad_norm": _add_gradient_norm,
}


class MetricSums:
    """Metrics of images, added up on the device so that adding a batch waits for nothing.

    Sums instead of means of means: a short last batch gets its own weight and no more.

    Args:
        device: where the batches are.
        split: that the batches are of, "train", "val" or "test".
        optional: names of the optional metrics that are measured.
        processes: that have a part of each batch; each has the sums of all.
    """

    def __init__(
        self,
        device: torch.device,
        split: str,
        optional: Iterable[str] = (),
        processes: ProcessGroup = ALONE,
    ) -> None:
        self._processes = processes
        self.names = [
            name
            for name in _ADD
            if split in METRICS[name].splits and (name in optional or not METRICS[name].optional)
        ]
        size = len(self.names)
        self.sums = torch.zeros(size, dtype=torch.float64, device=device)
        self._fetched = torch.zeros(size, dtype=torch.float64, pin_memory=device.type == "cuda")

    def reset(self) -> None:
        """Begin an epoch: set all sums to 0."""
        self.sums.zero_()

    def restore(self, sums: Tensor, names: Iterable[str]) -> None:
        """Continue an epoch; what was not measured from its beginning becomes NaN.

        Args:
            sums: so far.
            names: of their metrics.
        """
        known = dict(zip(names, sums.tolist(), strict=True))
        values = [known.get(name, math.nan) for name in self.names]
        self.sums.copy_(torch.tensor(values, dtype=torch.float64))

    def add(self, step: Measured) -> None:
        """Add a batch."""
        sums = self.sums if self._processes.alone else torch.zeros_like(self.sums)
        for place, name in enumerate(self.names):
            _ADD[name](sums[place], step)
        if not self._processes.alone:
            self.sums += self._processes.all_reduce_sum(sums)

    def fetch(self) -> None:
        """Start to copy the sums to the host; `means` is right once the device has done that."""
        self._fetched.copy_(self.sums, non_blocking=True)

    def means(self, count: int) -> dict[str, float]:
        """Return what was fetched as means over `count` images, by the metrics' names."""
        return {
            name: total / count
            for name, total in zip(self.names, self._fetched.tolist(), strict=True)
        }


def class_balance(confusion: Tensor) -> dict[str, float]:
    """Return what an accuracy on unequal classes has to be compared with.

    Args:
        confusion: number of images by true class (row) and predicted class (column).

    Returns:
        `largest_class_share`, which is the accuracy of always predicting that class, and
        `balanced_accuracy`, the mean of the classes' recalls, both in [0, 1]. Nothing where the
        classes are about equally large.

    Shape:
        confusion `(classes, classes)`.
    """
    images = confusion.sum(1)
    present = images > 0
    share = images.max().item() / max(1, images.sum().item())
    if share * present.sum().item() <= _UNEQUAL:
        return {}
    recalls = confusion.diag()[present].double() / images[present]
    return {"largest_class_share": share, "balanced_accuracy": recalls.mean().item()}
