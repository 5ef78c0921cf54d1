"""Networks of the user's own."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cifar_exp.custom_code import call
from cifar_exp.errors import UserError
from cifar_exp.sections import CustomCode


def build_custom(config: CustomCode, classes: int, trusted: Collection[str]) -> nn.Module:
    """Call what the settings name, with `num_classes` and the user's settings.

    Args:
        config: what to call, and with what.
        classes: how many classes there are.
        trusted: the names that may be called.

    Returns:
        The network; images reach it in PyTorch's usual memory format, in which `view` works.

    Raises:
        UserError: the name is not trusted, the call fails, or no network that can be trained here
            comes of it.
    """
    network = call("model", config, trusted, num_classes=classes)
    if problem := _problem(network):
        raise UserError(f"model: {config.target} {problem}")
    network.register_forward_pre_hook(_relaid)
    return network  # type: ignore[no-any-return]


def _problem(network: Any) -> str | None:
    if not isinstance(network, nn.Module):
        return f"gives a {type(network).__name__}: expected a torch.nn.Module"
    if any(is_lazy(weight) for weight in network.parameters()):
        return "has lazy layers: expected layers whose sizes are known when it is built"
    if not any(weight.requires_grad for weight in network.parameters()):
        return "has no weights to train"
    if not all(isinstance(value, Tensor) for value in network.state_dict().values()):
        return "keeps more than tensors in its state_dict: expected parameters and buffers alone"
    return None


def _relaid(_network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(memory_format=torch.contiguous_format),)
