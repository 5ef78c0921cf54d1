"""A network that waits at a training step, so that a fault comes at exactly that step."""

import os

import torch
from torch import Tensor

from cifar_exp.models.vgg import PLANS, Vgg
from tests.reliability.hold import HELD, HOLD_AT, wait_for


class Holding(Vgg):
    """VGG11 that waits at the training step that the file `hold-at` in the current folder names.

    While it waits there is a file in `held`, named by its process; it continues once that or
    `hold-at` is deleted. Without `hold-at` it never waits, and the run has the same id and bits.

    Args:
        num_classes: at least 2.
        width: factor on all channels, in (0, 8].
        dropout: probability before the linear layer, in [0, 1).
    """

    def __init__(self, num_classes: int, width: float = 1 / 16, dropout: float = 0.0) -> None:
        super().__init__(PLANS["vgg11"], num_classes, width, dropout)
        # a buffer, so that a resumed run counts from its checkpoint
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self._wait()
        return super().forward(images)

    def _wait(self) -> None:
        step = int(self.steps)
        # the check before a run trains one step, which is not held
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
