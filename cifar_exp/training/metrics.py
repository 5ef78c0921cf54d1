"""Sums of what is measured in an epoch, kept on the device."""

import torch
from torch import Tensor

from cifar_exp.training.process_group import ALONE, Processes

# So much more than its equal share the largest class has where classes count as unequal.
_UNEQUAL = 1.1


class MetricSums:
    """Loss and correct answers, added up on the device so that adding a batch waits for nothing.

    Sums instead of means of means: a short last batch gets its own weight and no more.

    Args:
        device: where the batches are.
        processes: that have a part of each batch; each has the sums of all.
    """

    def __init__(self, device: torch.device, processes: Processes = ALONE) -> None:
        self._processes = processes
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._fetched = torch.zeros(2, dtype=torch.float64, pin_memory=device.type == "cuda")

    def reset(self) -> None:
        """Begin anew."""
        self.sums.zero_()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, count: int) -> None:
        """Add a batch of `count` images, of which this process has B.

        Shape: loss `()`, the process's share of their mean; logits `(B, classes)`, labels `(B,)`.
        """
        sums = self.sums if self._processes.alone else torch.zeros_like(self.sums)
        # exact: the product of a float32 and a count fits float64
        sums[0].add_(loss, alpha=count)
        sums[1].add_((logits.argmax(1) == labels).sum())
        if not self._processes.alone:
            self.sums += self._processes.add_up(sums)

    def fetch(self) -> None:
        """Start to copy the sums to the host; `means` is right once the device has done that."""
        self._fetched.copy_(self.sums, non_blocking=True)

    def means(self, count: int) -> tuple[float, float]:
        """Return what was fetched as means over `count` images: loss and accuracy."""
        loss, correct = self._fetched.tolist()
        return loss / count, correct / count


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
