"""ResNet18 for small images, compared with known values."""

import pytest
import torch
from torch import nn

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.settings import Synthetic
from cifar_exp.data.sources import load
from cifar_exp.errors import UserError
from cifar_exp.models.build import build_model, check_model
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Sgd
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training


def resnet18(width: float = 1.0, classes: int = 10) -> nn.Module:
    return build_model(Model(name="resnet18", width=width), classes, seed=0)


@pytest.mark.parametrize(
    ("width", "classes", "expected"),
    [
        (1.0, 10, 11_173_962),  # as published, with a 3x3 stem and no pooling
        (1.0, 100, 11_220_132),  # 90 more classes with 512 weights and a bias each
        (0.25, 10, 701_466),  # counted for stages of 16, 32, 64 and 128 channels
    ],
)
def test_the_number_of_parameters(width: float, classes: int, expected: int) -> None:
    assert sum(p.numel() for p in resnet18(width, classes).parameters()) == expected


def test_images_are_halved_three_times_and_may_have_any_size() -> None:
    model = resnet18(width=0.125).eval()
    # 4x4, not 1x1 as with the stem for large images
    assert model.features(torch.rand(2, 3, 32, 32)).shape[2:] == (4, 4)
    for size in (8, 28, 47):
        assert model(torch.rand(2, 3, size, size)).shape == (2, 10)


def test_a_batch_of_one_image_needs_two_values_per_channel() -> None:
    config = Model(name="resnet18", width=1 / 64)
    with pytest.raises(UserError, match="one image of 8 pixels"):
        check_model(config, 10, 8, (), single=True)
    check_model(config, 10, 8, ())
    check_model(config, 10, 9, (), single=True)
    network = build_model(config, 10, seed=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.rand(1, 3, 8, 8))
    network(torch.rand(1, 3, 9, 9))


def test_a_block_without_a_residual_returns_its_input() -> None:
    block = resnet18(width=0.125).features[3].eval()
    nn.init.zeros_(block.residual[-1].weight)  # the last BatchNorm
    images = torch.rand(2, 8, 32, 32)
    assert torch.equal(block(images), images)


def test_it_learns_the_synthetic_images(tmp_path) -> None:
    data = Synthetic(train_size=500, test_size=100, augment="none", batch_size=16)
    config = RunConfig(
        data=data,
        model=Model(name="resnet18", width=0.0625),
        optimizer=Sgd(lr=0.1),
        training=Length(epochs=3),
    )
    dataset = load(data, tmp_path)
    compute = Compute(torch.device("cpu"), "fp32", threads=1)
    run = Training(config, DeviceImages(dataset, compute.device), dataset.classes, compute)
    list(run.run())
    assert run.history[-1]["train_loss"] < 1.9  # uniform guessing: 2.3
    assert run.history[-1]["test_accuracy"] > 0.2


def test_a_sliced_shortcut_equals_a_strided_convolution() -> None:
    block = resnet18(width=0.25).features[5].eval()
    nn.init.zeros_(block.residual[-1].weight)
    convolution, norm = block.shortcut
    images = torch.rand(2, 16, 9, 9)  # odd, so that the last pixel is kept
    strided = nn.functional.conv2d(images, convolution.weight, stride=2)
    torch.testing.assert_close(block(images), norm(strided).relu())
