"""A network that waits at a training step, so that a fault happens at exactly that step."""

import os

import torch
from torch import Tensor

from cifar_exp.models.vgg import PLANS, Vgg
from tests.reliability.hold import HELD, HOLD_AT, wait_for


class Holding(Vgg):
    """VGG11 that waits at the training step in the file `hold-at` of the current folder.

    While it waits, the folder `held` has a file named after its process id. It continues once
    that file or `hold-at` is deleted. Waiting changes neither the id nor the results of a run.

    Args:
        num_classes: number of classes, at least 2.
        width: factor on the number of channels, in (0, 8].
        dropout: probability before the linear layer, in [0, 1).
    """

    def __init__(self, num_classes: int, width: float = 1 / 16, dropout: float = 0.0) -> None:
        super().__init__(PLANS["vgg11"], num_classes, width, dropout)
        # a buffer is saved in checkpoints
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self._wait()
        return super().forward(images)

    def _wait(self) -> None:
        step = int(self.steps)
        # preflight trains one step, which does not wait
        if step < 2 or _hold_at() != step:
            return
        held = HELD / str(os.getpid())
        held.touch()
        wait_for(lambda: not held.exists() or _hold_at() != step)
        held.unlink(missing_ok=True)


def _hold_at() -> int | None:
    try:
        return int(HOLD_AT.read_text("utf-8"))
    except FileNotFoundError:
        return None
