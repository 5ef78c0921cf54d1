"""From a run's settings to its network."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from cifar_exp.errors import UserError, summarize
from cifar_exp.models.settings import CustomModel, Network

_CHECKED_IMAGES = 2


def build_model(
    config: Network, classes: int, seed: int, trusted: Collection[str] = ()
) -> nn.Module:
    """Build a network on the CPU, its weights drawn from a seed of their own.

    The same seed gives the same weights for every device, and PyTorch's global generator is as
    before afterwards.

    Args:
        config: which network, and its settings.
        classes: how many classes there are.
        seed: of the initial weights, in [0, 2**63).
        trusted: names of custom code that may be called. The settings of a run that is to
            be trained were checked when they were composed; those that are read from a file may be
            a stranger's, and name any code.

    Returns:
        The network, in training mode.

    Raises:
        UserError: the settings name other code, or the user's own does not work.
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
    """Find before a sweep what would end every run; a custom network is used once.

    Args:
        config: which network, and its settings.
        classes: how many classes there are.
        image_size: pixels a side.
        trusted: as in `build_model`.
        single: whether an epoch ends with a batch of one image.

    Returns:
        How many numbers its parameters and buffers hold.

    Raises:
        UserError: it cannot be built, cannot take such images, or gives no logit a class.
    """
    if isinstance(config, CustomModel):
        network = _used_once(config, classes, image_size, trusted)
        if single:
            _train_on_one(config, classes, image_size, trusted)
    else:
        if image_size < config.smallest_image:
            raise UserError(
                f"model: {config.name} takes images of {config.smallest_image} pixels a side or "
                f"more, got {image_size}; choose model=resnet18 or another"
            )
        with torch.device("meta"):  # where tensors have a shape and no memory
            network = build_model(config, classes, 0)
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _used_once(
    config: CustomModel, classes: int, image_size: int, trusted: Collection[str]
) -> nn.Module:
    """Train and test a custom network with two images. Returns: the network."""
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
    """Find whether BatchNorm, say, refuses a batch of one image."""
    with torch.random.fork_rng(devices=[]):
        network = build_model(config, classes, 0, trusted)
        try:
            network(torch.rand(1, 3, image_size, image_size))
        except Exception as error:
            raise UserError(
                f"model: {config.target} raises {summarize(error)} for one image, and the last "
                "batch of an epoch has one; choose another data.batch_size"
            ) from error


def _problem(network: nn.Module, images: Tensor, classes: int) -> str | None:
    """Use a network as training and testing do. Returns: what is wrong with what it gives."""
    expected = (len(images), classes)
    for training in (True, False):
        logits = network.train(training)(images)
        if not isinstance(logits, Tensor):
            return f"gives a {type(logits).__name__}: expected a tensor of logits"
        if logits.shape != expected or not logits.is_floating_point():
            return (
                f"gives {logits.dtype} of shape {tuple(logits.shape)} for {len(images)} images: "
                f"expected logits of shape {expected}"
            )
        if training:
            logits.float().logsumexp(1).sum().backward()  # type: ignore[no-untyped-call]
    return None


def _difference(network: nn.Module, again: nn.Module) -> str | None:
    if all(map(torch.equal, network.parameters(), again.parameters())):
        return None
    return "begins with other weights every time: expected random numbers from PyTorch alone"
