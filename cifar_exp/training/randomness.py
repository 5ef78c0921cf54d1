"""Random seeds derived from (seed, purpose, epoch), so that no generator state is saved."""

import hashlib

import torch


def derived_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed for one purpose in one epoch of a run.

    A sum of seed and epoch would give seed 0 in epoch 1 the same order as seed 1 in epoch 0.

    Args:
        seed: seed of the run.
        purpose: use of the random numbers, for example "weights", "order" or "dropout".
        epoch: epoch, counted from 1; 0 for purposes outside of epochs.

    Returns:
        A seed in [0, 2**63).
    """
    digest = hashlib.sha256(f"cifar-exp {seed} {purpose} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose in one epoch; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, epoch))
