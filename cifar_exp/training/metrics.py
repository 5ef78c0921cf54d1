"""Metrics of an epoch, accumulated on the device."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifar_exp.config.metrics import METRICS
from cifar_exp.training.process_group import ALONE, ProcessGroup

# Classes are imbalanced if the largest exceeds an equal share by this factor.
_IMBALANCE = 1.1


@dataclass(frozen=True)
class StepResult:
    """Results of a step on a batch, from which metrics are computed.

    Attributes:
        loss: mean loss of the batch in nats; the shares of all processes add up to it.
        logits: logits of this process's part of the batch.
        labels: class indices of these images.
        count: number of images in the whole batch.
        model: network, with the gradients of the step while training.

    Shape:
        loss `()`, logits `(B, classes)`, labels `(B,)`.
    """

    loss: Tensor
    logits: Tensor
    labels: Tensor
    count: int
    model: nn.Module


def _add_loss(total: Tensor, step: StepResult) -> None:
    # exact: the product of a float32 and a count fits float64
    total.add_(step.loss, alpha=step.count)


def _add_correct(total: Tensor, step: StepResult) -> None:
    total.add_((step.logits.argmax(1) == step.labels).sum())


def _add_top5_correct(total: Tensor, step: StepResult) -> None:
    # stable like `argmax`: of equal logits the first class is first
    top5 = step.logits.argsort(dim=1, descending=True, stable=True)[:, :5]
    total.add_((top5 == step.labels.unsqueeze(1)).sum())


def _add_gradient_norm(total: Tensor, step: StepResult) -> None:
    gradients = [weight.grad for weight in step.model.parameters() if weight.grad is not None]
    # the norm is that of the whole batch, weighted by this process's number of images
    total.add_(nn.utils.get_total_norm(gradients), alpha=len(step.labels))


# For each metric, the function that adds a step to this process's sum over images. The metric is
# the mean over all images of the epoch.
_ADD: dict[str, Callable[[Tensor, StepResult], None]] = {
    "loss": _add_loss,
    "accuracy": _add_correct,
    "top5_accuracy": _add_top5_correct,
    "grad_norm": _add_gradient_norm,
}


class MetricSums:
    """Accumulates sums of metrics over images on the device, without synchronization.

    Sums weight a smaller last batch correctly; means of batch means would not.

    Args:
        device: device of the batches.
        split: split of the batches, "train", "val" or "test".
        optional: names of the optional metrics to compute.
        processes: processes that share each batch; sums are those of all processes.

    Attributes:
        names: names of the metrics.
        sums: sums over images, float64, in the order of `names`.
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
        """Set all sums to 0 at the start of an epoch."""
        self.sums.zero_()

    def restore(self, sums: Tensor, names: Iterable[str]) -> None:
        """Restore the sums of an unfinished epoch; metrics without a sum become NaN.

        Args:
            sums: sums of the epoch so far.
            names: names of their metrics.
        """
        restored = dict(zip(names, sums.tolist(), strict=True))
        values = [restored.get(name, math.nan) for name in self.names]
        self.sums.copy_(torch.tensor(values, dtype=torch.float64))

    def add(self, step: StepResult) -> None:
        """Add the results of a batch."""
        sums = self.sums if self._processes.alone else torch.zeros_like(self.sums)
        for index, name in enumerate(self.names):
            _ADD[name](sums[index], step)
        if not self._processes.alone:
            self.sums += self._processes.all_reduce_sum(sums)

    def fetch(self) -> None:
        """Start copying the sums to the host, for `means`."""
        self._fetched.copy_(self.sums, non_blocking=True)

    def means(self, count: int) -> dict[str, float]:
        """Return the means by metric name, once the device has completed `fetch`.

        Args:
            count: number of images, at least 1.
        """
        return {
            name: total / count
            for name, total in zip(self.names, self._fetched.tolist(), strict=True)
        }


def class_balance(confusion: Tensor) -> dict[str, float]:
    """Compute reference values for the accuracy on imbalanced classes.

    Args:
        confusion: number of images by true class (row) and predicted class (column).

    Returns:
        `largest_class_share`, the accuracy of always predicting the largest class, and
        `balanced_accuracy`, the mean recall over classes, both in [0, 1]. Empty if the classes
        are balanced.

    Shape:
        confusion `(classes, classes)`.
    """
    images = confusion.sum(1)
    present = images > 0
    share = images.max().item() / max(1, images.sum().item())
    if share * present.sum().item() <= _IMBALANCE:
        return {}
    recalls = confusion.diag()[present].double() / images[present]
    return {"largest_class_share": share, "balanced_accuracy": recalls.mean().item()}
