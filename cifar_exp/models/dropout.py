"""Dropout with masks that depend only on the seed and the step."""

import torch
from torch import Tensor, nn

_LOW_32_BITS = 0xFFFFFFFF


def hash32(value: Tensor) -> Tensor:
    """Mix integers so that every bit of the result depends on every bit of the input.

    Args:
        value: int64; only the low 32 bits are used.

    Returns:
        int64 in [0, 2**32), of the same shape, equal on all devices.

    Source: the finalizer of MurmurHash3, Austin Appleby.
    """
    value = value & _LOW_32_BITS
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _LOW_32_BITS
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _LOW_32_BITS
    return value ^ (value >> 16)


def _step_keys(key: int, steps: int, device: torch.device | None = None) -> Tensor:
    """Return a random number for each step of an epoch. Shape: `(steps,)`."""
    indices = torch.arange(1, steps + 1, device=device)  # created on the GPU to avoid a copy
    return hash32(hash32(indices) ^ (key & _LOW_32_BITS))


class Dropout(nn.Module):
    """Zeroes each feature with probability p in training mode; scales the others by 1 / (1 - p).

    The mask is a hash of a key, the step and the position of the feature. The training loop sets
    the key from (seed, epoch). Masks are therefore the same in a resumed run, on another device
    and among concurrent runs, and no generator state is saved. With `dropout_in_testing` the
    layer stays in training mode in evaluation, and the loop sets another key.

    Args:
        probability: dropout probability, in [0, 1).

    Source: Srivastava et al., 2014.
    """

    step_keys: Tensor
    step: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.first_image = 0  # index in the batch, which several processes may share
        # For use without `start_epoch`. On the CPU even if the network is built on the meta device,
        # where integer operations import PyTorch's compiler, which takes 2 s.
        step_keys = _step_keys(0, 1000, torch.device("cpu"))
        self.register_buffer("step_keys", step_keys, persistent=False)
        self.register_buffer("step", torch.zeros(1, dtype=torch.int64), persistent=False)
        self._indices: dict[tuple[int, torch.Size], Tensor] = {}

    def start_epoch(self, key: int, steps: int = 0, of: int = 1000) -> None:
        """Start the masks of the training or the evaluation of an epoch.

        Args:
            key: seed derived from (seed, epoch).
            steps: number of completed steps of the epoch, at least 0.
            of: number of steps of the epoch, at least 1. Tensors keep their addresses while it
                stays the same.
        """
        step_keys = _step_keys(key, of, self.step.device)
        if len(self.step_keys) == of:
            self.step_keys.copy_(step_keys)
        else:
            self.step_keys = step_keys
        self.step.fill_(steps % of)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the mask of the next step. Shape: `(N, F)` to `(N, F)`."""
        if not self.training or self.probability == 0:
            return features
        step_key = self.step_keys.index_select(0, self.step)
        # wraps around, since a warm-up may take more steps than an epoch has
        self.step.add_(1).remainder_(len(self.step_keys))
        kept = hash32(self._positions(features) + step_key) >= int(self.probability * 2**32)
        return features * kept / (1 - self.probability)

    def _positions(self, features: Tensor) -> Tensor:
        """Return the position of each feature in the batch, cached by shape."""
        key = self.first_image, features.shape
        indices = self._indices.get(key)
        if indices is None or indices.device != features.device:
            first = self.first_image * features.shape[1:].numel()
            indices = torch.arange(first, first + features.numel(), device=features.device)
            self._indices[key] = indices = indices.view(features.shape)
        return indices

    def extra_repr(self) -> str:
        """Return the probability for `print(model)`."""
        return f"p={self.probability}"
