"""Seeds derived from (seed, purpose, epoch)."""

import torch

from cifar_exp.training.randomness import derived_seed, generator


def test_derived_seeds_do_not_change_between_versions() -> None:
    # other values would change the results of all runs
    assert derived_seed(0, "weights") == 3696841058142308924
    assert derived_seed(0, "order", 1) == 4825314465884967479


def test_seeds_purposes_and_epochs_have_distinct_derived_seeds() -> None:
    # with seed + epoch, seed 0 in epoch 1 would have the order of seed 1 in epoch 0
    purposes = ("weights", "order", "augmentation", "dropout")
    seeds = {derived_seed(s, p, e) for s in range(20) for p in purposes for e in range(20)}
    assert len(seeds) == 20 * 4 * 20


def test_a_seed_fits_pytorchs_generator() -> None:
    assert all(0 <= derived_seed(2**63 - 1, "order", epoch) < 2**63 for epoch in range(50))
    first, second = (torch.randperm(9, generator=generator(3, "order", 2)) for _ in range(2))
    assert torch.equal(first, second)
