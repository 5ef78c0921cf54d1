"""Building and checking of a run's network."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from cifar_exp.errors import UserError, summarize
from cifar_exp.models.settings import CustomModel, Network

_CHECKED_IMAGES = 2


def build_model(
    config: Network, classes: int, seed: int, trusted: Collection[str] = ()
) -> nn.Module:
    """Build a network on the CPU.

    The initial weights depend only on the seed, not on the device. PyTorch's global generator
    keeps its state.

    Args:
        config: settings of the network.
        classes: number of classes, at least 2.
        seed: seed of the initial weights, in [0, 2**63).
        trusted: names of custom code that may be called. Settings from a file could name any code.

    Returns:
        The network in training mode.

    Raises:
        UserError: the settings name code that is not trusted, or custom code fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(classes, trusted)


def check_model(
    config: Network,
    classes: int,
    image_size: int,
    trusted: Collection[str],
    single: bool = False,
) -> int:
    """Check that a network can be trained, before any run starts.

    A custom network takes one training step and one evaluation step.

    Args:
        config: settings of the network.
        classes: number of classes, at least 2.
        image_size: height and width of the images in pixels.
        trusted: names of custom code that may be called.
        single: whether the last batch of an epoch has one image.

    Returns:
        The number of elements of its parameters and buffers.

    Raises:
        UserError: the network cannot be built, fails for these images, or does not return one
            logit per class.
    """
    if isinstance(config, CustomModel):
        network = _try_custom(config, classes, image_size, trusted)
        if single:
            _train_on_one(config, classes, image_size, trusted)
    else:
        if image_size < config.smallest_image:
            raise UserError(
                f"model: {config.name} expects images of at least {config.smallest_image} pixels "
                f"in height and width, got {image_size}; use model=resnet18"
            )
        if single and image_size < config.smallest_image_alone:
            raise UserError(
                f"model: {config.name} cannot train on a batch of one image of {image_size} "
                "pixels, such as the last batch of each epoch; choose another data.batch_size"
            )
        with torch.device("meta"):  # without allocating memory
            network = build_model(config, classes, 0)
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _try_custom(
    config: CustomModel, classes: int, image_size: int, trusted: Collection[str]
) -> nn.Module:
    """Run a custom network on two images and return it."""
    with torch.random.fork_rng(devices=[]):
        network = build_model(config, classes, 0, trusted)
        images = torch.rand(_CHECKED_IMAGES, 3, image_size, image_size)
        try:
            problem = _problem(network, images, classes)
        except Exception as error:
            raise UserError(
                f"model: {config.target} raises {summarize(error)} for images of "
                f"{tuple(images.shape)}"
            ) from error
        problem = problem or _difference(network, build_model(config, classes, 0, trusted))
    if problem:
        raise UserError(f"model: {config.target} {problem}")
    return network


def _train_on_one(
    config: CustomModel, classes: int, image_size: int, trusted: Collection[str]
) -> None:
    """Check that a custom network accepts a batch of one image, which BatchNorm may not."""
    with torch.random.fork_rng(devices=[]):
        network = build_model(config, classes, 0, trusted)
        try:
            network(torch.rand(1, 3, image_size, image_size))
        except Exception as error:
            raise UserError(
                f"model: {config.target} raises {summarize(error)} for a batch of one image, "
                "such as the last batch of each epoch; choose another data.batch_size"
            ) from error


def _problem(network: nn.Module, images: Tensor, classes: int) -> str | None:
    """Run a network in training and evaluation mode, and return what is wrong with its output."""
    expected = (len(images), classes)
    for training in (True, False):
        logits = network.train(training)(images)
        if not isinstance(logits, Tensor):
            return f"returns a {type(logits).__name__}: expected a tensor of logits"
        if logits.shape != expected or not logits.is_floating_point():
            return (
                f"returns {logits.dtype} of shape {tuple(logits.shape)} for {len(images)} images: "
                f"expected logits of shape {expected}"
            )
        if training:
            logits.float().logsumexp(1).sum().backward()  # type: ignore[no-untyped-call]
    return None


def _difference(network: nn.Module, rebuilt: nn.Module) -> str | None:
    if all(map(torch.equal, network.parameters(), rebuilt.parameters())):
        return None
    return "has different initial weights each time: expected random numbers from PyTorch only"
