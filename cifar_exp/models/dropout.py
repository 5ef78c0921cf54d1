"""Dropout whose mask is a function of (seed, step) and not of a generator's state."""

import torch
from torch import Tensor, nn

_LOW_32_BITS = 0xFFFFFFFF


def hash32(value: Tensor) -> Tensor:
    """Mix integers so that every bit of the result depends on every bit of the input.

    Args:
        value: int64, its low 32 bits are used.

    Returns:
        int64 in [0, 2**32), of the same shape, the same on every device.

    Source: the finalizer of MurmurHash3, Austin Appleby.
    """
    value = value & _LOW_32_BITS
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _LOW_32_BITS
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _LOW_32_BITS
    return value ^ (value >> 16)


class Dropout(nn.Module):
    """Zero each feature with probability p while training, and scale the others by 1 / (1 - p).

    The mask comes from a hash of a key, which the training loop sets from (seed, epoch), a step
    counter and the position. So there is no generator to save, and a resumed run, a run on another
    device or one beside others draws the same masks.

    Args:
        probability: in [0, 1); 0 changes nothing.

    Source: Srivastava et al., 2014.
    """

    key: Tensor
    step: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.first_image = 0  # its place in the batch, of which others may have the beginning
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def start_epoch(self, key: int, steps: int = 0) -> None:
        """Begin the masks of an epoch.

        Args:
            key: a seed derived from (seed, epoch).
            steps: of the epoch that have been done before.
        """
        self.key.fill_(key & _LOW_32_BITS)
        self.step.fill_(steps)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the mask of the next step. Shape: `(N, F)` to `(N, F)`."""
        if not self.training or self.probability == 0:
            return features
        self.step.add_(1)
        stream = hash32(self.key ^ hash32(self.step))
        first = self.first_image * features.shape[1:].numel()
        places = torch.arange(first, first + features.numel(), device=features.device)
        positions = places.view_as(features)
        kept = hash32(positions + stream) >= int(self.probability * 2**32)
        return features * kept / (1 - self.probability)

    def extra_repr(self) -> str:
        """Show the probability in `print(model)`."""
        return f"p={self.probability}"
