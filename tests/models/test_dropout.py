"""Dropout: rate, independence and reproducibility of its masks."""

import numpy as np
import pytest
import torch

from cifar_exp.models.dropout import Dropout, hash32


def reference_hash(value: int) -> int:
    """Compute MurmurHash3's finalizer with Python's unbounded integers."""
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) % 2**32
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) % 2**32
    return value ^ (value >> 16)


def test_the_hash_equals_murmur3s_finalizer_despite_int64_overflow() -> None:
    values = [0, 1, 2, 12345, 2**31, 2**32 - 1]
    assert hash32(torch.tensor(values)).tolist() == [reference_hash(value) for value in values]


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_dropout_has_the_given_rate_and_keeps_the_mean(probability: float) -> None:
    dropout = Dropout(probability)
    dropout.start_epoch(1)
    features = dropout(torch.ones(1000, 1000))
    # a million samples: five standard deviations are 5 * sqrt(p (1 - p) / 1e6) < 0.0025
    assert (features == 0).double().mean().item() == pytest.approx(probability, abs=0.0025)
    assert features.double().mean().item() == pytest.approx(1, abs=0.02)


def test_neighbouring_steps_rows_and_columns_are_independent() -> None:
    dropout = Dropout(0.5)
    dropout.start_epoch(1)
    masks = np.stack([(dropout(torch.ones(64, 512)) > 0).numpy() for _ in range(20)]).astype(float)
    for axis in range(3):
        later, earlier = np.moveaxis(masks, axis, 0)[1:], np.moveaxis(masks, axis, 0)[:-1]
        correlation = np.corrcoef(later.ravel(), earlier.ravel())[0, 1]
        assert abs(correlation) < 0.008  # six standard deviations over 600,000 pairs


def test_masks_depend_on_the_epoch_and_the_step_only() -> None:
    dropout = Dropout(0.5)
    ones = torch.ones(8, 64)
    dropout.start_epoch(1)
    first, second = dropout(ones), dropout(ones)
    dropout.start_epoch(1)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)
    dropout.start_epoch(2)
    assert not torch.equal(dropout(ones), first)


def test_nothing_is_dropped_in_evaluation_or_with_probability_0() -> None:
    ones = torch.ones(8, 64)
    assert torch.equal(Dropout(0.5).eval()(ones), ones)
    assert torch.equal(Dropout(0.0)(ones), ones)


def test_masks_differ_between_steps_without_start_epoch() -> None:
    layer = Dropout(0.5)
    first, second = layer(torch.ones(2, 64)), layer(torch.ones(2, 64))
    assert not torch.equal(first, second)
