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


def _streams(key: int, steps: int, device: torch.device | None = None) -> Tensor:
    """Return a number for each step of an epoch. Shape: `(steps,)`."""
    numbers = torch.arange(1, steps + 1, device=device)  # a copy to a GPU would wait
    return hash32(hash32(numbers) ^ (key & _LOW_32_BITS))


class Dropout(nn.Module):
    """Zero each feature with probability p while training, and scale the others by 1 / (1 - p).

    The mask comes from a hash of a key, which the training loop sets from (seed, epoch), a step
    counter and the position. So there is no generator to save, and a resumed run, a run on another
    device or one beside others draws the same masks.

    Args:
        probability: in [0, 1); 0 changes nothing.

    Source: Srivastava et al., 2014.
    """

    streams: Tensor
    step: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.first_image = 0  # its place in the batch, of which others may have the beginning
        # For a module whose user never calls `start_epoch`. Made on the CPU even where the network
        # is built on the meta device: integer operations there import PyTorch's compiler, 2 s.
        streams = _streams(0, 1000, torch.device("cpu"))
        self.register_buffer("streams", streams, persistent=False)
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64), persistent=False)
        self._indices: dict[tuple[int, torch.Size], Tensor] = {}

    def start_epoch(self, key: int, steps: int = 0, of: int = 1000) -> None:
        """Begin the masks of an epoch.

        Args:
            key: a seed derived from (seed, epoch).
            steps: of the epoch that have been done before, at least 0.
            of: steps of the epoch, at least 1. While it stays the same, so do the addresses that
                `forward` reads.
        """
        streams = _streams(key, of, self.step.device)
        if len(self.streams) == of:
            self.streams.copy_(streams)
        else:
            self.streams = streams
        self.step.fill_(steps % of)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the mask of the next step. Shape: `(N, F)` to `(N, F)`."""
        if not self.training or self.probability == 0:
            return features
        stream = self.streams.index_select(0, self.step)
        # round again after the last, since a warm-up may take more steps than an epoch has
        self.step.add_(1).remainder_(len(self.streams))
        kept = hash32(self._places_of(features) + stream) >= int(self.probability * 2**32)
        return features * kept / (1 - self.probability)

    def _places_of(self, features: Tensor) -> Tensor:
        """Return the place of each feature in the batch, made once for each shape."""
        key = self.first_image, features.shape
        indices = self._indices.get(key)
        if indices is None or indices.device != features.device:
            first = self.first_image * features.shape[1:].numel()
            indices = torch.arange(first, first + features.numel(), device=features.device)
            self._indices[key] = indices = indices.view(features.shape)
        return indices

    def extra_repr(self) -> str:
        """Show the probability in `print(model)`."""
        return f"p={self.probability}"
