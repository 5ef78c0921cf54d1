"""Randomness is derived from (seed, purpose, epoch), so there is no state to save."""

import hashlib

import torch


def derived_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed in [0, 2**63) that two purposes, epochs or runs share only by accident.

    Adding the epoch to the seed instead would give run 0 in epoch 1 the order of run 1 in epoch 0.

    Args:
        seed: of the run.
        purpose: "weights", "order", "augmentation", "dropout" and others.
        epoch: counted from 1; 0 for what happens once.
    """
    digest = hashlib.sha256(f"cifar-exp {seed} {purpose} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose in one epoch; see `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, epoch))
