"""VGG compared with the article."""

import pytest
import torch
from torch import nn

from cifar_exp.models.build import build_model
from cifar_exp.models.settings import Model


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("vgg16", 1.0, 14_728_266),  # the article's network
        ("vgg16", 0.5, 3_686_954),
        ("vgg16", 0.25, 924_186),
        ("vgg16", 0.125, 232_274),
        # counted by hand: 9 C_in C_out + 3 C_out for each convolution, 5130 for the linear layer
        ("vgg11", 1.0, 9_231_114),
        ("vgg13", 1.0, 9_416_010),
        ("vgg19", 1.0, 20_040_522),
    ],
)
def test_the_number_of_parameters(name: str, width: float, expected: int) -> None:
    config = Model.model_validate({"name": name, "width": width})
    assert parameters(build_model(config, classes=10, seed=0)) == expected


def test_vgg16_has_the_layers_of_the_article() -> None:
    plan: list[int | str] = []
    for layer in build_model(Model(), classes=10, seed=0).features:
        if isinstance(layer, nn.Conv2d):
            assert (layer.kernel_size, layer.padding) == ((3, 3), (1, 1))
            assert layer.bias is not None
            plan.append(layer.out_channels)
        elif isinstance(layer, nn.MaxPool2d):
            plan.append("M")
    expected = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"
    assert " ".join(map(str, plan)) == expected


@pytest.mark.parametrize("size", [32, 48, 96])
def test_images_of_other_sizes_give_one_logit_per_class(size: int) -> None:
    model = build_model(Model(width=0.0625), classes=7, seed=0).eval()
    assert model(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_equal_seeds_give_equal_weights_without_changing_the_global_generator() -> None:
    torch.manual_seed(123)
    expected = torch.rand(1)
    torch.manual_seed(123)
    first, same, other = (build_model(Model(width=0.0625), 10, seed) for seed in (5, 5, 6))
    assert torch.rand(1) == expected
    weights = [next(model.parameters()) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
