"""Custom networks."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cifar_exp.custom_code import call
from cifar_exp.errors import UserError
from cifar_exp.sections import CustomCode


def build_custom(config: CustomCode, classes: int, trusted: Collection[str]) -> nn.Module:
    """Build a custom network by calling its class or function.

    Args:
        config: name of the class or function, and its arguments.
        classes: number of classes, passed as `num_classes`.
        trusted: names of custom code that may be called.

    Returns:
        The network. It receives contiguous images, so that `view` works.

    Raises:
        UserError: the name is not trusted, the call fails, or the result cannot be trained.
    """
    network = call("model", config, trusted, num_classes=classes)
    if problem := _problem(network):
        raise UserError(f"model: {config.target} {problem}")
    network.register_forward_pre_hook(_contiguous)
    return network  # type: ignore[no-any-return]


def _problem(network: Any) -> str | None:
    if not isinstance(network, nn.Module):
        return f"returns a {type(network).__name__}: expected a torch.nn.Module"
    if any(is_lazy(parameter) for parameter in network.parameters()):
        return "has lazy layers: expected layers with known sizes"
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "has no trainable parameters"
    if not all(isinstance(value, Tensor) for value in network.state_dict().values()):
        return "has a state_dict with extra state: expected parameters and buffers only"
    return None


def _contiguous(_network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(memory_format=torch.contiguous_format),)
