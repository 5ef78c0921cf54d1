"""Convolutions compared with PyTorch's."""

import pytest
import torch
from torch import nn

from cifar_exp.models.layers import Convolution


# two sizes of VGG16 and one that is not square
@pytest.mark.parametrize("size", [(4, 4), (2, 2), (1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_wide_convolutions_of_small_images_and_their_gradients_equal_pytorchs(
    size: tuple[int, int], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, plain = Convolution(256, 24, bias=bias), nn.Conv2d(256, 24, 3, padding=1, bias=bias)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(5, 256, *size).contiguous(memory_format=torch.channels_last)
    results = []
    for layer in (plain, ours):
        pixels = images.clone().requires_grad_()
        layer.to(memory_format=torch.channels_last)
        convolved = layer(pixels)
        (convolved**2).mean().backward()
        gradients = [weight.grad for weight in layer.parameters()]
        results.append([convolved, pixels.grad, *gradients])
        # the second layer must not use PyTorch's convolution
        monkeypatch.setattr(nn.Conv2d, "forward", None)
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    assert convolved.is_contiguous(memory_format=torch.channels_last)


def test_wide_convolutions_with_a_stride_equal_pytorchs() -> None:
    ours, plain = Convolution(256, 24, stride=2), nn.Conv2d(256, 24, 3, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(2, 256, 4, 4)
    torch.testing.assert_close(ours(images), plain(images))
