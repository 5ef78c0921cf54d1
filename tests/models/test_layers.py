"""The layers against PyTorch's own, where they take another way."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from cifar_exp.models.layers import BatchNorm, Convolution


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_narrow_layers_normalise_as_pytorch_does_and_so_do_their_gradients() -> None:
    # with several threads they are computed in another memory format
    ours, plain = BatchNorm(8), nn.BatchNorm2d(8)
    images = torch.rand(16, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    results = []
    for layer in (ours, plain):
        pixels = images.clone().requires_grad_()
        (layer(pixels) ** 3).mean().backward()
        results.append([pixels.grad, layer.weight.grad, layer.running_mean, layer.running_var])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    assert ours(images).is_contiguous(memory_format=torch.channels_last)


# of what VGG16 has: 512 channels of 4x4 pixels, 2x2 after the next pooling; and no square
@pytest.mark.parametrize("size", [(4, 4), (2, 2), (1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_wide_layers_convolve_small_images_as_pytorch_does_and_so_do_their_gradients(
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
        # from here on PyTorch's convolution is out of reach: ours is a product of its own
        monkeypatch.setattr(nn.Conv2d, "forward", None)
    for expected, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    assert convolved.is_contiguous(memory_format=torch.channels_last)


def test_wide_layers_with_a_stride_are_those_of_pytorch() -> None:
    ours, plain = Convolution(256, 24, stride=2), nn.Conv2d(256, 24, 3, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(2, 256, 4, 4)
    torch.testing.assert_close(ours(images), plain(images))
